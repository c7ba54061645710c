//! What is done with signing keys.

use rowhouse_auth_kit::{KeyId, PublicKey, SigningKey};
use rowhouse_config::secret::SecretKey;
use rowhouse_context::Ctx;
use serde_json::json;
use sqlx::PgConnection;

use super::store::SealedKey;
use super::{KeyState, KnownKey, PublishedKey, Reason, Schedule, Signer, key_id, store};
use crate::audit::{self, Entry};
use crate::error::Error;
use crate::master::{self, Purpose};
use crate::random;
use crate::rights::{self, Subject};
use crate::state::State;

/// The key that signs now, sealed; one is made where there is none yet. Of two processes that start at once, one inserts its
/// key and both use that one.
pub(super) async fn active_or_first(conn: &mut PgConnection, master: &SecretKey) -> Result<SealedKey, Error> {
    if let Some(active) = store::active(conn).await? {
        return Ok(active);
    }
    store::insert_active(conn, &make(master)?).await?;
    let made = store::active(conn).await?;
    made.ok_or_else(|| Error::fault("there is no signing key after one was made"))
}

/// Opens a key for signing.
pub(super) fn open(sealed: &SealedKey, master: &SecretKey, issuer: String) -> Result<Signer, Error> {
    let seed = master::sealer(master, Purpose::SigningKeys)?.open(sealed.id.as_str(), &sealed.sealed)?;
    let key = SigningKey::from_seed(&seed).map_err(Error::fault)?;
    if key_id(key.public()) != sealed.id.as_str() {
        return Err(Error::fault("a signing key does not fit its id"));
    }
    Ok(Signer::new(sealed.id, key, issuer))
}

/// A new key, sealed.
fn make(master: &SecretKey) -> Result<SealedKey, Error> {
    let seed = random::bytes().map_err(Error::fault)?;
    let public = SigningKey::from_seed(&seed).map_err(Error::fault)?.public();
    let id = key_id(public);
    Ok(SealedKey {
        sealed: master::sealer(master, Purpose::SigningKeys)?.seal(&id, &seed)?,
        public: public.bytes().to_vec(),
        id: id.parse().map_err(Error::fault)?,
    })
}

/// The keys that verify access tokens, the newest first.
pub(crate) async fn published(state: &State) -> Result<Vec<PublishedKey>, Error> {
    let rows = store::published(&mut *state.connection().await?).await?;
    rows.into_iter()
        .map(|(kid, key)| {
            let bytes = key
                .try_into()
                .map_err(|_| Error::fault("a public key is not 32 bytes"))?;
            Ok(PublishedKey {
                kid,
                key: PublicKey::from_bytes(bytes),
            })
        })
        .collect()
}

/// All keys, the newest first.
pub(crate) async fn list(_ctx: &Ctx, state: &State) -> Result<Vec<KnownKey>, Error> {
    store::all(&mut *state.connection().await?).await
}

/// Makes the next key, unless there is one already, and answers it.
pub(crate) async fn rotate(ctx: &Ctx, state: &State) -> Result<KnownKey, Error> {
    let schedule = state.signing.schedule;
    let new = make(&state.signing.master)?;
    let mut tx = state.begin().await?;
    store::lock(&mut tx).await?;
    if store::count_published(&mut tx).await? >= super::PUBLISHED_MAX {
        return Err(Error::TooManyKeys);
    }
    if store::insert_pending(&mut tx, &new, schedule.published).await? {
        let entry = Entry::new("signing_key.rotate", new.id);
        audit::record(&mut tx, ctx, entry).await?;
    }
    let next = store::pending(&mut tx).await?;
    let next = next.ok_or_else(|| Error::fault("there is no next signing key after one was made"))?;
    tx.commit().await?;
    // Where keys need not be published before they sign, it signs at once.
    move_on(state).await?;
    store::find(&mut *state.connection().await?, next)
        .await?
        .ok_or_else(|| unknown(next))
}

/// Makes worthless whatever a key has signed, and answers when no service honours it any more.
pub(crate) async fn revoke(ctx: &Ctx, state: &State, id: KeyId, reason: &Reason) -> Result<KnownKey, Error> {
    let next = make(&state.signing.master)?;
    let mut tx = state.begin().await?;
    store::lock(&mut tx).await?;
    let key = store::find(&mut tx, id).await?.ok_or_else(|| unknown(id))?;
    if key.state == KeyState::Revoked {
        tx.rollback().await?;
        // A repeated call finds its change made, and must not answer before the first one might have.
        state.clock.acknowledge_all(ctx).await?;
        return Ok(key);
    }
    store::revoke(&mut tx, id).await?;
    if key.state == KeyState::Active && !store::activate_pending(&mut tx).await? {
        store::insert_active(&mut tx, &next).await?;
    }
    let entry = Entry::new("signing_key.revoke", id)
        .before(json!({ "state": key.state.as_str() }))
        .after(json!({ "state": KeyState::Revoked.as_str(), "reason": reason.as_str() }));
    audit::record(&mut tx, ctx, entry).await?;
    let revoked = store::find(&mut tx, id).await?.ok_or_else(|| unknown(id))?;
    let version = rights::bump(&mut tx, &[Subject::SigningKey(id)]).await?;
    tx.commit().await?;
    state.clock.acknowledge(ctx, version).await?;
    Ok(revoked)
}

/// Moves keys on whose time has come: the next one signs, the one before verifies a while, those before it retire.
pub(super) async fn move_on(state: &State) -> Result<(), Error> {
    let mut tx = state.begin().await?;
    store::lock(&mut tx).await?;
    if store::is_due(&mut tx).await? {
        store::replace(&mut tx, super::HONOURED).await?;
        store::activate_pending(&mut tx).await?;
    }
    store::retire(&mut tx).await?;
    tx.commit().await?;
    Ok(())
}

/// Whether the key that signs is old enough to be replaced, and no next one waits.
pub(super) async fn is_old(state: &State, schedule: &Schedule) -> Result<bool, Error> {
    match schedule.replaced {
        Some(age) => store::is_older(&mut *state.connection().await?, age).await,
        None => Ok(false),
    }
}

fn unknown(id: KeyId) -> Error {
    Error::NotFound {
        kind: "signing key",
        id: id.to_string(),
    }
}

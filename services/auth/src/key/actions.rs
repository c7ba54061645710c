//! What is done with signing keys.

use rowhouse_auth_kit::{KeyId, PublicKey, SigningKey};
use rowhouse_context::Ctx;
use rowhouse_db::ControlDb;
use rowhouse_seal::Sealers;
use serde_json::json;
use sqlx::PgConnection;

use super::store::SealedKey;
use super::{KeyState, KnownKey, PublishedKey, Reason, Schedule, Signer, key_id, store};
use crate::audit::{self, Entry};
use crate::by_command;
use crate::error::Error;
use crate::master::Resealed;
use crate::random;
use crate::rights::{self, Clock, Subject};
use crate::state::State;

/// The key that signs now, sealed; one is made where there is none yet. Of two processes that start at once, one inserts its
/// key and both use that one.
pub(super) async fn active_or_first(conn: &mut PgConnection, sealers: &Sealers) -> Result<SealedKey, Error> {
    if let Some(active) = store::active(conn).await? {
        return Ok(active);
    }
    store::insert_active(conn, &make(sealers)?).await?;
    let made = store::active(conn).await?;
    made.ok_or_else(|| Error::fault("there is no signing key after one was made"))
}

/// Opens a key for signing.
pub(super) fn open(sealed: &SealedKey, sealers: &Sealers, issuer: String) -> Result<Signer, Error> {
    let seed = sealers.open(sealed.id.as_str(), &sealed.sealed)?;
    let key = SigningKey::from_seed(&seed).map_err(Error::fault)?;
    if key_id(key.public()) != sealed.id.as_str() {
        return Err(Error::fault("a signing key does not fit its id"));
    }
    Ok(Signer::new(sealed.id, key, issuer))
}

/// A new key, sealed.
fn make(sealers: &Sealers) -> Result<SealedKey, Error> {
    let seed = random::bytes().map_err(Error::fault)?;
    let public = SigningKey::from_seed(&seed).map_err(Error::fault)?.public();
    let id = key_id(public);
    Ok(SealedKey {
        sealed: sealers.seal(&id, &seed)?,
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
    let new = make(&state.signing.sealers)?;
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
    let next = make(&state.signing.sealers)?;
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
    audit::record(&mut tx, ctx, revoked(&key, reason)).await?;
    let key = store::find(&mut tx, id).await?.ok_or_else(|| unknown(id))?;
    let version = rights::bump(&mut tx, &[Subject::SigningKey(id)]).await?;
    tx.commit().await?;
    state.clock.acknowledge(ctx, version).await?;
    Ok(key)
}

/// Seals by the present master key the private halves that a previous one has sealed.
pub(crate) async fn reseal(conn: &mut PgConnection, sealers: &Sealers, resealed: &mut Resealed) -> Result<(), Error> {
    for key in store::all_sealed(conn).await? {
        let anew = sealers.reseal(key.id.as_str(), &key.sealed);
        if let Some(anew) = resealed.count(anew, || format!("signing key {}", key.id)) {
            store::reseal(conn, &key, &anew).await?;
        }
    }
    Ok(())
}

/// Makes worthless whatever any key has signed, without opening one, and begins anew with another; answers how many there were when
/// no service honours them any more. For when the master key is lost that would open them, or was somebody else's too.
pub(crate) async fn revoke_all(db: &ControlDb, sealers: &Sealers, reason: &Reason) -> Result<usize, Error> {
    let (ctx, next) = (by_command::ctx(), make(sealers)?);
    let mut tx = db.begin().await?;
    store::lock(&mut tx).await?;
    let honoured = store::in_use(&mut tx).await?;
    for key in &honoured {
        store::revoke(&mut tx, key.id).await?;
        audit::record(&mut tx, &ctx, revoked(key, reason)).await?;
    }
    store::insert_active(&mut tx, &next).await?;
    let subjects: Vec<Subject> = honoured.iter().map(|key| Subject::SigningKey(key.id)).collect();
    let version = rights::bump(&mut tx, &subjects).await?;
    tx.commit().await?;
    Clock::new(db.clone()).acknowledge(&ctx, version).await?;
    Ok(honoured.len())
}

fn revoked(key: &KnownKey, reason: &Reason) -> Entry {
    Entry::new("signing_key.revoke", key.id)
        .before(json!({ "state": key.state.as_str() }))
        .after(json!({ "state": KeyState::Revoked.as_str(), "reason": reason.as_str() }))
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

//! What is done with signing keys.

use rowhouse_auth_kit::{PublicKey, SigningKey};
use rowhouse_config::secret::SecretKey;
use sqlx::PgConnection;

use super::seal::Sealer;
use super::{PublishedKey, Signer, key_id, store};
use crate::error::Error;
use crate::random;
use crate::state::State;

/// The signer of this deployment; its key is made where there is none yet. Of two processes that start at once, one
/// inserts its key and both use that one.
pub(crate) async fn open_or_create(
    conn: &mut PgConnection,
    master: &SecretKey,
    issuer: String,
) -> Result<Signer, Error> {
    let sealer = Sealer::new(master)?;
    let (kid, sealed) = match store::active(conn).await? {
        Some(found) => found,
        None => {
            create(conn, &sealer).await?;
            let made = store::active(conn).await?;
            made.ok_or_else(|| Error::fault("there is no signing key after one was made"))?
        }
    };
    let key = SigningKey::from_seed(&sealer.open(&kid, &sealed)?).map_err(Error::fault)?;
    if key_id(key.public()) != kid {
        return Err(Error::fault("a signing key does not fit its id"));
    }
    Ok(Signer::new(key, issuer))
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

async fn create(conn: &mut PgConnection, sealer: &Sealer) -> Result<(), Error> {
    let seed = random::bytes().map_err(Error::fault)?;
    let public = SigningKey::from_seed(&seed).map_err(Error::fault)?.public();
    let kid = key_id(public);
    store::insert(conn, &kid, public.bytes(), &sealer.seal(&kid, &seed)?).await
}

//! What is sealed of tenants' own databases, when the master key is replaced: what an older key has sealed is sealed anew by the
//! present one. The passwords stay what they are, so that nobody is kept out meanwhile.

use rowhouse_seal::Error::Opening;
use rowhouse_types::{ServerName, TenantId};
use uuid::Uuid;

use crate::migrator::registry::databases;
use crate::migrator::{ProvisionError, Provisioner, house};

/// Passwords read at once.
const PAGE: i64 = 500;

/// What the present master key has sealed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resealed {
    /// Logins of tenants' own databases: of all that are in use.
    pub logins: usize,
    /// Of these, those whose password an older key had sealed until now.
    pub resealed: usize,
}

// === impl Provisioner ===

impl Provisioner {
    /// Seals by the present master key, on every server, what a previous one has sealed. What none of them opens stays as it is,
    /// and keeps no other from it.
    ///
    /// Where no process that seals by a previous key was left when it began, nothing needs that key once it has returned.
    ///
    /// # Errors
    /// [`ProvisionError::Unopened`] where none of the keys opens some; and when a server fails. What was done stays done.
    pub async fn reseal_logins(&self) -> Result<Resealed, ProvisionError> {
        let (mut done, mut unopened) = (Resealed::default(), Vec::new());
        for name in self.servers.keys() {
            let server: ServerName = name.parse().map_err(|_| ProvisionError::ServerUnknown(name.clone()))?;
            self.reseal_logins_of(&server, &mut done, &mut unopened).await?;
        }
        match unopened.first() {
            None => Ok(done),
            Some(first) => Err(ProvisionError::Unopened {
                count: unopened.len(),
                first: house::own_name(*first),
            }),
        }
    }

    async fn reseal_logins_of(
        &self,
        server: &ServerName,
        done: &mut Resealed,
        unopened: &mut Vec<TenantId>,
    ) -> Result<(), ProvisionError> {
        let mut after = Uuid::nil();
        loop {
            let mut main = self.pool(server)?.acquire().await?;
            let logins = databases::sealed_passwords(&mut main, self.participant, after, PAGE).await?;
            drop(main);
            let Some((last, _)) = logins.last() else {
                return Ok(());
            };
            after = last.uuid();
            for (tenant, sealed) in logins {
                match self.reseal_login(tenant, server, &sealed).await {
                    Ok(resealed) => {
                        done.logins += 1;
                        done.resealed += usize::from(resealed);
                    }
                    Err(ProvisionError::Seal(Opening)) => unopened.push(tenant),
                    Err(error) => return Err(error),
                }
            }
        }
    }

    /// False where the present key has sealed it already, or the database is gone or going.
    ///
    /// `seen`: what is sealed, as it was read without a lock.
    async fn reseal_login(&self, tenant: TenantId, server: &ServerName, seen: &[u8]) -> Result<bool, ProvisionError> {
        let name = house::own_name(tenant);
        if self.logins.is_present(&name, seen) {
            return Ok(false);
        }
        // The login may have been given another password since, whose place the older one must not take.
        let mut main = self.begin(server).await?;
        let Some(sealed) = databases::lock_sealed_password(&mut main, tenant).await? else {
            return Ok(false);
        };
        let password = self.logins.open(&name, &sealed)?;
        let resealed = self.logins.seal(&name, &password)?;
        databases::set_sealed_password(&mut main, tenant, &resealed).await?;
        main.commit().await?;
        Ok(true)
    }
}

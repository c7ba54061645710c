//! What is sealed of tenants' own databases, when the master key is replaced: what an older key has sealed is sealed anew by the
//! present one. The passwords stay what they are, so that nobody is kept out meanwhile.

use rowhouse_seal::Error::Opening;
use rowhouse_types::{ServerName, TenantId};
use uuid::Uuid;

use crate::migrator::provisioner::server_named;
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

/// What has come of a run so far.
#[derive(Default)]
struct Run {
    done: Resealed,
    unopened: usize,
    first_unopened: Option<TenantId>,
    /// The first failure that is not of the keys.
    failed: Option<ProvisionError>,
}

// === impl Provisioner ===

impl Provisioner {
    /// Seals by the present master key, on every server, what a previous one has sealed. What none of them opens stays as it is;
    /// neither that nor what fails keeps any other from it.
    ///
    /// Where no process that seals by a previous key was left when it began, nothing needs that key once it has returned.
    ///
    /// # Errors
    /// The first failure of a server or of one login; where there is none, [`ProvisionError::Unopened`] if none of the keys opens
    /// some, which is logged where both are so. What was done stays done.
    pub async fn reseal_logins(&self) -> Result<Resealed, ProvisionError> {
        self.reseal_logins_by(PAGE).await
    }

    /// `page`: passwords read at once.
    pub(crate) async fn reseal_logins_by(&self, page: i64) -> Result<Resealed, ProvisionError> {
        let mut run = Run::default();
        for name in self.servers.keys() {
            if let Err(error) = self.reseal_logins_of(name, page, &mut run).await {
                run.failed.get_or_insert(error);
            }
        }
        run.outcome()
    }

    /// Fails where the server cannot be asked for its logins.
    async fn reseal_logins_of(&self, name: &str, page: i64, run: &mut Run) -> Result<(), ProvisionError> {
        let server = server_named(name)?;
        let mut after = Uuid::nil();
        loop {
            let mut main = self.pool(&server)?.acquire().await?;
            let logins = databases::sealed_passwords(&mut main, self.participant, after, page).await?;
            drop(main);
            let Some((last, _)) = logins.last() else {
                return Ok(());
            };
            after = last.uuid();
            for (tenant, sealed) in logins {
                run.note(tenant, self.reseal_login(tenant, &server, &sealed).await);
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

// === impl Run ===

impl Run {
    fn note(&mut self, tenant: TenantId, resealed: Result<bool, ProvisionError>) {
        match resealed {
            Ok(resealed) => {
                self.done.logins += 1;
                self.done.resealed += usize::from(resealed);
            }
            Err(ProvisionError::Seal(Opening)) => {
                self.unopened += 1;
                self.first_unopened.get_or_insert(tenant);
            }
            Err(error) => {
                self.failed.get_or_insert(error);
            }
        }
    }

    fn outcome(self) -> Result<Resealed, ProvisionError> {
        let unopened = self.first_unopened.map(|first| ProvisionError::Unopened {
            count: self.unopened,
            first: house::own_name(first),
        });
        match (self.failed, unopened) {
            // One error is answered with. The other shall not come to light only once this one is mended.
            (Some(error), Some(unopened)) => {
                tracing::error!(error = %unopened, "not every password was sealed anew");
                Err(error)
            }
            (Some(error), None) | (None, Some(error)) => Err(error),
            (None, None) => Ok(self.done),
        }
    }
}

//! A tenant with a database of its own. The password of its login is made by one process and used by another, and nobody else is
//! told: it stands nowhere, but sealed. Its verifier stands in PostgreSQL's catalogue and in one table, for the pooler.

use anyhow::{Context as _, Result, anyhow, ensure};
use rowhouse_config::Secret;
use rowhouse_config::secret::SecretKey;
use rowhouse_db::testing::own_login;
use rowhouse_devkit::servers::Login;
use rowhouse_devkit::suite::{Process, Suite};
use rowhouse_devkit::{cluster, journey};
use rowhouse_proto::common::v1::Placement;

use super::watched::Watched;
use super::{NAME, PLANTED, database};
use crate::support::world::World;

/// Which key the suite seals such passwords with.
const MASTER_KEY: &str = "ROWHOUSE_DATA_MASTER_KEY";
/// Where the verifier belongs.
const POOLED_LOGINS: &str = "rowhouse.pooled_logins";
const VERIFIER: &str = "the verifier of a database's login";

pub(super) struct OwnDatabase {
    name: String,
    password: String,
}

impl OwnDatabase {
    /// A tenant who has entered its database; the login's secrets are watched from now on.
    pub(super) async fn begin(world: &World, watched: &mut Watched) -> Result<Self> {
        let (tenant, administrator) = world.tenant_in(Placement::Database, "vault").await?;
        let caller = administrator.caller.with("x-request-id", PLANTED)?;
        journey::create_contact(&caller, NAME, "canary.quetzal@vault.example").await?;
        let variables = world.suite.environment(Process::CrmProvision);
        let key = variables.into_iter().find(|(name, _)| name == MASTER_KEY);
        let (_, key) = key.context(MASTER_KEY)?;
        let key = SecretKey::from_base64(&key).context(MASTER_KEY)?;
        let main = Secret::new(world.suite.databases().data_url(Login::Owner));
        let login = own_login(&main, &key, tenant.id.parse()?).await;
        let (name, password) = login
            .map_err(|error| anyhow!(error))?
            .context("the database has no login of its own")?;
        let password = password.expose().to_owned();
        let superuser = cluster::connect(&world.suite.databases().data_superuser_url()).await?;
        let sql = "SELECT rolpassword FROM pg_authid WHERE rolname = $1";
        let verifier: String = superuser.query_one(sql, &[&name]).await?.get(0);
        watched.secret("the password of a database's login", password.clone());
        watched.secret(VERIFIER, verifier);
        Ok(Self { name, password })
    }

    /// What the database holds, but for the verifier where it belongs.
    pub(super) async fn text(&self, suite: &Suite) -> Result<String> {
        let url = suite.databases().servers().superuser_url(&self.name);
        database(&url, &[POOLED_LOGINS]).await
    }

    /// The control: what is looked for is what opens the database, and the search sees the verifier where it belongs.
    pub(super) async fn control(&self, suite: &Suite, watched: &Watched) -> Result<()> {
        let servers = suite.databases().servers();
        cluster::connect(&servers.url_of(&self.name, &self.password, &self.name))
            .await
            .context("another password opens the database")?;
        let all = database(&servers.superuser_url(&self.name), &[]).await?;
        let found = watched.found_in(&all);
        ensure!(
            found == [VERIFIER],
            "{found:?} in the own database, {POOLED_LOGINS} included"
        );
        Ok(())
    }
}

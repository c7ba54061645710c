//! pgbench, doing the transaction that an RPC does: enter, one statement, commit.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use rowhouse_config::Secret;
use rowhouse_config::secret::SecretKey;
use rowhouse_db::testing::own_login;
use rowhouse_devkit::resident::Resident;
use rowhouse_devkit::servers::Login;
use rowhouse_devkit::settings::Settings;
use rowhouse_devkit::{cluster, servers};
use rowhouse_proto::common::v1::Placement;
use rowhouse_types::{ContactId, TenantId};
use tokio::process::Command;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::tenants::Tenants;

/// pgbench's clients, over all databases.
const CLIENTS: usize = 16;
/// Threads of one pgbench.
const JOBS: usize = 2;

/// What an RPC reads of a contact.
const COLUMNS: &str =
    "id, display_name, email, phone, company, job_title, owner_id, revision, created_at, updated_at, deleted_at";

/// The reference for some tenants and a contact of each.
pub(super) struct Reference {
    databases: Vec<Database>,
    folder: PathBuf,
    seconds: u64,
}

/// A run of pgbench: it can do one database's alone.
struct Database {
    url: String,
    homes: Vec<Home>,
}

struct Home {
    tenant: Uuid,
    contact: Uuid,
}

impl Reference {
    /// Prepares the reference.
    pub(super) async fn new(resident: &Resident, tenants: &Tenants, duration: Duration) -> Result<Self> {
        let settings = resident.settings();
        let mut databases: Vec<Database> = Vec::new();
        for (tenant, member) in tenants.tenants.iter().zip(tenants.members.iter()) {
            let id = tenant.id.parse::<TenantId>()?;
            let contact = member.contacts.first().context("a contact")?;
            let home = Home {
                tenant: id.uuid(),
                contact: contact.parse::<ContactId>()?.uuid(),
            };
            let url = match tenant.placement() {
                Placement::Database => own_url(settings, id).await?,
                _ => settings.servers.pooled_url(cluster::DATA),
            };
            match databases.iter_mut().find(|database| database.url == url) {
                Some(database) => database.homes.push(home),
                None => databases.push(Database { url, homes: vec![home] }),
            }
        }
        let folder = resident.mail_folder().with_file_name("bench");
        fs::create_dir_all(&folder)?;
        Ok(Self {
            databases,
            folder,
            seconds: duration.as_secs(),
        })
    }

    /// Transactions a second of a point read: one by one, in one message.
    pub(super) async fn read(&self) -> Result<(f64, f64)> {
        let select = |home: &Home| {
            format!(
                "SELECT {COLUMNS} FROM contacts WHERE tenant_id = '{}' AND id = '{}' AND deleted_at IS NULL",
                home.tenant, home.contact
            )
        };
        self.both("read", "BEGIN READ ONLY", "read", select).await
    }

    /// Transactions a second of a page of so many rows, in the order that the RPC has where none is asked for.
    pub(super) async fn list(&self, rows: i32) -> Result<(f64, f64)> {
        let select = |home: &Home| {
            format!(
                "SELECT {COLUMNS} FROM contacts WHERE tenant_id = '{}' AND deleted_at IS NULL ORDER BY created_at DESC, id DESC LIMIT {}",
                home.tenant,
                // One more than the page tells whether there is another.
                rows + 1
            )
        };
        self.both("list", "BEGIN READ ONLY", "read", select).await
    }

    /// Transactions a second of a create with its audit and outbox row.
    pub(super) async fn write(&self) -> Result<(f64, f64)> {
        let insert = |home: &Home| {
            format!(
                "WITH created AS (INSERT INTO contacts (tenant_id, id, display_name, email, phone, company, job_title, owner_id, revision, \
             created_at, updated_at) VALUES ('{tenant}', gen_random_uuid(), 'Bench', 'bench@example.com', '', '', '', gen_random_uuid(), 1, now(), \
             now()) RETURNING *), audit AS (INSERT INTO audit_entries (tenant_id, id, at, actor, request_id, action, target, after, outcome) \
             SELECT '{tenant}', gen_random_uuid(), now(), 'user', 'bench', 'contacts:create', created.id, to_jsonb(created), 'succeeded' FROM created), \
             event AS (INSERT INTO rowhouse.outbox (tenant_id, id, kind, payload, request_id) SELECT '{tenant}', gen_random_uuid(), \
             'crm.contact_created.v1', jsonb_build_object('contact_id', created.id), 'bench' FROM created) SELECT id FROM created",
                tenant = home.tenant
            )
        };
        self.both("write", "BEGIN", "write", insert).await
    }

    async fn both(
        &self,
        name: &str,
        begin: &str,
        mode: &str,
        statement: impl Fn(&Home) -> String,
    ) -> Result<(f64, f64)> {
        let statements = |home: &Home| {
            let enter = format!(
                "SELECT rowhouse.enter('{}', 'crm', 1, '{mode}', 0, 2147483647, 60000)",
                home.tenant
            );
            [begin.to_owned(), enter, statement(home), "COMMIT".to_owned()]
        };
        let one_by_one = |home: &Home| format!("{};\n", statements(home).join(";\n"));
        let one_by_one = self.run(&format!("{name}-one-by-one"), one_by_one).await?;
        let one_message = |home: &Home| format!("{};\n", statements(home).join(" \\;\n"));
        let one_message = self.run(&format!("{name}-one-message"), one_message).await?;
        Ok((one_by_one, one_message))
    }

    /// All databases at once; each client goes from home to home by chance.
    async fn run(&self, name: &str, script: impl Fn(&Home) -> String) -> Result<f64> {
        let clients = (CLIENTS / self.databases.len().max(1)).max(1);
        let mut runs = JoinSet::new();
        for database in &self.databases {
            let mut command = Command::new(servers::pgbench()?);
            command
                .args(["--no-vacuum", "--client", &clients.to_string(), "--jobs"])
                .arg(JOBS.min(clients).to_string())
                .args(["--time", &self.seconds.to_string()]);
            for home in &database.homes {
                let file = self.folder.join(format!("{name}-{}.sql", home.tenant.simple()));
                fs::write(&file, script(home))?;
                command.arg("--file").arg(&file);
            }
            command.arg(&database.url);
            let name = name.to_owned();
            runs.spawn(async move { per_second(command).await.with_context(|| format!("pgbench {name}")) });
        }
        let mut sum = 0.0;
        while let Some(run) = runs.join_next().await {
            sum += run??;
        }
        Ok(sum)
    }
}

/// What pgbench counted.
async fn per_second(mut command: Command) -> Result<f64> {
    let output = command.output().await?;
    let printed = String::from_utf8_lossy(&output.stdout);
    let tps = printed
        .lines()
        .find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
    match tps {
        Some(tps) if output.status.success() => Ok(tps),
        _ => bail!("{}", String::from_utf8_lossy(&output.stderr)),
    }
}

/// The tenant's own database through PgBouncer, by the login that it has.
async fn own_url(settings: &Settings, tenant: TenantId) -> Result<String> {
    let main = Secret::new(settings.servers.login_url(Login::Owner, cluster::DATA));
    let master_key = SecretKey::from_base64(settings.data_master_key()).context("a key is 32 bytes of base64")?;
    let login = own_login(&main, &master_key, tenant)
        .await
        .map_err(|error| anyhow!(error))?;
    let (name, password) = login.context("the tenant's database has no login of its own")?;
    Ok(settings.servers.pooled_url_of(&name, password.expose(), &name))
}

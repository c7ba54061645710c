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
use rowhouse_proto::tenant::v1::Tenant;
use rowhouse_types::{ContactId, TenantId};
use tokio::process::Command;
use uuid::Uuid;

/// pgbench's clients.
const CLIENTS: &str = "16";

/// What an RPC reads of a contact.
const COLUMNS: &str =
    "id, display_name, email, phone, company, job_title, owner_id, revision, created_at, updated_at, deleted_at";

/// The reference for one tenant and one contact of it.
pub(super) struct Reference {
    url: String,
    folder: PathBuf,
    tenant: Uuid,
    contact: Uuid,
    seconds: u64,
}

impl Reference {
    /// Prepares the reference.
    pub(super) async fn new(resident: &Resident, tenant: &Tenant, contact: &str, duration: Duration) -> Result<Self> {
        let settings = resident.settings();
        let id = tenant.id.parse::<TenantId>()?.uuid();
        let url = match tenant.placement() {
            Placement::Database => own_url(settings, TenantId::from_uuid(id)).await?,
            _ => settings.servers.pooled_url(cluster::DATA),
        };
        let folder = resident.mail_folder().with_file_name("bench");
        fs::create_dir_all(&folder)?;
        Ok(Self {
            url,
            folder,
            tenant: id,
            contact: contact.parse::<ContactId>()?.uuid(),
            seconds: duration.as_secs(),
        })
    }

    /// Transactions a second of a point read: one by one, in one message.
    pub(super) async fn read(&self) -> Result<(f64, f64)> {
        let select = format!(
            "SELECT {COLUMNS} FROM contacts WHERE tenant_id = '{}' AND id = '{}' AND deleted_at IS NULL",
            self.tenant, self.contact
        );
        self.both("read", "BEGIN READ ONLY", "read", &select).await
    }

    /// Transactions a second of a page of so many rows.
    pub(super) async fn list(&self, rows: i32) -> Result<(f64, f64)> {
        let select = format!(
            "SELECT {COLUMNS} FROM contacts WHERE tenant_id = '{}' AND id > '{}' AND deleted_at IS NULL ORDER BY id LIMIT {}",
            self.tenant,
            Uuid::nil(),
            // One more than the page tells whether there is another.
            rows + 1
        );
        self.both("list", "BEGIN READ ONLY", "read", &select).await
    }

    /// Transactions a second of a create with its audit and outbox row.
    pub(super) async fn write(&self) -> Result<(f64, f64)> {
        let insert = format!(
            "WITH created AS (INSERT INTO contacts (tenant_id, id, display_name, email, phone, company, job_title, owner_id, revision, \
             created_at, updated_at) VALUES ('{tenant}', gen_random_uuid(), 'Bench', 'bench@example.com', '', '', '', gen_random_uuid(), 1, now(), \
             now()) RETURNING *), audit AS (INSERT INTO audit_entries (tenant_id, id, at, actor, request_id, action, target, after, outcome) \
             SELECT '{tenant}', gen_random_uuid(), now(), 'user', 'bench', 'contacts:create', created.id, to_jsonb(created), 'succeeded' FROM created), \
             event AS (INSERT INTO rowhouse.outbox (tenant_id, id, kind, payload, request_id) SELECT '{tenant}', gen_random_uuid(), \
             'crm.contact_created.v1', jsonb_build_object('contact_id', created.id), 'bench' FROM created) SELECT id FROM created",
            tenant = self.tenant
        );
        self.both("write", "BEGIN", "write", &insert).await
    }

    async fn both(&self, name: &str, begin: &str, mode: &str, statement: &str) -> Result<(f64, f64)> {
        let enter = format!(
            "SELECT rowhouse.enter('{}', 'crm', 1, '{mode}', 0, 2147483647, 60000)",
            self.tenant
        );
        let statements = [begin, &enter, statement, "COMMIT"];
        let one_by_one = self
            .run(&format!("{name}-one-by-one"), &format!("{};\n", statements.join(";\n")))
            .await?;
        let one_message = self
            .run(
                &format!("{name}-one-message"),
                &format!("{};\n", statements.join(" \\;\n")),
            )
            .await?;
        Ok((one_by_one, one_message))
    }

    async fn run(&self, name: &str, script: &str) -> Result<f64> {
        let file = self.folder.join(format!("{name}.sql"));
        fs::write(&file, script)?;
        let mut command = Command::new(servers::pgbench()?);
        command
            .args(["--no-vacuum", "--client", CLIENTS, "--jobs", "2", "--time"])
            .arg(self.seconds.to_string());
        let output = command
            .arg("--file")
            .arg(&file)
            .arg(&self.url)
            .output()
            .await
            .context("pgbench")?;
        let printed = String::from_utf8_lossy(&output.stdout);
        let tps = printed
            .lines()
            .find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
        match tps {
            Some(tps) if output.status.success() => Ok(tps),
            _ => bail!("pgbench {name}: {}", String::from_utf8_lossy(&output.stderr)),
        }
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

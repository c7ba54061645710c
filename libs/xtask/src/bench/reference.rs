//! pgbench, doing the transaction that an RPC does: enter, one statement, commit.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rowhouse_devkit::resident::Resident;
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
    pub(super) fn new(resident: &Resident, tenant: &Tenant, contact: &str, duration: Duration) -> Result<Self> {
        let settings = resident.settings();
        let id = tenant.id.parse::<TenantId>()?.uuid();
        let own = format!("t_{}", id.simple());
        let database = match tenant.placement() {
            Placement::Database => own.as_str(),
            _ => cluster::DATA,
        };
        let folder = resident.mail_folder().with_file_name("bench");
        fs::create_dir_all(&folder)?;
        Ok(Self {
            url: settings.servers.pooled_url(database),
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

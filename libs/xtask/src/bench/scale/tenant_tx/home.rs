//! The homes that are read.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use rowhouse_config::Secret;
use rowhouse_context::{Ctx, Principal, RequestId, ServiceName};
use rowhouse_db::testing::{self, StaticDirectory};
use rowhouse_db::{
    Error, FromRow, MasterKeys, Migration, Provisioner, Row, Statement, TenantMigrations, Type, migrate_platform,
};
use rowhouse_devkit::servers::{Login, Servers};
use rowhouse_devkit::settings::DATA_SERVER;
use rowhouse_types::TenantId;
use uuid::Uuid;

use crate::bench::homes::{self, plant};

/// Longer than any call takes.
const DEADLINE: Duration = Duration::from_secs(60);

/// Four tables, as many as a small entity has; one is read.
const MIGRATIONS: TenantMigrations = TenantMigrations::new(&[Migration {
    version: 1,
    name: "scale",
    sql: "
        CREATE TABLE notes (
            tenant_id uuid NOT NULL, id uuid NOT NULL, body text NOT NULL, created_at timestamptz NOT NULL,
            CONSTRAINT notes_pkey PRIMARY KEY (tenant_id, id)
        );
        CREATE INDEX notes_created_at_idx ON notes (tenant_id, created_at, id);
        CREATE TABLE more_1 (tenant_id uuid NOT NULL, id uuid NOT NULL, CONSTRAINT more_1_pkey PRIMARY KEY (tenant_id, id));
        CREATE TABLE more_2 (tenant_id uuid NOT NULL, id uuid NOT NULL, CONSTRAINT more_2_pkey PRIMARY KEY (tenant_id, id));
        CREATE TABLE more_3 (tenant_id uuid NOT NULL, id uuid NOT NULL, CONSTRAINT more_3_pkey PRIMARY KEY (tenant_id, id));
        GRANT SELECT, INSERT ON notes, more_1, more_2, more_3 TO rowhouse_tenant;",
    deferred: &[],
}]);

/// A note's text.
pub(super) struct Body;

impl FromRow for Body {
    const COLUMNS: &'static [(&'static str, Type)] = &[("body", Type::TEXT)];

    fn from_row(row: &Row) -> Result<Self, Error> {
        row.get::<String>("body").map(|_| Self)
    }
}

pub(super) const GET: Statement<Body> = Statement::new(
    "note.get",
    "SELECT body FROM notes WHERE tenant_id = $1 AND id = $2",
    &[Type::UUID],
);
/// A read that takes its time without taking the processor.
pub(super) const GET_SLOWLY: Statement<Body> = Statement::new(
    "note.get_slowly",
    "SELECT body FROM notes, pg_sleep(0.1) WHERE tenant_id = $1 AND id = $2",
    &[Type::UUID],
);

/// Homes, each with one note that has the tenant's number.
pub(super) struct Homes {
    pub(super) directory: Arc<StaticDirectory>,
    pub(super) tenants: Arc<[TenantId]>,
}

/// No home here is in a database of its own, so it seals nothing.
pub(super) fn master_keys() -> MasterKeys {
    testing::master_keys(b'A', b"")
}

// === impl Homes ===

impl Homes {
    pub(super) async fn build(servers: &Servers, database: &str, count: usize) -> Result<Self> {
        let begun = Instant::now();
        let owner = Secret::new(servers.login_url(Login::Owner, database));
        migrate_platform(&owner).await?;
        let urls = BTreeMap::from([(DATA_SERVER.to_owned(), owner)]);
        let provisioner = Provisioner::connect(ServiceName::Crm, &urls, MIGRATIONS, &master_keys()).await?;
        let directory = Arc::new(StaticDirectory::default());
        let tenants: Arc<[TenantId]> = (0..count).map(|_| TenantId::generate()).collect();
        for home in homes::provision(&provisioner, &tenants).await? {
            directory.put(home);
        }
        plant(&servers.superuser_url(database), &tenants, |tenant| {
            let number = note(tenant);
            let home = number.simple();
            format!("INSERT INTO t_{home}.notes VALUES ('{number}', '{number}', 'a note', now())")
        })
        .await?;
        println!("built {count} homes in {:.0} s", begun.elapsed().as_secs_f64());
        Ok(Self { directory, tenants })
    }
}

pub(super) fn ctx(tenant: TenantId) -> Ctx {
    let principal = Principal::Service { name: ServiceName::Crm };
    let deadline = tokio::time::Instant::now() + DEADLINE;
    Ctx::new(RequestId::generate(), principal, Some(tenant), deadline)
}

/// The id of the tenant's note.
pub(super) fn note(tenant: TenantId) -> Uuid {
    tenant.uuid()
}

//! What a test owns: a data database, a provisioner, a directory, and `TenantDb` through PgBouncer.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use rowhouse_config::Secret;
use rowhouse_context::{Ctx, Principal, RequestId, ServiceName};
use rowhouse_db::testing::{StaticDirectory, master_keys, own_login};
use rowhouse_db::{
    Error, Home, Lanes, MasterKeys, Mode, OwnDatabases, Provisioner, TenantDb, TenantDbConfig, TenantMigrations,
};
use rowhouse_devkit::cluster::{self, Kind};
use rowhouse_devkit::fixture::Databases;
use rowhouse_devkit::servers::Login;
use rowhouse_types::{OperationId, Placement, ServerName, TenantId};
use tokio::time::Instant;
use uuid::Uuid;

use crate::notes::{INSERT, LIST, NEWEST, Note};

/// Longer than anything here takes; what does not end by itself fails by it.
pub(crate) const LONG: Duration = Duration::from_secs(20);

pub(crate) struct Bench {
    pub(crate) provisioner: Provisioner,
    pub(crate) directory: Arc<StaticDirectory>,
    pub(crate) db: TenantDb,
    pub(crate) databases: Databases,
}

impl Bench {
    /// A database with the schema `rowhouse` and no home; `TenantDb` has `connections`.
    pub(crate) async fn start(name: &str, connections: u32) -> Self {
        let databases = Databases::create_only(Kind::Data, name).await.unwrap();
        let directory = Arc::new(StaticDirectory::default());
        let db = connect(&databases, &directory, connections, 1..=2).await;
        Self {
            provisioner: provisioner(&databases, NEWEST).await,
            directory,
            db,
            databases,
        }
    }

    pub(crate) async fn serving(&self, versions: RangeInclusive<i32>) -> TenantDb {
        connect(&self.databases, &self.directory, 2, versions).await
    }

    pub(crate) async fn freeze(&self, tenant: TenantId) {
        let frozen = self
            .provisioner
            .freeze(tenant, &server(), OperationId::generate())
            .await;
        frozen.unwrap();
    }

    /// A tenant with a home of its own that the directory knows.
    pub(crate) async fn tenant(&self) -> TenantId {
        self.tenant_in(Placement::Schema).await
    }

    pub(crate) async fn tenant_in(&self, placement: Placement) -> TenantId {
        let tenant = TenantId::generate();
        self.directory.put(self.prepare_in(tenant, placement).await);
        tenant
    }

    pub(crate) async fn prepare(&self, tenant: TenantId) -> Home {
        self.prepare_in(tenant, Placement::Schema).await
    }

    pub(crate) async fn prepare_in(&self, tenant: TenantId, placement: Placement) -> Home {
        self.provisioner
            .prepare(tenant, &server(), placement, OperationId::generate())
            .await
            .unwrap()
    }

    /// What every tenant's reader sees.
    pub(crate) async fn list(&self, tenant: TenantId) -> Result<Vec<Note>, Error> {
        let mut tx = self.db.begin_single(&ctx(tenant, LONG), Mode::Read).await?;
        tx.fetch_all(&LIST, &[]).await
    }

    pub(crate) async fn insert(&self, tenant: TenantId, body: &str) -> Result<Note, Error> {
        let mut tx = self.db.begin_single(&ctx(tenant, LONG), Mode::Write).await?;
        tx.fetch_one(&INSERT, &[&Uuid::now_v7(), &body]).await
    }

    pub(crate) async fn superuser(&self) -> tokio_postgres::Client {
        cluster::connect(&self.databases.data_superuser_url()).await.unwrap()
    }

    /// A client of `rowhouse_app` on PgBouncer, to plant what a mistake would leave behind.
    pub(crate) async fn app(&self) -> tokio_postgres::Client {
        cluster::connect(&self.databases.data_pooled_url()).await.unwrap()
    }

    /// The same two for the tenant's own database, which has a login of its own.
    pub(crate) async fn superuser_of(&self, tenant: TenantId) -> tokio_postgres::Client {
        let url = self.databases.servers().superuser_url(&schema(tenant));
        cluster::connect(&url).await.unwrap()
    }

    pub(crate) async fn app_of(&self, tenant: TenantId) -> tokio_postgres::Client {
        let (name, password) = self.own_login(tenant).await;
        let url = self.databases.servers().pooled_url_of(&name, &password, &name);
        cluster::connect(&url).await.unwrap()
    }

    /// Name and password of that login.
    pub(crate) async fn own_login(&self, tenant: TenantId) -> (String, String) {
        let main = Secret::new(self.databases.data_url(Login::Owner));
        let login = own_login(&main, &master_keys(b'A', b"").present, tenant).await.unwrap();
        let (name, password) = login.expect("the database has a login of its own");
        (name, password.expose().to_owned())
    }

    /// Backends of the application's login that are inside a transaction, or run something.
    pub(crate) async fn busy_backends(&self, superuser: &tokio_postgres::Client) -> i64 {
        let row = superuser
            .query_one(
                "SELECT count(*) FROM pg_stat_activity
                 WHERE usename IN ('rowhouse_app', datname) AND datname = current_database() AND state <> 'idle'",
                &[],
            )
            .await
            .unwrap();
        row.get(0)
    }

    /// Waits until no backend of the application is inside a transaction.
    pub(crate) async fn until_idle(&self, superuser: &tokio_postgres::Client) {
        until(|| async { self.busy_backends(superuser).await == 0 }).await;
    }
}

pub(crate) async fn provisioner(databases: &Databases, migrations: TenantMigrations) -> Provisioner {
    provisioner_with(databases, migrations, &master_keys(b'A', b"")).await
}

pub(crate) async fn provisioner_with(
    databases: &Databases,
    migrations: TenantMigrations,
    master_keys: &MasterKeys,
) -> Provisioner {
    provisioner_at(databases.data_url(Login::Owner), migrations, master_keys).await
}

/// `url`: the owner's, of any data server.
pub(crate) async fn provisioner_at(url: String, migrations: TenantMigrations, master_keys: &MasterKeys) -> Provisioner {
    let urls = BTreeMap::from([("data1".to_owned(), Secret::new(url))]);
    Provisioner::connect(ServiceName::Crm, &urls, migrations, master_keys)
        .await
        .unwrap()
}

async fn connect(
    databases: &Databases,
    directory: &Arc<StaticDirectory>,
    connections: u32,
    versions: RangeInclusive<i32>,
) -> TenantDb {
    let config = TenantDbConfig {
        pool_size_max: connections,
        versions,
        ..config(databases.data_pooled_url(), Lanes::OFF)
    };
    TenantDb::connect(config, directory.clone()).await.unwrap()
}

pub(crate) fn config(url: String, lanes: Lanes) -> TenantDbConfig {
    TenantDbConfig {
        participant: ServiceName::Crm,
        urls: BTreeMap::from([("data1".to_owned(), Secret::new(url))]),
        pool_size_max: 1,
        lanes,
        own_databases: OwnDatabases::default(),
        master_keys: master_keys(b'A', b""),
        versions: 1..=2,
    }
}

pub(crate) fn server() -> ServerName {
    "data1".parse().unwrap()
}

pub(crate) fn ctx(tenant: TenantId, left: Duration) -> Ctx {
    let principal = Principal::Service { name: ServiceName::Crm };
    Ctx::new(RequestId::generate(), principal, Some(tenant), Instant::now() + left)
}

pub(crate) fn schema(tenant: TenantId) -> String {
    format!("t_{}", tenant.uuid().simple())
}

/// The schema in which the registry says that a tenant lives.
pub(crate) async fn schema_of(superuser: &tokio_postgres::Client, tenant: TenantId) -> String {
    let sql = "SELECT schema_name FROM rowhouse.homes JOIN rowhouse.houses USING (house_id) WHERE tenant_id = $1";
    superuser.query_one(sql, &[&tenant.uuid()]).await.unwrap().get(0)
}

/// Until when there is time enough.
pub(crate) fn in_time() -> Instant {
    Instant::now() + LONG
}

/// Waits for a condition that comes true soon.
pub(crate) async fn until<F: Future<Output = bool>>(condition: impl Fn() -> F) {
    let waiting = async {
        while !condition().await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, waiting)
        .await
        .expect("the condition never came true");
}

/// Replaces a part of `rowhouse.enter`: for controls, which show what a test would see without the guard.
pub(crate) async fn mutate(bench: &Bench, part: &str, by: &str) {
    mutate_function(bench, "rowhouse.enter", part, by).await;
}

pub(crate) async fn mutate_function(bench: &Bench, function: &str, part: &str, by: &str) {
    let superuser = bench.superuser().await;
    let sql = format!("SELECT pg_get_functiondef('{function}'::regproc)");
    let row = superuser.query_one(&sql, &[]).await.unwrap();
    let definition: String = row.get(0);
    assert!(definition.contains(part), "nothing to mutate: {part}");
    superuser.batch_execute(&definition.replace(part, by)).await.unwrap();
}

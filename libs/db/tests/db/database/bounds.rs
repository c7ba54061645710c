//! How much of a server tenants' own databases may take: so much that their neighbours' lanes have theirs.

use std::sync::Arc;

use rowhouse_db::testing::{StaticDirectory, master_keys};
use rowhouse_db::{Lanes, OwnDatabases, TenantDb, TenantDbConfig, TenantTx, migrate_platform};
use rowhouse_devkit::cluster::Kind;
use rowhouse_devkit::fixture::Databases;
use rowhouse_devkit::pooler::{Particulars, Pooler};
use rowhouse_devkit::servers::LanePools;
use rowhouse_devkit::settings::{DataServer, SECOND_DATA_SERVER};
use tokio::task::JoinSet;
use tokio_postgres::error::SqlState;

use super::logins::refusal;
use super::*;
use crate::bench::{config, provisioner_at};
use crate::lanes::{SHORT, list, open};
use crate::notes::{LIST, NEWEST};

/// Sessions of the small server that are left to superusers, of 300. The others have 45.
const RESERVED: u32 = 255;

/// What one process may have to own databases there: a quarter of it for those that have none.
const PLACES: u32 = 8;

/// What a busy tenant wants. Three of them want more than the small server has.
const WANTED: u32 = 16;

/// Refusals in a row after which the server is full and stays so: each takes some milliseconds, and the pooler, which has clients
/// waiting for every session that is left, tries twenty times a second.
const REFUSALS: usize = 100;

const LANES: Lanes = Lanes {
    count: 2,
    connections_per_lane_max: 4,
    server_connections_per_lane: 2,
    slots_per_tenant: 1,
    are_aliases: true,
};

/// A data server with few sessions: a tenant in a schema, and four in databases of their own.
struct Small {
    data: DataServer,
    directory: Arc<StaticDirectory>,
    neighbour: TenantId,
    own: Vec<TenantId>,
    superuser: Client,
    _databases: Databases,
}

// === impl Small ===

impl Small {
    async fn start(name: &str) -> Self {
        let mut databases = Databases::empty_only(Kind::Data, name).await.unwrap();
        databases.add_second_data().await.unwrap();
        let data = databases.data_server(SECOND_DATA_SERVER).unwrap();
        let owner = data.url(Login::Owner);
        migrate_platform(&Secret::new(owner.clone())).await.unwrap();
        let provisioner = provisioner_at(owner, NEWEST, &master_keys(b'A', b"")).await;
        let directory = Arc::new(StaticDirectory::default());
        let mut tenants = Vec::new();
        for placement in [Placement::Schema, DATABASE, DATABASE, DATABASE, DATABASE] {
            let (tenant, operation) = (TenantId::generate(), OperationId::generate());
            let prepared = provisioner.prepare(tenant, &server(), placement, operation).await;
            directory.put(prepared.unwrap());
            tenants.push(tenant);
        }
        provisioner.shutdown().await;
        let superuser = cluster::connect(&data.superuser_url()).await.unwrap();
        let reserve = format!("ALTER SYSTEM SET superuser_reserved_connections = {RESERVED}");
        superuser.batch_execute(&reserve).await.unwrap();
        let second = databases.second_server().unwrap();
        second.stop().await.unwrap();
        second.start().await.unwrap();
        Self {
            superuser: cluster::connect(&data.superuser_url()).await.unwrap(),
            data,
            directory,
            own: tenants.split_off(1),
            neighbour: tenants[0],
            _databases: databases,
        }
    }

    /// With as many server connections to each own database as a busy tenant wants. It tries again soon where it was refused one,
    /// so that a server that is full stays so.
    async fn pooler(&self) -> Pooler {
        let pools = LanePools {
            count: LANES.count,
            pool_size: LANES.server_connections_per_lane,
        };
        let particulars = Particulars {
            included: &["server_login_retry = 0.05\n".to_owned()],
            ..Particulars::default()
        };
        let DataServer { servers, database } = &self.data;
        Pooler::start_for(servers, database, pools, WANTED, &particulars)
            .await
            .unwrap()
    }

    async fn process(&self, pooler: &Pooler, server_connections_max: u32) -> TenantDb {
        let config = TenantDbConfig {
            own_databases: OwnDatabases {
                connections_max: WANTED,
                server_connections_max,
                ..OwnDatabases::default()
            },
            ..config(pooler.url().to_owned(), LANES)
        };
        TenantDb::connect(config, self.directory.clone()).await.unwrap()
    }

    /// Sessions of own databases' logins.
    async fn own_sessions(&self) -> i64 {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE usename = datname AND usename ~ '^t_[0-9a-f]{32}$'";
        count(&self.superuser, sql).await
    }

    /// Waits until nobody but a superuser gets in any more.
    async fn until_full(&self) {
        let url = self.data.url(Login::App);
        let filling = async {
            let mut refusals = 0;
            while refusals < REFUSALS {
                let is_refused = cluster::connect(&url).await.is_err();
                refusals = if is_refused { refusals + 1 } else { 0 };
            }
        };
        tokio::time::timeout(LONG, filling)
            .await
            .expect("the server never filled up");
    }
}

/// Every tenant begins as many transactions as it may have connections, and ends none of those that begin.
fn crowd(db: &TenantDb, tenants: &[TenantId]) -> JoinSet<Option<TenantTx>> {
    let mut crowd = JoinSet::new();
    for tenant in tenants.iter().copied() {
        for _ in 0..WANTED {
            let db = db.clone();
            crowd.spawn(async move {
                let mut tx = db.begin(&ctx(tenant, LONG), Mode::Read).await.ok()?;
                tx.fetch_all(&LIST, &[]).await.ok()?;
                Some(tx)
            });
        }
    }
    crowd
}

/// The control is the same without the bound: then the neighbour, whose lanes have no connection at the moment, gets none.
#[tokio::test]
async fn own_databases_at_their_bound_leave_the_lanes_their_connections() {
    let small = Small::start("own_bound").await;
    let pooler = small.pooler().await;
    let db = small.process(&pooler, PLACES).await;
    let busy = crowd(&db, &small.own[..1]);
    until(|| async { small.own_sessions().await == i64::from(PLACES - PLACES / 4) }).await;
    // One is enough to be served, and who is busy has left some.
    let others = (open(&db, small.own[1]).await, open(&db, small.own[2]).await);
    assert_eq!(small.own_sessions().await, i64::from(PLACES));
    assert_eq!(list(&db, small.own[3], SHORT).await, Err(Error::Busy));
    assert_eq!(list(&db, small.neighbour, LONG).await, Ok(0));
    assert_eq!(small.own_sessions().await, i64::from(PLACES));
    drop((busy, others));
    db.shutdown().await;
    drop(pooler);

    let pooler = small.pooler().await;
    let db = small.process(&pooler, 1_000).await;
    let busy = crowd(&db, &small.own[..3]);
    small.until_full().await;
    let refused = list(&db, small.neighbour, SHORT).await;
    assert!(
        matches!(refused, Err(Error::Unavailable(_) | Error::DeadlineExceeded)),
        "{refused:?}"
    );
    drop(busy);
    db.shutdown().await;
}

/// PostgreSQL's own bound, which holds against whoever has the password too.
#[tokio::test]
async fn a_login_has_no_more_sessions_than_its_bound() {
    let bench = Bench::start("login_bound", 1).await;
    let superuser = bench.superuser().await;
    let provisioner = bench.provisioner.clone().with_login_connections_max(2);
    let (tenant, operation) = (TenantId::generate(), OperationId::generate());
    provisioner
        .prepare(tenant, &server(), DATABASE, operation)
        .await
        .unwrap();
    let (name, password) = bench.own_login(tenant).await;
    let url = bench.databases.servers().url_of(&name, &password, &name);
    let (_one, _other) = (
        cluster::connect(&url).await.unwrap(),
        cluster::connect(&url).await.unwrap(),
    );
    assert_eq!(refusal(&url).await, Some(SqlState::TOO_MANY_CONNECTIONS));
    // The control.
    let unbound = format!("ALTER ROLE {name} CONNECTION LIMIT -1");
    superuser.batch_execute(&unbound).await.unwrap();
    assert_eq!(refusal(&url).await, None);
}

/// As older code has made them, or with another number.
#[tokio::test]
async fn logins_that_are_there_are_given_another_bound() {
    let bench = Bench::start("login_rebound", 1).await;
    let superuser = bench.superuser().await;
    let tenants = [bench.tenant_in(DATABASE).await, bench.tenant_in(DATABASE).await];
    let bounds = async || {
        let sql = "SELECT array_agg(rolconnlimit) FROM pg_roles JOIN rowhouse.databases ON rolname = database_name";
        let row = superuser.query_one(sql, &[]).await.unwrap();
        row.get::<_, Vec<i32>>(0)
    };
    let older = format!("ALTER ROLE {} CONNECTION LIMIT -1", schema(tenants[0]));
    superuser.batch_execute(&older).await.unwrap();
    let provisioner = bench.provisioner.clone().with_login_connections_max(3);
    assert_eq!(provisioner.bound_logins().await.unwrap(), 2);
    assert_eq!(bounds().await, [3, 3]);
    assert_eq!(provisioner.bound_logins().await.unwrap(), 0, "none has another");
    // One that has gone meanwhile is no fault, and keeps no other from it.
    crashes::remove(&superuser, tenants[0]).await;
    superuser
        .batch_execute(&format!("DROP ROLE {}", schema(tenants[0])))
        .await
        .unwrap();
    assert_eq!(bench.provisioner.bound_logins().await.unwrap(), 1);
}

/// The owner bounds logins of tenants' databases and no others, and no other login bounds any.
#[tokio::test]
async fn nobody_is_locked_out_by_what_bounds_logins() {
    let bench = Bench::start("login_unbound", 1).await;
    let tenant = bench.tenant_in(DATABASE).await;
    let servers = bench.databases.servers();
    let owner = cluster::connect(&servers.login_url(Login::Owner, "postgres"))
        .await
        .unwrap();
    let name = schema(tenant);
    for (login, most) in [
        ("rowhouse_app", 1_i32),
        ("postgres", 1),
        ("t_1", 1),
        (&name, 0),
        (&name, -1),
    ] {
        let bound = owner
            .execute("SELECT rowhouse_logins.bound($1, $2)", &[&login, &most])
            .await;
        let refused = bound.unwrap_err();
        assert_eq!(
            refused.code(),
            Some(&SqlState::INVALID_PARAMETER_VALUE),
            "{login} {most}"
        );
    }
    // The control.
    let bound = owner.execute("SELECT rowhouse_logins.bound($1, 1)", &[&name]).await;
    bound.unwrap();
}

//! What one test owns: a data database with the homes of two tenants, and the actions on it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rowhouse_auth_kit::Grants;
use rowhouse_cache::Cache;
use rowhouse_client::{LimitsClient, Rights, RightsError, RightsQuery, RightsSource, Standing};
use rowhouse_config::Secret;
use rowhouse_context::{Ctx, Principal, Reach, RequestId, ServiceName};
use rowhouse_db::paging::PageTokens;
use rowhouse_db::testing::{StaticDirectory, master_keys};
use rowhouse_db::{Home, Lanes, OwnDatabases, Provisioner, TenantDb, TenantDbConfig, TenantMigrations};
use rowhouse_devkit::cluster::Kind;
use rowhouse_devkit::fixture::Databases;
use rowhouse_devkit::servers::Login;
use rowhouse_mq::Wake;
use rowhouse_types::{IdempotencyKey, Limits, OperationId, Placement, ServerName, SessionId, TenantId, Text, UserId};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tokio::time::Instant;

use crate::contact::actions::{Contacts, NewContact};
use crate::contact::owner::Owners;
use crate::contact::{Details, OptionalEmail};
use crate::migrations::{self, MIGRATIONS};

/// The name under which the tests' data server is registered.
const SERVER: &str = "data1";

/// Every placement that a tenant can have.
pub(super) const PLACEMENTS: [Placement; 3] = [Placement::Schema, Placement::Shared, Placement::Database];

/// Two tenants' homes in a database of one test.
pub(in crate::contact) struct Bench {
    // Dropped in this order: what uses the databases, then they.
    pub(super) contacts: Contacts,
    pub(super) db: TenantDb,
    provisioner: Provisioner,
    pub(super) one: TenantId,
    pub(super) two: TenantId,
    placement: Placement,
    homes: Vec<Home>,
    pub(super) databases: Databases,
}

// === impl Bench ===

impl Bench {
    pub(super) async fn start(name: &str) -> Self {
        Self::start_in(name, Placement::Schema).await
    }

    /// As [`Bench::start`], in any placement.
    pub(super) async fn start_in(name: &str, placement: Placement) -> Self {
        // A test that fails says where.
        println!("{name}: {placement:?}");
        let databases = databases(name).await;
        let provisioner = provisioner(&databases, MIGRATIONS).await;
        let (one, two) = (TenantId::generate(), TenantId::generate());
        let mut homes = Vec::new();
        for tenant in [one, two] {
            let operation = OperationId::generate();
            let home = provisioner
                .prepare(tenant, &server(), placement, operation)
                .await
                .unwrap();
            homes.push(home);
        }
        let db = connect(&databases, homes.clone(), Lanes::OFF).await;
        let contacts = contacts(&db, Limits::default());
        Self {
            contacts,
            db,
            provisioner,
            one,
            two,
            placement,
            homes,
            databases,
        }
    }

    /// Tenants' data as who is told by the directory that a tenant's home has this version.
    pub(super) async fn at_version(&self, tenant: TenantId, version: i32) -> TenantDb {
        let mut homes = self.homes.clone();
        for home in homes.iter_mut().filter(|home| home.tenant == tenant) {
            home.version = version;
        }
        connect(&self.databases, homes, Lanes::OFF).await
    }

    /// Tenants' data and the actions on it, where each lane and the streams have one connection.
    pub(super) async fn in_lanes(&self) -> (TenantDb, Contacts) {
        let lanes = Lanes {
            count: 2,
            connections_per_lane_max: 1,
            server_connections_per_lane: 1,
            slots_per_tenant: 1,
            are_aliases: false,
        };
        let db = connect(&self.databases, self.homes.clone(), lanes).await;
        let contacts = contacts(&db, Limits::default());
        (db, contacts)
    }

    /// The actions, where every tenant's plan has these limits.
    pub(super) fn bounded(&self, limits: Limits) -> Contacts {
        contacts(&self.db, limits)
    }

    /// The context of a call by a new member of a tenant who reaches everybody's contacts.
    pub(super) fn ctx(&self, tenant: TenantId) -> Ctx {
        let principal = Principal::Member {
            user: UserId::generate(),
            session: SessionId::generate(),
            tenant,
        };
        let deadline = Instant::now() + Duration::from_secs(30);
        Ctx::new(RequestId::generate(), principal, Some(tenant), deadline)
            .with_reach(Reach::All)
            .with_origin(Some("because".to_owned()), Some("192.0.2.7".to_owned()))
    }

    /// Forbids reads and writes in a tenant's home.
    pub(super) async fn freeze(&self, tenant: TenantId) {
        self.provisioner
            .freeze(tenant, &server(), OperationId::generate())
            .await
            .unwrap();
    }

    /// Allows them again.
    pub(super) async fn thaw(&self, tenant: TenantId) {
        self.provisioner
            .thaw(tenant, &server(), OperationId::generate())
            .await
            .unwrap();
    }

    /// Forgets calls that were answered more than a day ago, as the process `provision` does; answers how many.
    pub(super) async fn forget(&self) -> u64 {
        self.provisioner.forget(&crate::request::FORGET).await.unwrap()
    }

    /// How many calls of a tenant are remembered.
    pub(super) async fn requests(&self, tenant: TenantId) -> i64 {
        let own = format!("requests WHERE tenant_id = '{}'", tenant.uuid());
        self.count(tenant, &own).await
    }

    /// Has the time of some of them be over since `ago`, an interval of PostgreSQL.
    pub(super) async fn expire_requests(&self, tenant: TenantId, limit: i64, ago: &str) {
        let id = tenant.uuid();
        let sql = format!(
            "UPDATE requests SET expires_at = now() - interval '{ago}'
             WHERE tenant_id = '{id}' AND request_id IN
                 (SELECT request_id FROM requests WHERE tenant_id = '{id}' LIMIT {limit})"
        );
        self.execute(tenant, &sql).await;
    }

    /// Bounds each statement in a tenant's home from now on, as a plan does.
    pub(super) async fn bound_statements(&self, tenant: TenantId, timeout_ms: i32) {
        self.provisioner
            .set_limits(tenant, &server(), OperationId::generate(), Some(timeout_ms))
            .await
            .unwrap();
    }

    /// One text, read by a superuser with the tenant's home as search path.
    pub(super) async fn text(&self, tenant: TenantId, sql: &'static str) -> String {
        let mut connection = self.superuser(tenant).await;
        sqlx::query_scalar(sql).fetch_one(&mut connection).await.unwrap()
    }

    /// How many rows a table has.
    pub(super) async fn count(&self, tenant: TenantId, table: &str) -> i64 {
        let mut connection = self.superuser(tenant).await;
        let sql = format!("SELECT count(*) FROM {table}");
        sqlx::query_scalar(AssertSqlSafe(sql))
            .fetch_one(&mut connection)
            .await
            .unwrap()
    }

    /// Runs a statement as a superuser with the tenant's home as search path.
    pub(super) async fn execute(&self, tenant: TenantId, sql: &str) {
        let mut connection = self.superuser(tenant).await;
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
            .execute(&mut connection)
            .await
            .unwrap();
    }

    /// Runs statements in every tenant's home as its owner does, in each house once.
    pub(super) async fn as_owner(&self, sql: &'static str) {
        let mut houses = std::collections::BTreeSet::new();
        for tenant in [self.one, self.two] {
            let url = self.superuser_url(tenant);
            let mut connection = PgConnection::connect(&url).await.unwrap();
            let house = house_of(&mut connection, tenant).await;
            if houses.insert((url, house.clone())) {
                let sql = format!("SET ROLE rowhouse_owner; SET search_path = {house}, ext; {sql}");
                sqlx::raw_sql(AssertSqlSafe(sql))
                    .execute(&mut connection)
                    .await
                    .unwrap();
            }
        }
    }

    /// Plants contacts by the thousand.
    pub(super) async fn plant(&self, tenant: TenantId, count: i32) {
        let mut connection = self.superuser(tenant).await;
        sqlx::query(
            "INSERT INTO contacts (
                 tenant_id, id, display_name, email, phone, company, job_title, owner_id, revision, created_at, updated_at)
             SELECT $1, gen_random_uuid(), 'Contact ' || n, '', '', '', '', gen_random_uuid(), 1, now(), now()
             FROM generate_series(1, $2) AS n",
        )
        .bind(tenant.uuid())
        .bind(count)
        .execute(&mut connection)
        .await
        .unwrap();
    }

    /// How the database would answer a statement about 50 of one member's own contacts.
    pub(super) async fn plan(&self, tenant: TenantId, owner: UserId, sql: &str) -> String {
        let mut connection = self.superuser(tenant).await;
        let explain = format!("EXPLAIN {sql}");
        let lines: Vec<String> = sqlx::query_scalar(AssertSqlSafe(explain))
            .bind(tenant.uuid())
            .bind(owner.uuid())
            .bind(50_i64)
            .fetch_all(&mut connection)
            .await
            .unwrap();
        lines.join("\n")
    }

    /// A superuser's URL of the database in which the tenant's home is.
    pub(super) fn superuser_url(&self, tenant: TenantId) -> String {
        superuser_url(&self.databases, self.placement, tenant)
    }

    /// Whether the tenants have neighbours in their database.
    pub(super) fn has_neighbours(&self) -> bool {
        self.placement != Placement::Database
    }

    async fn superuser(&self, tenant: TenantId) -> PgConnection {
        let mut connection = PgConnection::connect(&self.superuser_url(tenant)).await.unwrap();
        let path = format!("SET search_path = {}, ext", house_of(&mut connection, tenant).await);
        sqlx::raw_sql(AssertSqlSafe(path))
            .execute(&mut connection)
            .await
            .unwrap();
        connection
    }
}

/// Databases in which homes can be built.
pub(super) async fn databases(name: &str) -> Databases {
    Databases::create_only(Kind::Data, name).await.unwrap()
}

/// Who builds and migrates homes there, as a release with these migrations.
pub(super) async fn provisioner(databases: &Databases, migrations: TenantMigrations) -> Provisioner {
    let owner_url = Secret::new(databases.data_url(Login::Owner));
    let urls = BTreeMap::from([(SERVER.to_owned(), owner_url)]);
    Provisioner::connect(ServiceName::Crm, &urls, migrations, &master_keys(b'A', b""))
        .await
        .unwrap()
}

/// A superuser's URL of the database in which a tenant's home is.
pub(super) fn superuser_url(databases: &Databases, placement: Placement, tenant: TenantId) -> String {
    match placement {
        Placement::Schema | Placement::Shared => databases.data_superuser_url(),
        Placement::Database => {
            let name = format!("t_{}", tenant.uuid().simple());
            databases.servers().superuser_url(&name)
        }
    }
}

/// The schema in which the tenant's home is.
async fn house_of(connection: &mut PgConnection, tenant: TenantId) -> String {
    sqlx::query_scalar(
        "SELECT house.schema_name FROM rowhouse.homes JOIN rowhouse.houses AS house USING (house_id)
         WHERE tenant_id = $1",
    )
    .bind(tenant.uuid())
    .fetch_one(connection)
    .await
    .unwrap()
}

async fn connect(databases: &Databases, homes: Vec<Home>, lanes: Lanes) -> TenantDb {
    let pooled = Secret::new(databases.data_pooled_url());
    let config = TenantDbConfig {
        participant: ServiceName::Crm,
        urls: BTreeMap::from([(SERVER.to_owned(), pooled)]),
        pool_size_max: 8,
        own_databases: OwnDatabases::default(),
        master_keys: master_keys(b'A', b""),
        lanes,
        versions: migrations::served(),
    };
    TenantDb::connect(config, Arc::new(StaticDirectory::new(homes)))
        .await
        .unwrap()
}

/// Everybody is a member of every tenant, but for the person whose id is all zeros.
struct Everybody;

#[async_trait]
impl RightsSource for Everybody {
    async fn rights(&self, _: &Ctx, query: &RightsQuery) -> Result<Arc<Rights>, RightsError> {
        let standing = if query.user.uuid().is_nil() {
            Standing::Revoked
        } else {
            Standing::Good
        };
        Ok(Arc::new(Rights {
            version: 1,
            standing,
            roles: Vec::new(),
            grants: Grants::default(),
            team: [].into_iter().collect(),
        }))
    }
}

// === impl NewContact ===

impl NewContact {
    /// The same with a request id.
    pub(super) fn once(mut self) -> Self {
        self.request_id = Some(IdempotencyKey::generate());
        self
    }
}

/// A contact of this name.
pub(super) fn named(name: &str) -> NewContact {
    NewContact {
        details: details(name),
        request_id: None,
    }
}

pub(super) fn details(name: &str) -> Details {
    let nothing = || Text::parse_optional("").unwrap();
    Details {
        display_name: Text::parse_required(name).unwrap(),
        email: OptionalEmail::parse("ada@example.com").unwrap(),
        phone: nothing(),
        company: Text::parse_optional("Analytical Engines").unwrap(),
        job_title: Text::parse_optional("").unwrap(),
    }
}

pub(super) fn server() -> ServerName {
    SERVER.parse().unwrap()
}

fn contacts(db: &TenantDb, limits: Limits) -> Contacts {
    // Fixed limits ask nobody, Redis neither.
    let nowhere = Cache::connect(&Secret::new("redis://127.0.0.1:1".to_owned()), "none").unwrap();
    let limits = LimitsClient::fixed(limits, nowhere);
    let owners = Owners::new(Arc::new(Everybody));
    Contacts::new(db.clone(), PageTokens::new(&[7; 32]), Wake::new(), limits, owners)
}

//! The process `provision`, called over its real listener.

use std::collections::BTreeMap;
use std::time::Duration;

use rowhouse_auth_kit::{ServiceSigner, SigningKey};
use rowhouse_client::Peer;
use rowhouse_config::Secret;
use rowhouse_config::section::{Identity, Listen, Telemetry};
use rowhouse_context::{Ctx, Principal, RequestId};
use rowhouse_db::testing::{master_keys, own_login};
use rowhouse_devkit::cluster::Kind;
use rowhouse_devkit::fixture::Databases;
use rowhouse_devkit::log::Log;
use rowhouse_devkit::port;
use rowhouse_devkit::servers::Login;
use rowhouse_proto::common::v1 as proto;
use rowhouse_proto::common::v1::tenant_participant_service_client::TenantParticipantServiceClient;
use rowhouse_types::{OperationId, Placement, TenantId};
use sqlx::{Connection as _, PgConnection};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use tracing::Level;

use super::*;

/// Longer than anything here takes; what does not end by itself fails by it.
const LONG: Duration = Duration::from_secs(60);

/// The seed of a service's identity.
fn seed(name: ServiceName) -> [u8; 32] {
    let number = ServiceName::ALL.iter().position(|one| *one == name).unwrap();
    [u8::try_from(number).unwrap(); 32]
}

fn public(seed: &[u8]) -> String {
    SigningKey::from_seed(seed).unwrap().public().to_base64url()
}

fn config(databases: &Databases, internal: u16, admin: u16) -> ProvisionConfig {
    let local = |port| format!("127.0.0.1:{port}").parse().unwrap();
    let owner_url = Secret::new(databases.data_url(Login::Owner));
    ProvisionConfig {
        listen: Listen {
            public: local(0),
            internal: local(internal),
            admin: local(admin),
            drain: Duration::from_secs(1),
            concurrency_max: 16,
            deadline_max: Duration::from_secs(30),
            trusted_hops: 0,
        },
        telemetry: Telemetry {
            filter: "off".to_owned(),
            json: true,
            otlp_endpoint: None,
        },
        identity: Identity {
            tls: None,
            key: None,
            keys: ServiceName::ALL
                .map(|name| (name.to_string(), public(&seed(name))))
                .into(),
            token_issuer: "rowhouse".to_owned(),
        },
        data_owner_urls: BTreeMap::from([("data1".to_owned(), owner_url)]),
        data_master_keys: Some(master_keys(b'A', b"")),
        own_login_connections_max: 32,
        builds_max: 3,
    }
}

async fn prepare(
    caller: (ServiceName, [u8; 32]),
    port: u16,
    request: &proto::PrepareRequest,
) -> Result<proto::Home, Status> {
    let (name, seed) = caller;
    let signer = ServiceSigner::new(name, &seed).unwrap();
    let peer = Peer::connect(ServiceName::Crm, &format!("http://127.0.0.1:{port}"), &signer.into()).unwrap();
    let ctx = Ctx::new(
        RequestId::generate(),
        Principal::Service { name },
        None,
        Instant::now() + Duration::from_secs(30),
    );
    let mut client = TenantParticipantServiceClient::new(peer.channel());
    let answer = client.prepare(rowhouse_client::request(&ctx, request.clone())).await?;
    Ok(answer.into_inner())
}

/// The first call may come before the listener is there.
async fn prepare_once_up(
    caller: (ServiceName, [u8; 32]),
    port: u16,
    request: &proto::PrepareRequest,
) -> Result<proto::Home, Status> {
    loop {
        match prepare(caller, port, request).await {
            Err(status) if status.code() == Code::Unavailable => tokio::task::yield_now().await,
            answer => return answer,
        }
    }
}

#[tokio::test]
async fn only_the_tenant_service_is_served() {
    let databases = Databases::empty_only(Kind::Data, "crm_provision").await.unwrap();
    let (internal, admin) = (port::reserve().unwrap(), port::reserve().unwrap());
    let config = config(&databases, internal.port(), admin.port());
    let migrating = MigrateConfig {
        telemetry: config.telemetry.clone(),
        data_owner_urls: config.data_owner_urls.clone(),
        data_master_keys: config.data_master_keys.clone(),
        homes: true,
        own_login_connections_max: config.own_login_connections_max,
    };
    migrate(migrating).await.unwrap();
    let provisioner = provisioner(&config.data_owner_urls, config.data_master_keys.as_ref())
        .await
        .unwrap();
    let stop = CancellationToken::new();
    let serving = tokio::spawn(server(&config, &provisioner).await.unwrap().run(stop.clone()));

    let port = internal.port();
    let mut request = proto::PrepareRequest {
        tenant_id: TenantId::generate().to_string(),
        server: "data1".to_owned(),
        placement: proto::Placement::Unspecified.into(),
        operation_id: OperationId::generate().to_string(),
    };
    let tenant: (ServiceName, [u8; 32]) = (ServiceName::Tenant, seed(ServiceName::Tenant));
    let home = prepare_once_up(tenant, port, &request).await.unwrap();
    assert_eq!(
        (home.tenant_id.as_str(), home.participant.as_str()),
        (request.tenant_id.as_str(), "crm")
    );
    assert_eq!(
        (home.placement(), home.state()),
        (proto::Placement::Schema, proto::HomeState::Active)
    );
    assert_eq!(prepare(tenant, port, &request).await.unwrap(), home);

    let stranger = prepare((ServiceName::Worker, seed(ServiceName::Worker)), port, &request)
        .await
        .unwrap_err();
    assert_eq!(stranger.code(), Code::PermissionDenied);
    let liar = prepare((ServiceName::Tenant, seed(ServiceName::Worker)), port, &request)
        .await
        .unwrap_err();
    assert_eq!(liar.code(), Code::Unauthenticated);

    request.placement = i32::MAX;
    let refused = prepare(tenant, port, &request).await.unwrap_err();
    let details = refused.get_error_details();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(details.bad_request().unwrap().field_violations[0].field, "placement");

    stop.cancel();
    serving.await.unwrap().unwrap();
    provisioner.shutdown().await;
}

#[tokio::test]
async fn homes_forget_at_once_and_until_the_process_ends() {
    let databases = Databases::empty_only(Kind::Data, "crm_forgets").await.unwrap();
    let (_, urls) = alone(&databases);
    migrate(migrating(&urls, master_keys(b'A', b""))).await.unwrap();
    let provisioner = provisioner(&urls, Some(&master_keys(b'A', b""))).await.unwrap();
    let (tenant, server) = (TenantId::generate(), "data1".parse().unwrap());
    let operation = OperationId::generate();
    let prepared = provisioner.prepare(tenant, &server, Placement::Schema, operation).await;
    prepared.unwrap();

    let mut superuser = PgConnection::connect(&databases.data_superuser_url()).await.unwrap();
    let table = format!("t_{}.requests", tenant.uuid().simple());
    let planted = format!(
        "INSERT INTO {table} (tenant_id, method, request_id, fingerprint, resource_id, answer, expires_at)
         SELECT '{}', 'CreateContact', gen_random_uuid(), sha256(''), gen_random_uuid(), '{{}}', now() - interval '2 minutes'
         FROM generate_series(1, 1001)",
        tenant.uuid()
    );
    let planted = sqlx::raw_sql(sqlx::AssertSqlSafe(planted))
        .execute(&mut superuser)
        .await;
    planted.unwrap();
    let end = CancellationToken::new();
    let watching = async {
        let count = format!("SELECT count(*) FROM {table}");
        let mut left: i64 = 1;
        while left > 0 {
            let counted = sqlx::query_scalar(sqlx::AssertSqlSafe(count.clone()));
            left = counted.fetch_one(&mut superuser).await.unwrap();
        }
        end.cancel();
    };
    let both = async { tokio::join!(forget(&provisioner, &end), watching) };
    timeout(LONG, both).await.expect("they are forgotten");
    provisioner.shutdown().await;
}

fn migrating(urls: &BTreeMap<String, Secret>, keys: MasterKeys) -> MigrateConfig {
    MigrateConfig {
        telemetry: Telemetry {
            filter: "off".to_owned(),
            json: true,
            otlp_endpoint: None,
        },
        data_owner_urls: urls.clone(),
        data_master_keys: Some(keys),
        homes: true,
        own_login_connections_max: 32,
    }
}

async fn count(owner: &mut PgConnection, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(owner).await.unwrap()
}

/// The database alone, as server `data1`: its URL for the owner, and what `migrate` is told.
fn alone(databases: &Databases) -> (Secret, BTreeMap<String, Secret>) {
    let main = Secret::new(databases.data_url(Login::Owner));
    (main.clone(), BTreeMap::from([("data1".to_owned(), main)]))
}

/// Migrates servers that are empty, and builds homes on `data1`. Passwords are sealed by master key `A`.
async fn built<const N: usize>(urls: &BTreeMap<String, Secret>, placements: [Placement; N]) -> [TenantId; N] {
    migrate(migrating(urls, master_keys(b'A', b""))).await.unwrap();
    let builder = provisioner(urls, Some(&master_keys(b'A', b""))).await.unwrap();
    let tenants = placements.map(|_| TenantId::generate());
    for (tenant, placement) in tenants.into_iter().zip(placements) {
        let (server, operation) = ("data1".parse().unwrap(), OperationId::generate());
        let prepared = builder.prepare(tenant, &server, placement, operation).await;
        prepared.unwrap();
    }
    builder.shutdown().await;
    tenants
}

/// The run of MigrationService that comes after it brings them on, in waves.
#[tokio::test]
async fn homes_are_left_alone_where_the_environment_says_so_and_databases_of_tenants_are_not() {
    let databases = Databases::empty_only(Kind::Data, "crm_leaves_homes").await.unwrap();
    let (main, urls) = alone(&databases);
    built(&urls, [Placement::Schema, Placement::Shared, Placement::Database]).await;
    // As they are when code with newer migrations of both comes. Tables of homes are there: to make them again would fail.
    let mut owner = PgConnection::connect(main.expose()).await.unwrap();
    let older = "UPDATE rowhouse.houses SET version = 0, deferred_version = 0;
         UPDATE rowhouse.databases SET platform_version = 0";
    sqlx::raw_sql(older).execute(&mut owner).await.unwrap();

    let left = MigrateConfig {
        homes: false,
        ..migrating(&urls, master_keys(b'A', b""))
    };
    migrate(left).await.unwrap();
    let homes = "SELECT count(*) FROM rowhouse.houses WHERE version = 0";
    assert_eq!(count(&mut owner, homes).await, 3);
    let platforms = "SELECT count(*) FROM rowhouse.databases WHERE platform_version > 0";
    assert_eq!(count(&mut owner, platforms).await, 1);
    owner.close().await.unwrap();
    // The control: they would have been tried.
    let tried = migrate(migrating(&urls, master_keys(b'A', b""))).await.unwrap_err();
    assert!(
        format!("{tried:#}").contains("not every home was migrated"),
        "{tried:#}"
    );
}

#[tokio::test]
async fn migrate_names_a_server_that_fails_and_sees_to_the_others() {
    let databases = Databases::empty_only(Kind::Data, "crm_servers").await.unwrap();
    let (main, good) = alone(&databases);
    let [tenant] = built(&good, [Placement::Database]).await;

    // The first of both is a database that is not there.
    let mut both = good;
    let absent = databases.servers().login_url(Login::Owner, "absent");
    both.insert("data0".to_owned(), Secret::new(absent));
    let refused = migrate(migrating(&both, master_keys(b'B', b"A"))).await.unwrap_err();
    let told = format!("{refused:#}");
    assert!(told.contains("schema rowhouse of data0 was not migrated"), "{told}");
    let resealed = own_login(&main, &master_keys(b'B', b"").present, tenant).await;
    assert!(resealed.unwrap().is_some());
}

/// Servers go side by side, through all of it.
#[tokio::test]
async fn a_server_that_hangs_in_the_first_step_keeps_no_other_from_the_last() {
    let (databases, hung) = tokio::join!(
        Databases::empty_only(Kind::Data, "crm_hangs"),
        Databases::empty_only(Kind::Data, "crm_hung")
    );
    let (databases, hung) = (databases.unwrap(), hung.unwrap());
    // The first by name hangs.
    let both = [("data0", &hung), ("data1", &databases)];
    let both = BTreeMap::from(both.map(|(name, of)| (name.to_owned(), Secret::new(of.data_url(Login::Owner)))));
    let [tenant] = built(&both, [Placement::Database]).await;

    let mut holder = PgConnection::connect(&hung.data_superuser_url()).await.unwrap();
    let hold = "SELECT pg_advisory_lock(hashtextextended('rowhouse.schema', 0))";
    sqlx::raw_sql(hold).execute(&mut holder).await.unwrap();
    let mut owner = PgConnection::connect(&databases.data_url(Login::Owner)).await.unwrap();
    let bounded = async {
        let mut bound: i32 = 0;
        while bound != 5 {
            bound = sqlx::query_scalar("SELECT rolconnlimit FROM pg_roles WHERE rolname = $1")
                .bind(format!("t_{}", tenant.uuid().simple()))
                .fetch_one(&mut owner)
                .await
                .unwrap();
        }
    };
    let rebounding = MigrateConfig {
        own_login_connections_max: 5,
        ..migrating(&both, master_keys(b'A', b""))
    };
    let mut run = Box::pin(migrate(rebounding));
    tokio::select! {
        ended = &mut run => panic!("the control: data0 hangs, and not {ended:?}"),
        done = timeout(LONG, bounded) => done.expect("data1 waited for data0"),
    }
    holder.close().await.unwrap();
    timeout(LONG, run).await.expect("nothing hangs any more").unwrap();
}

#[tokio::test]
async fn migrate_bounds_the_logins_of_databases_that_are_there() {
    let databases = Databases::empty_only(Kind::Data, "crm_bound").await.unwrap();
    let (main, urls) = alone(&databases);
    let [tenant] = built(&urls, [Placement::Database]).await;
    let migrating = |own_login_connections_max| MigrateConfig {
        own_login_connections_max,
        ..migrating(&urls, master_keys(b'A', b""))
    };
    let mut owner = PgConnection::connect(main.expose()).await.unwrap();
    for most in [32, 5] {
        migrate(migrating(most)).await.unwrap();
        let bound: i32 = sqlx::query_scalar("SELECT rolconnlimit FROM pg_roles WHERE rolname = $1")
            .bind(format!("t_{}", tenant.uuid().simple()))
            .fetch_one(&mut owner)
            .await
            .unwrap();
        assert_eq!(bound, i32::from(most));
    }
    owner.close().await.unwrap();
}

#[tokio::test]
async fn migrate_seals_anew_what_a_previous_key_has_sealed_and_says_when_that_one_is_missing() {
    let databases = Databases::empty_only(Kind::Data, "crm_reseal").await.unwrap();
    let (main, urls) = alone(&databases);
    let [tenant, older] = built(&urls, [Placement::Database; 2]).await;
    let migrate_by = |keys| migrate(migrating(&urls, keys));
    let opened_by = async |key: u8, tenant| {
        let (_, password) = own_login(&main, &master_keys(key, b"").present, tenant).await.ok()??;
        Some(password.expose().to_owned())
    };
    let password = opened_by(b'A', tenant).await;
    assert!(password.is_some());
    // As one that was made without a login: there is something else for `migrate` to do.
    let mut owner = PgConnection::connect(main.expose()).await.unwrap();
    sqlx::query("UPDATE rowhouse.databases SET sealed_password = NULL WHERE tenant_id = $1")
        .bind(older.uuid())
        .execute(&mut owner)
        .await
        .unwrap();
    owner.close().await.unwrap();

    let refused = migrate_by(master_keys(b'B', b"C")).await.unwrap_err();
    let told = format!("{refused:#}");
    let database = format!("t_{}", tenant.uuid().simple());
    assert!(
        told.contains("ROWHOUSE_DATA_MASTER_KEYS_PREVIOUS") && told.contains(&database),
        "{told}"
    );
    assert_eq!(opened_by(b'A', tenant).await, password);
    assert_eq!(opened_by(b'B', tenant).await, None);
    assert!(opened_by(b'B', older).await.is_some(), "the others were seen to");

    migrate_by(master_keys(b'B', b"CA")).await.unwrap();
    assert_eq!(opened_by(b'A', tenant).await, None);
    assert_eq!(opened_by(b'B', tenant).await, password);
    // The previous keys may go.
    migrate_by(master_keys(b'B', b"")).await.unwrap();
}

#[tokio::test]
async fn an_operator_hears_of_homes_that_fail_also_where_a_key_is_missing() {
    let databases = Databases::empty_only(Kind::Data, "crm_both_fail").await.unwrap();
    let (main, urls) = alone(&databases);
    built(&urls, [Placement::Database, Placement::Schema]).await;
    // Its tables are there: to make them again fails.
    let mut owner = PgConnection::connect(main.expose()).await.unwrap();
    sqlx::query("UPDATE rowhouse.houses SET version = 0, deferred_version = 0 WHERE placement = 'schema'")
        .execute(&mut owner)
        .await
        .unwrap();
    owner.close().await.unwrap();

    let errors = Log::listen("rowhouse_crm", Level::ERROR);
    let refused = migrate(migrating(&urls, master_keys(b'B', b""))).await.unwrap_err();
    let told = format!("{refused:#}");
    assert!(told.contains("ROWHOUSE_DATA_MASTER_KEYS_PREVIOUS"), "{told}");
    // Each as it comes, what is answered with too: another server might hang for ever.
    let key = "ERROR data server data1: a key is missing in ROWHOUSE_DATA_MASTER_KEYS_PREVIOUS";
    assert_eq!(errors.lines(), [key, "ERROR not every home was migrated"]);
    let entries = errors.take();
    assert!(entries[1].field("error").unwrap().contains("SQLSTATE"), "{entries:?}");
    let refused = migrate(migrating(&urls, master_keys(b'A', b""))).await.unwrap_err();
    assert!(format!("{refused:#}").contains("not every home was migrated"));
    assert_eq!(errors.lines(), ["ERROR not every home was migrated"]);
}

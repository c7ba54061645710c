//! Orders of the tenant service against a real data server.

use std::time::Duration;

use futures_util::future::join_all;
use rowhouse_config::Secret;
use rowhouse_context::{Ctx, Principal, RequestId, ServiceName};
use rowhouse_db::testing::master_keys;
use rowhouse_db::{Batch, BatchOrder};
use rowhouse_devkit::cluster;
use rowhouse_devkit::cluster::Kind;
use rowhouse_devkit::fixture::Databases;
use rowhouse_devkit::servers::Login;
use rowhouse_types::HomeState;
use tokio::time::Instant;

use super::*;
use crate::migrations::MIGRATIONS;

struct Bench {
    homes: Homes,
    databases: Databases,
}

impl Bench {
    async fn start(name: &str, builds_max: usize) -> Self {
        let databases = Databases::create_only(Kind::Data, name).await.unwrap();
        let url = Secret::new(databases.data_url(Login::Owner));
        // Two names of one server: what is bounded is bounded by name.
        let urls = ["data1", "data2"].map(|name| (name.to_owned(), url.clone())).into();
        let provisioner = Provisioner::connect(ServiceName::Crm, &urls, MIGRATIONS, &master_keys(b'A', b""))
            .await
            .unwrap();
        Self {
            homes: Homes::new(provisioner, builds_max),
            databases,
        }
    }
}

fn ctx(bound: Duration) -> Ctx {
    let principal = Principal::Service {
        name: ServiceName::Tenant,
    };
    Ctx::new(RequestId::generate(), principal, None, Instant::now() + bound)
}

fn order() -> Order {
    Order {
        place: Place {
            tenant: TenantId::generate(),
            server: "data1".parse().unwrap(),
        },
        placement: Placement::Schema,
        operation: OperationId::generate(),
    }
}

fn reason<T>(outcome: Result<T, Error>) -> Reason {
    match outcome {
        Ok(_) => panic!("was carried out"),
        Err(error) => Failure::from(error).reason(),
    }
}

#[tokio::test]
async fn a_home_lives_from_prepare_to_drop_and_every_order_can_be_repeated() {
    for placement in [Placement::Schema, Placement::Shared, Placement::Database] {
        a_home_lives_in(placement).await;
    }
}

async fn a_home_lives_in(placement: Placement) {
    let bench = Bench::start("crm_home_life", 3).await;
    let (homes, ctx, mut order) = (bench.homes, ctx(Duration::from_secs(30)), order());
    order.placement = placement;
    let place = &order.place;
    let built = homes.prepare(&ctx, &order).await.unwrap();
    assert_eq!((built.version, built.state), (MIGRATIONS.newest(), HomeState::Active));
    assert_eq!(homes.prepare(&ctx, &order).await.unwrap(), built);
    assert_eq!(homes.migrate(&ctx, place).await.unwrap(), built);
    assert_eq!(homes.describe(place).await.unwrap(), built);

    assert_eq!(reason(homes.drop(&ctx, place).await), Reason::StateForbids);
    for _ in 0..2 {
        assert_eq!(
            homes.freeze(place, OperationId::generate()).await.unwrap().state,
            HomeState::Frozen
        );
    }
    for _ in 0..2 {
        assert_eq!(
            homes.restrict(place, OperationId::generate()).await.unwrap().state,
            HomeState::ReadOnly
        );
    }
    assert_eq!(reason(homes.drop(&ctx, place).await), Reason::StateForbids);
    for _ in 0..2 {
        assert_eq!(homes.thaw(place, OperationId::generate()).await.unwrap(), built);
    }
    // An order that was held up until a newer one was carried out changes nothing; the newest can be repeated.
    let (older, newer) = (OperationId::generate(), OperationId::generate());
    for _ in 0..2 {
        assert_eq!(homes.freeze(place, newer).await.unwrap().state, HomeState::Frozen);
        assert_eq!(reason(homes.thaw(place, older).await), Reason::StateForbids);
        assert_eq!(reason(homes.restrict(place, older).await), Reason::StateForbids);
        assert_eq!(homes.describe(place).await.unwrap().state, HomeState::Frozen);
    }
    for home in [true, false] {
        let login_left = false;
        assert_eq!(homes.drop(&ctx, place).await.unwrap(), Dropped { home, login_left });
    }
    assert_eq!(reason(homes.describe(place).await), Reason::ResourceNotFound);
    // A late repetition of the first order must not build it again.
    assert_eq!(reason(homes.prepare(&ctx, &order).await), Reason::StateForbids);
}

#[tokio::test]
async fn what_is_not_there_or_not_possible_is_refused() {
    let bench = Bench::start("crm_home_refused", 3).await;
    let (homes, ctx, order) = (bench.homes, ctx(Duration::from_secs(30)), order());
    let mut elsewhere = order.clone();
    elsewhere.place.server = "data9".parse().unwrap();
    assert_eq!(reason(homes.prepare(&ctx, &elsewhere).await), Reason::FieldInvalid);
    let shared = homes.prepare_spare(&ctx, &order.place, Placement::Shared).await;
    assert_eq!(reason(shared), Reason::FieldInvalid);
    for outcome in [
        homes.describe(&order.place).await,
        homes.freeze(&order.place, OperationId::generate()).await,
        homes.restrict(&order.place, OperationId::generate()).await,
        homes.thaw(&order.place, OperationId::generate()).await,
        homes.migrate(&ctx, &order.place).await,
    ] {
        assert_eq!(reason(outcome), Reason::ResourceNotFound);
    }
    homes.prepare(&ctx, &order).await.unwrap();
    let mut another = order.clone();
    another.operation = OperationId::generate();
    assert_eq!(reason(homes.prepare(&ctx, &another).await), Reason::StateForbids);
}

#[tokio::test]
async fn many_orders_at_once_are_all_carried_out() {
    let bench = Bench::start("crm_homes_many", 2).await;
    let ctx = ctx(Duration::from_secs(60));
    let orders: Vec<Order> = (0..6).map(|_| order()).collect();
    // Each twice at the same time, as a tenant service does that lost an answer.
    let built = join_all(
        orders
            .iter()
            .chain(&orders)
            .map(|order| bench.homes.prepare(&ctx, order)),
    )
    .await;
    assert!(built.iter().all(Result::is_ok), "{built:?}");
}

/// The tenant service records it, and repeats an order whose answer it has not got.
#[tokio::test]
async fn every_drop_says_whether_the_login_of_a_database_is_left() {
    let bench = Bench::start("crm_login_left", 3).await;
    let (homes, ctx, mut order) = (bench.homes, ctx(Duration::from_secs(30)), order());
    order.placement = Placement::Database;
    homes.prepare(&ctx, &order).await.unwrap();
    let superuser = cluster::connect(&bench.databases.data_superuser_url()).await.unwrap();
    let login = format!("t_{}", order.place.tenant.uuid().simple());
    let elsewhere = bench.databases.data_name();
    let grant = format!("GRANT CONNECT ON DATABASE {elsewhere} TO {login}");
    superuser.batch_execute(&grant).await.unwrap();
    homes.freeze(&order.place, OperationId::generate()).await.unwrap();
    for home in [true, false] {
        let login_left = true;
        assert_eq!(
            homes.drop(&ctx, &order.place).await.unwrap(),
            Dropped { home, login_left }
        );
    }
    let gone = format!("REVOKE CONNECT ON DATABASE {elsewhere} FROM {login}; DROP ROLE {login}");
    superuser.batch_execute(&gone).await.unwrap();
    assert!(!homes.drop(&ctx, &order.place).await.unwrap().login_left);
}

#[tokio::test]
async fn a_claim_does_not_wait_for_builds() {
    for placement in [Placement::Schema, Placement::Database] {
        a_claim_does_not_wait_in(placement).await;
    }
}

async fn a_claim_does_not_wait_in(placement: Placement) {
    let bench = Bench::start("crm_spare_claim", 1).await;
    let (homes, mut order) = (bench.homes, order());
    order.placement = placement;
    let long = || ctx(Duration::from_secs(30));
    let spare = homes
        .prepare_spare(&long(), &order.place, order.placement)
        .await
        .unwrap();
    assert_eq!((spare.version, spare.state), (MIGRATIONS.newest(), HomeState::Spare));
    let _busy = homes.builds["data1"].acquire().await.unwrap();
    let short = ctx(Duration::from_millis(20));
    let another = homes.prepare_spare(&short, &order.place, order.placement).await;
    assert_eq!(reason(another), Reason::DeadlineExceeded);
    for _ in 0..2 {
        let claimed = homes.prepare(&long(), &order).await.unwrap();
        assert_eq!((claimed.version, claimed.state), (spare.version, HomeState::Active));
    }
}

#[tokio::test]
async fn builds_on_one_data_server_keep_none_on_another_waiting() {
    let bench = Bench::start("crm_builds_apart", 1).await;
    let (homes, mut order) = (bench.homes, order());
    let _busy = homes.builds["data1"].acquire().await.unwrap();
    let short = ctx(Duration::from_millis(20));
    assert_eq!(reason(homes.prepare(&short, &order).await), Reason::DeadlineExceeded);
    order.place.server = "data2".parse().unwrap();
    let built = homes.prepare(&ctx(Duration::from_secs(30)), &order).await.unwrap();
    assert_eq!(built.state, HomeState::Active);
}

#[tokio::test]
async fn a_freeze_does_not_wait_for_builds() {
    let bench = Bench::start("crm_home_freeze", 1).await;
    let (homes, order) = (bench.homes, order());
    homes.prepare(&ctx(Duration::from_secs(30)), &order).await.unwrap();
    let _busy = homes.builds["data1"].acquire().await.unwrap();
    let late = homes.migrate(&ctx(Duration::from_millis(20)), &order.place).await;
    assert_eq!(reason(late), Reason::DeadlineExceeded);
    assert_eq!(
        homes.freeze(&order.place, OperationId::generate()).await.unwrap().state,
        HomeState::Frozen
    );
}

/// Takes every permit of the fleet on data1.
async fn fleet_taken(homes: &Homes) -> SemaphorePermit<'_> {
    let permits = u32::try_from(fleet::FLEET_MAX).unwrap();
    homes.fleets["data1"].acquire_many(permits).await.unwrap()
}

/// Migrates houses of a server, and waits so long at most for others.
async fn batch(homes: &Homes, server: &str, wait: Duration) -> Result<Batch, Error> {
    let mut order = BatchOrder::all(MIGRATIONS.newest());
    order.until = Instant::now() + wait;
    homes.migrate_batch(&server.parse().unwrap(), &order).await
}

#[tokio::test]
async fn a_build_does_not_wait_for_the_fleet() {
    let bench = Bench::start("crm_fleet_builds", 1).await;
    let (homes, order) = (bench.homes, order());
    let _busy = fleet_taken(&homes).await;
    let built = homes.prepare(&ctx(Duration::from_secs(30)), &order).await.unwrap();
    assert_eq!(built.state, HomeState::Active);
}

#[tokio::test]
async fn the_fleet_takes_no_permit_of_builds() {
    let bench = Bench::start("crm_builds_fleet", 1).await;
    let homes = bench.homes;
    let _busy = homes.builds["data1"].acquire().await.unwrap();
    batch(&homes, "data1", Duration::from_secs(30)).await.unwrap();
    let query = fleet::DriftQuery {
        server: "data1".parse().unwrap(),
        after: None,
        houses_max: 1,
    };
    homes.check_drift(&ctx(Duration::from_secs(30)), &query).await.unwrap();
}

#[tokio::test]
async fn a_batch_whose_server_is_busy_is_told_to_come_again() {
    let bench = Bench::start("crm_fleet_busy", 1).await;
    let homes = bench.homes;
    let _busy = fleet_taken(&homes).await;
    let late = batch(&homes, "data1", Duration::from_millis(20)).await;
    assert_eq!(reason(late), Reason::Overloaded);
}

#[tokio::test]
async fn a_busy_server_keeps_no_other_waiting() {
    let bench = Bench::start("crm_fleet_other", 1).await;
    let homes = bench.homes;
    let _busy = fleet_taken(&homes).await;
    batch(&homes, "data2", Duration::from_secs(30)).await.unwrap();
}

#[tokio::test]
async fn a_data_server_that_is_away_takes_no_other_from_the_provisioner() {
    let databases = Databases::empty_only(Kind::Data, "crm_away").await.unwrap();
    // Nobody listens on port 1; by its name it is the first.
    let away = Secret::new("postgres://rowhouse_owner:none@127.0.0.1:1/postgres".to_owned());
    let here = Secret::new(databases.data_url(Login::Owner));
    let urls = [("data0".to_owned(), away), ("data1".to_owned(), here)].into();
    let keys = master_keys(b'A', b"");
    let provisioner = Provisioner::connect(ServiceName::Crm, &urls, MIGRATIONS, &keys).await;
    provisioner.unwrap().ping().await.unwrap();
}

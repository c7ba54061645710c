//! What homes forget by and by.

use std::time::Duration;

use rowhouse_config::Secret;
use rowhouse_context::ServiceName;
use rowhouse_db::testing::{forget_by, master_keys};
use rowhouse_db::{ProvisionError, Provisioner, Statement, Type};
use rowhouse_devkit::servers::Login;
use rowhouse_types::{OperationId, Placement, TenantId};

use crate::bench::{Bench, LONG, schema, server, until};
use crate::notes::NEWEST;

/// Notes that are called old.
const FORGET: Statement<()> = Statement::new(
    "note.forget",
    "DELETE FROM notes WHERE tenant_id = $1 AND id IN (
         SELECT id FROM notes WHERE tenant_id = $1 AND body LIKE 'old%' AND now() - interval '2 minutes' <= $2
         LIMIT $3 FOR UPDATE SKIP LOCKED)",
    &[Type::TIMESTAMPTZ, Type::INT8],
);

/// Tenants with `old` notes that are to go and one that is to stay.
async fn tenants(bench: &Bench, placements: &[Placement], old: usize) -> Vec<TenantId> {
    let mut tenants = Vec::new();
    for placement in placements {
        let tenant = bench.tenant_in(*placement).await;
        for number in 0..old {
            bench.insert(tenant, &format!("old {number}")).await.unwrap();
        }
        bench.insert(tenant, "new").await.unwrap();
        tenants.push(tenant);
    }
    tenants
}

async fn left(bench: &Bench, tenants: &[TenantId]) -> Vec<usize> {
    let mut left = Vec::new();
    for tenant in tenants {
        left.push(bench.list(*tenant).await.unwrap().len());
    }
    left
}

#[tokio::test]
async fn every_home_is_visited_page_by_page_and_its_rows_go_part_by_part() {
    use Placement::{Database, Schema, Shared};
    let bench = Bench::start("upkeep", 4).await;
    let tenants = tenants(&bench, &[Schema, Shared, Database, Shared, Schema], 5).await;
    bench
        .provisioner
        .prepare_spare(TenantId::generate(), &server(), Schema)
        .await
        .unwrap();
    let forgotten = forget_by(&bench.provisioner, &FORGET, 2, 2, LONG).await.unwrap();
    assert_eq!((forgotten, left(&bench, &tenants).await), (25, vec![1; 5]));
    assert_eq!(bench.provisioner.forget(&FORGET).await.unwrap(), 0);
}

/// There may be hundreds, and nobody has written into any.
#[tokio::test]
async fn the_database_of_a_spare_is_not_opened() {
    let bench = Bench::start("upkeep_spare", 2).await;
    let spare = TenantId::generate();
    bench
        .provisioner
        .prepare_spare(spare, &server(), Placement::Database)
        .await
        .unwrap();
    let main = bench.superuser().await;
    let shut = format!("ALTER DATABASE {} ALLOW_CONNECTIONS false", schema(spare));
    main.batch_execute(&shut).await.unwrap();
    assert_eq!(bench.provisioner.forget(&FORGET).await.unwrap(), 0);
    // The control: one that an operation has claimed is.
    let claimed = "UPDATE rowhouse.homes SET operation_id = gen_random_uuid() WHERE tenant_id = $1";
    assert_eq!(main.execute(claimed, &[&spare.uuid()]).await.unwrap(), 1);
    bench.provisioner.forget(&FORGET).await.unwrap_err();
}

#[tokio::test]
async fn homes_that_refuse_changes_wait_for_another_turn() {
    for placement in [Placement::Schema, Placement::Shared, Placement::Database] {
        let bench = Bench::start("upkeep_refused", 2).await;
        let tenants = tenants(&bench, &[placement, Placement::Schema], 1).await;
        let (provisioner, order) = (&bench.provisioner, OperationId::generate);
        provisioner.restrict(tenants[0], &server(), order()).await.unwrap();
        assert_eq!(provisioner.forget(&FORGET).await.unwrap(), 1);
        assert_eq!(left(&bench, &tenants).await, [2, 1], "{placement:?}");
        provisioner.thaw(tenants[0], &server(), order()).await.unwrap();
        assert_eq!(provisioner.forget(&FORGET).await.unwrap(), 1);
        assert_eq!(left(&bench, &tenants).await, [1, 1], "{placement:?}");
    }
}

/// Whoever changes a home's state waits until nobody is in it, and must not wait for upkeep behind upkeep.
#[tokio::test]
async fn a_home_whose_state_is_being_changed_is_passed_over() {
    let bench = Bench::start("upkeep_passed", 2).await;
    let tenants = tenants(&bench, &[Placement::Schema; 2], 1).await;
    let mut other = bench.superuser().await;
    let changing = other.transaction().await.unwrap();
    changing
        .execute(
            "SELECT pg_advisory_xact_lock(rowhouse.tenant_lock($1))",
            &[&tenants[0].uuid()],
        )
        .await
        .unwrap();
    assert_eq!(bench.provisioner.forget(&FORGET).await.unwrap(), 1);
    changing.rollback().await.unwrap();
    assert_eq!(left(&bench, &tenants).await, [2, 1]);
}

#[tokio::test]
async fn a_home_that_fails_keeps_no_other_from_it() {
    let bench = Bench::start("upkeep_failed", 2).await;
    let tenants = tenants(&bench, &[Placement::Schema; 3], 1).await;
    let mut ordered = tenants.clone();
    ordered.sort_unstable_by_key(|tenant| tenant.uuid());
    let drop = format!("DROP TABLE {}.notes CASCADE", schema(ordered[0]));
    bench.superuser().await.batch_execute(&drop).await.unwrap();
    bench.provisioner.forget(&FORGET).await.unwrap_err();
    assert_eq!(left(&bench, &ordered[1..]).await, [1, 1]);
}

/// Nothing is answered in no time. The connection is given up, and there is one for each home.
#[tokio::test]
async fn a_home_that_takes_too_long_is_left_and_the_others_have_their_turns() {
    let bench = Bench::start("upkeep_slow", 2).await;
    let tenants = tenants(&bench, &[Placement::Schema; 3], 1).await;
    let forgotten = forget_by(&bench.provisioner, &FORGET, 2, 1, Duration::ZERO).await;
    assert!(
        matches!(forgotten, Err(ProvisionError::Database(sqlx::Error::PoolTimedOut))),
        "{forgotten:?}"
    );
    assert_eq!(left(&bench, &tenants).await, [2, 2, 2]);
    assert_eq!(bench.provisioner.forget(&FORGET).await.unwrap(), 3);
}

/// One that is stopped, or whose network swallows everything, ends no statement either.
#[tokio::test]
async fn a_server_that_hangs_keeps_no_other_from_it() {
    let (hung, bench) = (
        Bench::start("upkeep_hung", 2).await,
        Bench::start("upkeep_beside", 2).await,
    );
    let tenants = tenants(&bench, &[Placement::Schema], 1).await;
    let urls = [("data1", &hung), ("data2", &bench)];
    let urls = urls.map(|(name, of)| (name.to_owned(), Secret::new(of.databases.data_url(Login::Owner))));
    let keys = master_keys(b'A', b"");
    let both = Provisioner::connect(ServiceName::Crm, &urls.into(), NEWEST, &keys)
        .await
        .unwrap();
    let mut other = hung.superuser().await;
    let hanging = other.transaction().await.unwrap();
    hanging
        .batch_execute("LOCK TABLE rowhouse.homes IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    let released = async {
        until(|| async { left(&bench, &tenants).await == [1] }).await;
        hanging.rollback().await.unwrap();
    };
    let (forgotten, ()) = tokio::join!(both.forget(&FORGET), released);
    assert_eq!(forgotten.unwrap(), 1);
}

//! What homes forget by and by.

use rowhouse_db::testing::forget_by;
use rowhouse_db::{Statement, Type};
use rowhouse_types::{OperationId, Placement, TenantId};

use crate::bench::{Bench, schema, server};

/// Notes that are called old.
const FORGET: Statement<()> = Statement::new(
    "note.forget",
    "DELETE FROM notes WHERE tenant_id = $1 AND id IN (
         SELECT id FROM notes WHERE tenant_id = $1 AND body LIKE 'old%' AND now() <= $2 LIMIT $3 FOR UPDATE SKIP LOCKED)",
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
    let forgotten = forget_by(&bench.provisioner, &FORGET, 2, 2).await.unwrap();
    assert_eq!((forgotten, left(&bench, &tenants).await), (25, vec![1; 5]));
    assert_eq!(bench.provisioner.forget(&FORGET).await.unwrap(), 0);
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

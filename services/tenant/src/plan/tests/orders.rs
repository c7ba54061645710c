//! Orders to homes: one that fails keeps no other waiting, and the last one counts.

use super::*;
use crate::plan::spread::{Reached, Round};
use crate::plan::store::{self, Place};

/// Two tenants on a plan, in the order in which homes are told, and both told.
async fn two_on_strict(bench: &Bench, plans: &Plans) -> [TenantId; 2] {
    create(plans, "strict", timeout_of(500)).await;
    let mut tenants = Vec::new();
    for slug in ["acme", "other"] {
        let tenant = bench.tenants.create(&ctx(LONG), new_tenant(slug)).await.unwrap();
        assign(plans, tenant.id, "strict", Limits::default()).await.unwrap();
        assert_eq!(told(bench, tenant.id), Some(Some(500)));
        tenants.push(tenant.id);
    }
    tenants.sort_by_key(|tenant| tenant.uuid());
    tenants.try_into().unwrap()
}

async fn change_strict(plans: &Plans, statement_timeout_ms: u32) {
    let change = Change {
        name: name("strict"),
        display_name: None,
        limits: Some(timeout_of(statement_timeout_ms)),
        etag: None,
    };
    plans.update(&ctx(LONG), change).await.unwrap();
}

/// What the process that was telling a home has left is due.
async fn let_leases_end(bench: &Bench) {
    sqlx::query("UPDATE tenant.homes SET limits_lease_until = now() WHERE limits_lease_until IS NOT NULL")
        .execute(&bench.superuser)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_home_that_cannot_be_reached_keeps_no_other_from_its_timeout() {
    let bench = Bench::start("plan_unreachable").await;
    let (plans, spread) = plans(&bench);
    let [first, second] = two_on_strict(&bench, &plans).await;
    bench.fakes.effects().unreachable.insert(first.to_string());
    change_strict(&plans, 700).await;

    let mut reached = Reached::new();
    assert_eq!(spread.round(&mut reached).await.unwrap(), Round::Left);
    assert_eq!(
        (told(&bench, first), told(&bench, second)),
        (Some(Some(500)), Some(Some(700)))
    );

    bench.fakes.effects().unreachable.clear();
    assert_eq!(spread.round(&mut reached).await.unwrap(), Round::Told);
    assert_eq!(told(&bench, first), Some(Some(700)));
    assert_eq!(spread.round(&mut reached).await.unwrap(), Round::Idle);
}

#[tokio::test]
async fn a_round_goes_on_where_the_one_before_had_to_stop() {
    let bench = Bench::start("plan_reached").await;
    let (plans, spread) = plans(&bench);
    let [first, second] = two_on_strict(&bench, &plans).await;
    change_strict(&plans, 700).await;
    let places = store::due_places(&bench.pool, 10).await.unwrap();
    let [place] = <[Place; 1]>::try_from(places).unwrap();

    let mut reached = Reached::from([(place, first)]);
    assert_eq!(spread.round(&mut reached).await.unwrap(), Round::Told);
    assert_eq!(
        (told(&bench, first), told(&bench, second)),
        (Some(Some(500)), Some(Some(700)))
    );
    assert_eq!(reached, Reached::new());
    assert_eq!(spread.round(&mut reached).await.unwrap(), Round::Told);
    assert_eq!(told(&bench, first), Some(Some(700)));
}

#[tokio::test]
async fn a_home_that_is_being_purged_is_told_nothing() {
    let bench = Bench::start("plan_purging").await;
    let (plans, _) = plans(&bench);
    let [first, second] = two_on_strict(&bench, &plans).await;
    change_strict(&plans, 700).await;
    let places = store::due_places(&bench.pool, 10).await.unwrap();
    let [place] = <[Place; 1]>::try_from(places).unwrap();
    purge(&bench, first).await;
    let due = store::due_at(&bench.pool, &place, None, 10).await.unwrap();
    assert_eq!(due, [second]);
    assert_eq!(store::take(&bench.pool, first, ServiceName::Crm).await.unwrap(), None);
    purge(&bench, second).await;
    assert_eq!(store::due_places(&bench.pool, 10).await.unwrap(), []);
}

/// A purge that has begun, without its operation.
async fn purge(bench: &Bench, tenant: TenantId) {
    let mut transaction = bench.superuser.begin().await.unwrap();
    sqlx::query("SET LOCAL session_replication_role = replica")
        .execute(&mut *transaction)
        .await
        .unwrap();
    sqlx::query(
        "UPDATE tenant.tenants SET state = 'purging', deleted_at = now(), purge_at = now() WHERE tenant_id = $1",
    )
    .bind(tenant.uuid())
    .execute(&mut *transaction)
    .await
    .unwrap();
    transaction.commit().await.unwrap();
}

#[tokio::test]
async fn an_answer_that_comes_after_a_later_order_says_nothing() {
    let bench = Bench::start("plan_late_answer").await;
    let (plans, _) = plans(&bench);
    let [tenant, _] = two_on_strict(&bench, &plans).await;
    change_strict(&plans, 700).await;
    let take = async || store::take(&bench.pool, tenant, ServiceName::Crm).await.unwrap();
    let older = take().await.expect("it is due");
    assert_eq!(take().await, None, "one at a time");
    change_strict(&plans, 900).await;
    let_leases_end(&bench).await;
    let later = take().await.expect("it is due again");
    assert!(older.order < later.order);
    assert_eq!(
        (older.statement_timeout_ms, later.statement_timeout_ms),
        (Some(700), Some(900))
    );

    // The home keeps the later order, and only the older one's answer arrives.
    store::kept(&bench.pool, &older).await.unwrap();
    store::release(&bench.pool, &older).await.unwrap();
    assert_eq!(take().await, None, "the later one is still being told");
    store::kept(&bench.pool, &later).await.unwrap();
    store::kept(&bench.pool, &older).await.unwrap();
    assert_eq!(take().await, None, "nothing is due");
}

#[tokio::test]
async fn what_a_home_was_told_without_an_answer_is_told_again_although_the_plan_went_back() {
    let bench = Bench::start("plan_back").await;
    let (plans, spread) = plans(&bench);
    let [tenant, _] = two_on_strict(&bench, &plans).await;
    change_strict(&plans, 700).await;
    // It arrives, and the process that has sent it dies.
    let sent = store::take(&bench.pool, tenant, ServiceName::Crm).await.unwrap();
    bench
        .peers
        .set_limits(&ctx(LONG), &sent.expect("it is due"))
        .await
        .unwrap();
    assert_eq!(told(&bench, tenant), Some(Some(700)));
    change_strict(&plans, 500).await;
    let_leases_end(&bench).await;
    spread.to_tenant(&ctx(LONG), tenant).await;
    assert_eq!(told(&bench, tenant), Some(Some(500)));
}

/// Participants pass over an order whose number is below the last one's.
#[tokio::test]
async fn no_order_is_given_with_a_smaller_number_than_the_last() {
    let bench = Bench::start("plan_clock").await;
    let (plans, _) = plans(&bench);
    let [tenant, _] = two_on_strict(&bench, &plans).await;
    // By a process whose clock is ahead.
    sqlx::query("UPDATE tenant.homes SET limits_order_id = 'ffffffff-ffff-7fff-bfff-ffffffffffff'")
        .execute(&bench.superuser)
        .await
        .unwrap();
    change_strict(&plans, 700).await;
    let take = async || store::take(&bench.pool, tenant, ServiceName::Crm).await.unwrap();
    assert_eq!(take().await, None);
    sqlx::query("UPDATE tenant.homes SET limits_order_id = NULL")
        .execute(&bench.superuser)
        .await
        .unwrap();
    assert_eq!(take().await.and_then(|due| due.statement_timeout_ms), Some(700));
}

//! Permits shared through a real Redis, and without one.

use super::*;
use crate::fake::{no_redis, redis};
use crate::limits::tests::FakePlans;

/// Calls until the plan is known and one is refused, or `calls` have passed; returns how many passed.
async fn flood(quotas: &Quotas, tenant: TenantId, calls: usize) -> usize {
    let mut passed = 0;
    for _ in 0..calls {
        if quotas.admit(tenant).await.is_ok() {
            passed += 1;
        }
        // Fetches go on meanwhile.
        tokio::task::yield_now().await;
    }
    passed
}

/// Waits until what was fetched is there.
async fn settled(quotas: &Quotas, tenant: TenantId) {
    quotas.admit(tenant).await.ok();
    quotas.shutdown().await;
    quotas.inner.tasks.reopen();
}

#[tokio::test]
async fn two_processes_share_a_tenants_rate_and_neighbours_have_their_own() {
    let plans = FakePlans::start().await;
    let cache = redis("quota_shared");
    let process = || Quotas::new(ServiceName::Crm, plans.client(cache.clone()), cache.clone());
    let (one, two) = (process(), process());
    let (tenant, neighbour) = (TenantId::generate(), TenantId::generate());
    // A minute's worth of floods is less than the burst of one second at the start and some batches.
    plans.bound(tenant, Some(20));
    plans.bound(neighbour, None);
    for quotas in [&one, &two] {
        settled(quotas, tenant).await;
        settled(quotas, neighbour).await;
    }
    let begun = Instant::now();
    let mut passed = 0;
    for _ in 0..4 {
        for quotas in [&one, &two] {
            passed += flood(quotas, tenant, 500).await;
            // What was asked for meanwhile is there for the next flood, however slow Redis is.
            quotas.shutdown().await;
            quotas.inner.tasks.reopen();
        }
    }
    // The burst, what came since, and each process's credit and batch.
    let seconds = usize::try_from(begun.elapsed().as_secs()).unwrap() + 1;
    assert!(
        (20..=20 + 20 * seconds + 8).contains(&passed),
        "{passed} in {seconds} s"
    );
    for _ in 0..1_000 {
        assert_eq!(one.admit(neighbour).await, Ok(()));
    }
}

#[tokio::test]
async fn without_redis_each_process_keeps_the_rate_by_itself() {
    let plans = FakePlans::start().await;
    let quotas = Quotas::new(ServiceName::Crm, plans.client(no_redis()), no_redis());
    let tenant = TenantId::generate();
    plans.bound(tenant, Some(5));
    settled(&quotas, tenant).await;
    let begun = Instant::now();
    let passed = flood(&quotas, tenant, 2_000).await;
    let seconds = usize::try_from(begun.elapsed().as_secs()).unwrap() + 1;
    assert!(passed <= 5 + 5 * seconds + 2, "{passed} in {seconds} s");
    let refused = quotas.admit(tenant).await.unwrap_err();
    assert_eq!(refused.requests_per_second, 5);
    assert!(!refused.retry_after.is_zero());
}

#[tokio::test]
async fn a_tenant_service_that_is_away_stops_nobody() {
    let plans = FakePlans::start().await;
    plans.state().is_down = true;
    let quotas = Quotas::new(ServiceName::Crm, plans.client(no_redis()), no_redis());
    let tenant = TenantId::generate();
    assert_eq!(flood(&quotas, tenant, 1_000).await, 1_000);
}

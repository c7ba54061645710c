//! The holder against an auth that the tests lead. Renewals are made by hand, so that nothing here waits for time.

mod races;

use std::collections::BTreeMap;
use std::sync::OnceLock;

use rowhouse_auth_kit::{ServiceVerifier, SigningKey};
use rowhouse_devkit::log::Log;
use rowhouse_types::{SessionId, TenantId, UserId};
use tracing::Level;

use super::*;
use crate::fake::{FakeAuth, SERVICE_TOKEN, ctx, no_redis, redis, seen};
use crate::rights::Standing;

fn somebody() -> RightsQuery {
    RightsQuery {
        user: UserId::generate(),
        session: Some(SessionId::generate()),
        tenant: Some(TenantId::generate()),
        platform: false,
        key: None,
        by: None,
    }
}

async fn standing(client: &RightsClient, query: &RightsQuery) -> Standing {
    client.rights(&ctx(), query).await.unwrap().standing
}

/// A clock that stands still, so that no lease ends because the machine is busy.
fn standing_still() -> Now {
    static START: OnceLock<Now> = OnceLock::new();
    *START.get_or_init(Now::read)
}

/// A client without a lease yet.
fn unleased(auth: &FakeAuth, cache: Cache) -> RightsClient {
    let auth = Arc::new(RemoteAuth::new(&auth.peer()));
    RightsClient::with_clock(ServiceName::Crm, auth, Some(cache), standing_still)
}

/// A client whose lease has just begun.
async fn holder(auth: &FakeAuth, cache: Cache) -> RightsClient {
    let client = unleased(auth, cache);
    assert_eq!(client.inner.renew(0).await, Some(Renewal::Changed));
    assert!(client.has_lease());
    client
}

#[tokio::test]
async fn under_a_lease_rights_are_asked_for_once() {
    let auth = FakeAuth::start().await;
    let client = holder(&auth, no_redis()).await;
    let query = somebody();
    for _ in 0..3 {
        let rights = client.rights(&ctx(), &query).await.unwrap();
        assert!(rights.grants.scope("contacts:read").is_some() && rights.grants.scope("contacts:delete").is_none());
    }
    assert_eq!(auth.state().asked, 1);
}

#[tokio::test]
async fn callers_who_miss_together_ask_once() {
    let auth = FakeAuth::start().await;
    let client = holder(&auth, no_redis()).await;
    auth.state().is_slow = true;
    let query = somebody();
    let calls: Vec<_> = (0..20)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { standing(&client, &query).await })
        })
        .collect();
    auth.held.subscribe().wait_for(|held| *held == 1).await.unwrap();
    auth.go.add_permits(1);
    for call in calls {
        assert_eq!(call.await.unwrap(), Standing::Good);
    }
    assert_eq!(auth.state().asked, 1);
}

#[tokio::test]
async fn a_revoked_user_is_refused_as_soon_as_the_change_can_be_acknowledged() {
    let auth = FakeAuth::start().await;
    let client = holder(&auth, no_redis()).await;
    let query = somebody();
    assert_eq!(standing(&client, &query).await, Standing::Good);

    auth.revoke(&query.user.to_string());
    // Not seen here, therefore not confirmed, therefore not acknowledged.
    assert_eq!(standing(&client, &query).await, Standing::Good);
    assert!(!auth.is_acknowledged());

    assert_eq!(client.inner.renew(0).await, Some(Renewal::Changed));
    assert!(!auth.is_acknowledged(), "seen is not yet confirmed");
    assert_eq!(standing(&client, &query).await, Standing::Revoked);
    assert_eq!(client.inner.renew(0).await, Some(Renewal::Quiet));
    assert!(auth.is_acknowledged());
    assert_eq!(auth.state().asked, 2);
}

#[tokio::test]
async fn without_a_lease_every_call_asks_and_none_is_let_through_unasked() {
    let auth = FakeAuth::start().await;
    let client = holder(&auth, no_redis()).await;
    let query = somebody();
    assert_eq!(standing(&client, &query).await, Standing::Good);

    auth.state().lease_ms = 0;
    client.inner.renew(0).await;
    assert!(!client.has_lease());
    for asked in 2..5 {
        assert_eq!(standing(&client, &query).await, Standing::Good);
        assert_eq!(auth.state().asked, asked);
    }
    auth.revoke(&query.user.to_string());
    assert_eq!(standing(&client, &query).await, Standing::Revoked);

    auth.state().is_down = true;
    assert_eq!(client.inner.renew(0).await, None);
    let refused = client.rights(&ctx(), &query).await;
    assert!(matches!(refused, Err(RightsError::Unavailable(_))), "{refused:?}");
}

/// A refill reads the rights; they are taken, and that is seen here; only then does the refill's answer arrive. Gives
/// the standing that the call which began before got, and that of one which begins afterwards.
async fn refill_races_change(without_guard: bool) -> (Standing, Standing) {
    let auth = FakeAuth::start().await;
    let client = holder(&auth, no_redis()).await;
    client.inner.ledger().believes_all_versions = without_guard;
    let query = somebody();
    auth.state().is_slow = true;
    let call = {
        let client = client.clone();
        tokio::spawn(async move { standing(&client, &query).await })
    };
    auth.held.subscribe().wait_for(|held| *held == 1).await.unwrap();
    auth.revoke(&query.user.to_string());
    assert_eq!(client.inner.renew(0).await, Some(Renewal::Changed));
    auth.state().is_slow = false;
    auth.go.add_permits(1);
    (call.await.unwrap(), standing(&client, &query).await)
}

#[tokio::test]
async fn a_refill_that_was_read_before_the_change_brings_nothing_back() {
    assert_eq!(refill_races_change(false).await, (Standing::Revoked, Standing::Revoked));
}

/// The control: without the comparison of versions the same race resurrects the rights, for good.
#[tokio::test]
async fn without_the_versions_the_race_resurrects_rights() {
    assert_eq!(refill_races_change(true).await, (Standing::Good, Standing::Good));
}

#[tokio::test]
async fn a_call_that_begins_after_the_change_does_not_take_the_answer_of_an_older_refill() {
    let auth = FakeAuth::start().await;
    let client = holder(&auth, no_redis()).await;
    let query = somebody();
    auth.state().is_slow = true;
    let before = {
        let client = client.clone();
        tokio::spawn(async move { client.rights(&ctx(), &query).await })
    };
    auth.held.subscribe().wait_for(|held| *held == 1).await.unwrap();
    auth.revoke(&query.user.to_string());
    client.inner.renew(0).await;
    let after = {
        let client = client.clone();
        tokio::spawn(async move { standing(&client, &query).await })
    };
    auth.go.add_permits(3);
    assert_eq!(after.await.unwrap(), Standing::Revoked);
    assert_eq!(before.await.unwrap().unwrap().standing, Standing::Revoked);
}

#[tokio::test]
async fn the_lease_is_held_and_changes_are_confirmed_by_themselves() {
    let auth = FakeAuth::start().await;
    let client = unleased(&auth, no_redis());
    let stop = CancellationToken::new();
    let holding = {
        let (client, stop) = (client.clone(), stop.clone());
        tokio::spawn(async move { client.run(stop).await })
    };
    auth.until(|state| state.confirmed.values().any(|version| *version == 1))
        .await;
    assert!(client.has_lease());
    auth.revoke(&UserId::generate().to_string());
    auth.until(|state| state.confirmed.values().all(|version| *version == 2))
        .await;
    stop.cancel();
    holding.await.unwrap();
}

#[tokio::test]
async fn questions_show_who_asks_and_carry_on_the_request() {
    let auth = FakeAuth::start().await;
    let client = RightsClient::new(&auth.peer(), no_redis());
    let ctx = ctx();
    client.rights(&ctx, &somebody()).await.unwrap();
    let metadata = auth.state().metadata.remove(0);
    assert_eq!(seen(&metadata, "x-request-id").unwrap(), ctx.request_id().as_str());
    assert!(seen(&metadata, "grpc-timeout").is_some());
    let key = SigningKey::from_seed(&[7; 32]).unwrap().public().to_base64url();
    let keys: BTreeMap<String, String> = ServiceName::ALL
        .into_iter()
        .map(|name| (name.to_string(), key.clone()))
        .collect();
    let token = seen(&metadata, SERVICE_TOKEN).unwrap();
    let verify = |own| ServiceVerifier::new(own, &keys).unwrap().verify(&token);
    assert_eq!(verify(ServiceName::Auth), Ok(ServiceName::Crm));
    assert!(verify(ServiceName::Tenant).is_err());
}

#[tokio::test]
async fn redis_saves_a_refill_until_a_change_and_a_stale_entry_never_wins() {
    let auth = FakeAuth::start().await;
    let redis = redis("rights");
    let query = somebody();
    let first = holder(&auth, redis.clone()).await;
    assert_eq!(standing(&first, &query).await, Standing::Good);
    let second = holder(&auth, redis.clone()).await;
    assert_eq!(standing(&second, &query).await, Standing::Good);
    assert_eq!(auth.state().asked, 1, "the second took the entry of the first");

    let seen_before_the_start = StoredRights::new(&query, &second.rights(&ctx(), &query).await.unwrap());
    auth.revoke(&query.user.to_string());
    let third = holder(&auth, redis.clone()).await;
    assert_eq!(
        standing(&third, &query).await,
        Standing::Revoked,
        "changed before its start"
    );
    redis.set(&entry::key(&query), &seen_before_the_start, KEPT).await;
    second.inner.renew(0).await;
    assert_eq!(
        standing(&second, &query).await,
        Standing::Revoked,
        "changed while it held"
    );
}

#[tokio::test]
async fn an_entry_of_somebody_else_under_the_key_is_not_believed() {
    let auth = FakeAuth::start().await;
    let redis = redis("foreign");
    let (query, other) = (somebody(), somebody());
    auth.revoke(&query.user.to_string());
    let client = holder(&auth, redis.clone()).await;
    let theirs = client.rights(&ctx(), &other).await.unwrap();
    assert_eq!(theirs.standing, Standing::Good);
    redis
        .set(&entry::key(&query), &StoredRights::new(&other, &theirs), KEPT)
        .await;
    assert_eq!(standing(&client, &query).await, Standing::Revoked);
}

#[tokio::test]
async fn an_auth_that_is_away_is_logged_when_it_goes_and_when_it_is_back() {
    let auth = FakeAuth::start().await;
    let client = holder(&auth, no_redis()).await;
    let log = Log::listen("rowhouse_client", Level::INFO);
    for round in 1..3 {
        auth.state().is_down = true;
        for _ in 0..20 {
            assert_eq!(client.inner.renew(0).await, None);
        }
        assert_eq!(log.lines().len(), 2 * round - 1, "{:?}", log.lines());
        auth.state().is_down = false;
        for _ in 0..20 {
            assert_eq!(client.inner.renew(0).await, Some(Renewal::Quiet));
        }
        assert_eq!(log.lines().len(), 2 * round, "{:?}", log.lines());
    }
    let lost = "WARN the lease of the rights is not renewed; calls will ask auth";
    let found = "INFO auth answers renewals of the lease of the rights again";
    assert_eq!(log.lines(), [lost, found, lost, found]);
}

#[tokio::test]
async fn a_version_that_went_back_is_logged_once_until_it_has_passed() {
    let auth = FakeAuth::start().await;
    auth.state().version = 5;
    let client = holder(&auth, no_redis()).await;
    let log = Log::listen("rowhouse_client", Level::INFO);
    auth.state().version = 3;
    for _ in 0..20 {
        assert_eq!(client.inner.renew(0).await, Some(Renewal::SetBack));
    }
    auth.state().version = 5;
    client.inner.renew(0).await;
    let lines = log.lines();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(
        lines[0].starts_with("ERROR auth's version of the rights went back"),
        "{lines:?}"
    );
    assert!(
        lines[1].starts_with("INFO auth's version of the rights has passed"),
        "{lines:?}"
    );
}

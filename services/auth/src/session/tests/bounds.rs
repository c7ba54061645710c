//! What a person can keep of rows: refreshes of a session, and sessions of an account, are bounded.

use futures_util::future::join_all;
use rowhouse_auth_kit::Role;
use rowhouse_types::SessionId;
use serde_json::json;
use uuid::Uuid;

use crate::error::Error;
use crate::identity::OfferedPassword;
use crate::rights::Standing;
use crate::session::manage::switch;
use crate::session::refresh::refresh;
use crate::session::room::SESSIONS_MAX;
use crate::session::{Attempt, Pair, RefreshToken, actions};
use crate::tests::bench::{Bench, House, PASSWORD, anonymous};
use crate::tests::logs::{from_there, in_order, line, told};

/// Those that were ended for want of room.
const ENDED: &str = "SELECT count(*) FROM auth.sessions WHERE revoke_reason = 'too_many'";

async fn use_up(bench: &Bench, token: &RefreshToken) -> Result<Pair, Error> {
    refresh(&anonymous(), &bench.state, token).await
}

#[tokio::test]
async fn a_session_is_refreshed_so_often_and_goes_on_when_some_time_has_passed() {
    let bench = Bench::start("bounds_refresh").await;
    let house = bench.house("acme").await;
    let first = bench.login(&house.email, PASSWORD, None).await.unwrap();
    // Three and a half times 150 seconds; only a call that takes more than a minute would have one more.
    bench
        .execute("UPDATE auth.sessions SET refreshes = 10000, created_at = now() - interval '525 seconds'")
        .await;
    let mut last = use_up(&bench, &first.refresh_token).await.unwrap();
    for _ in 0..3 {
        last = use_up(&bench, &last.refresh_token).await.unwrap();
    }
    for _ in 0..3 {
        let refused = use_up(&bench, &last.refresh_token).await.map(drop);
        assert!(matches!(refused, Err(Error::TooManyAttempts { .. })), "{refused:?}");
    }
    let tokens = "SELECT count(*) FROM auth.refresh_tokens";
    assert_eq!(bench.count(tokens).await, 5, "what is refused leaves no row");
    assert_eq!(bench.standing(&last).await, Standing::Good);
    bench
        .execute("UPDATE auth.sessions SET created_at = created_at - interval '150 seconds'")
        .await;
    let last = use_up(&bench, &last.refresh_token).await.unwrap();
    // A token that shows a theft is no refresh.
    let stolen = use_up(&bench, &first.refresh_token).await.map(drop);
    assert!(matches!(stolen, Err(Error::RefreshTokenInvalid)), "{stolen:?}");
    assert_eq!(bench.standing(&last).await, Standing::Revoked);
}

#[tokio::test]
async fn who_goes_to_another_tenant_takes_along_how_often_they_have_refreshed() {
    let bench = Bench::start("bounds_along").await;
    let (house, neighbour) = (bench.house("acme").await, bench.house("globex").await);
    bench.join(&neighbour, &house.email, Role::User).await;
    let from = bench.login(&house.email, PASSWORD, Some(house.tenant)).await.unwrap();
    // The control: from one that may be refreshed.
    let pair = switch(&Bench::ctx_in(&from), &bench.state, neighbour.tenant).await;
    use_up(&bench, &pair.unwrap().refresh_token).await.unwrap();
    bench
        .execute("UPDATE auth.sessions SET refreshes = 1000000, created_at = now() - interval '1 day'")
        .await;
    let pair = switch(&Bench::ctx_in(&from), &bench.state, neighbour.tenant).await;
    let refused = use_up(&bench, &pair.unwrap().refresh_token).await.map(drop);
    assert!(matches!(refused, Err(Error::TooManyAttempts { .. })), "{refused:?}");
}

/// Other sessions of somebody, the first of them opened a minute ago and each a minute before the one before.
async fn others(bench: &Bench, pair: &Pair, count: u32) {
    let (user, tenant) = (pair.session.user.uuid(), pair.session.tenant.unwrap().uuid());
    bench
        .execute(&format!(
            "INSERT INTO auth.sessions (id, identity_id, tenant_id, expires_at, created_at)
             SELECT gen_random_uuid(), '{user}', '{tenant}', now() + interval '1 day', now() - n * interval '1 minute'
             FROM generate_series(1, {count}) AS n"
        ))
        .await;
}

#[tokio::test]
async fn a_log_in_beyond_two_hundred_ends_the_session_that_was_refreshed_the_longest_ago() {
    let bench = Bench::start("bounds_sessions").await;
    let house = bench.house("acme").await;
    let used = bench.login(&house.email, PASSWORD, None).await.unwrap();
    // Opened before all others, and refreshed after them.
    bench
        .execute("UPDATE auth.sessions SET created_at = now() - interval '10 days'")
        .await;
    others(&bench, &used, 198).await;
    // The control: the two hundredth ends none.
    bench.login(&house.email, PASSWORD, None).await.unwrap();
    assert_eq!(bench.count(ENDED).await, 0);
    // An operator's session as the person is not the person's, and neither are another's.
    let operators = format!(
        "INSERT INTO auth.sessions (id, identity_id, tenant_id, expires_at, created_at, impersonator_id, origin_id)
         SELECT gen_random_uuid(), '{}', '{}', now() + interval '1 hour', now() - interval '20 days', gen_random_uuid(),
             gen_random_uuid() FROM generate_series(1, 5)",
        used.session.user.uuid(),
        house.tenant.uuid()
    );
    bench.execute(&operators).await;
    let other = bench.house("globex").await;
    bench.login(&other.email, PASSWORD, None).await.unwrap();
    assert_eq!(bench.count(ENDED).await, 0);
    let last = bench.login(&house.email, PASSWORD, None).await.unwrap();
    let oldest = "SELECT count(*) FROM auth.sessions WHERE revoke_reason = 'too_many' \
        AND created_at < now() - interval '197 minutes' AND impersonator_id IS NULL";
    assert_eq!((bench.count(ENDED).await, bench.count(oldest).await), (1, 1));
    for pair in [&used, &last] {
        assert_eq!(bench.standing(pair).await, Standing::Good);
    }
    let told = format!(
        "SELECT count(*) FROM auth.audit WHERE action = 'session.end' AND after->>'reason' = 'too_many' \
         AND tenant_id = '{}'",
        house.tenant.uuid()
    );
    assert_eq!(bench.count(&told).await, 1);
}

#[tokio::test]
async fn of_thousands_from_before_there_was_a_bound_each_log_in_ends_some() {
    let bench = Bench::start("bounds_backlog").await;
    let house = bench.house("acme").await;
    let first = bench.login(&house.email, PASSWORD, None).await.unwrap();
    others(&bench, &first, 398).await;
    for ended in [100, 200, 202] {
        bench.login(&house.email, PASSWORD, None).await.unwrap();
        assert_eq!(bench.count(ENDED).await, ended);
    }
}

#[tokio::test]
async fn what_log_ins_at_once_have_too_many_the_next_one_ends() {
    let bench = Bench::start("bounds_at_once").await;
    let house = bench.house("acme").await;
    let first = bench.login(&house.email, PASSWORD, None).await.unwrap();
    others(&bench, &first, SESSIONS_MAX - 2).await;
    let at_once = join_all((0..4).map(|_| bench.login(&house.email, PASSWORD, None))).await;
    assert!(
        at_once.iter().all(Result::is_ok),
        "{:?}",
        at_once.into_iter().find_map(Result::err)
    );
    let last = bench.login(&house.email, PASSWORD, None).await.unwrap();
    let left = bench
        .count("SELECT count(*) FROM auth.sessions WHERE revoked_at IS NULL")
        .await;
    assert_eq!(left, i64::from(SESSIONS_MAX));
    assert_eq!(bench.standing(&last).await, Standing::Good);
}

#[tokio::test]
async fn who_goes_to_another_tenant_keeps_the_session_that_they_come_from() {
    let bench = Bench::start("bounds_switch").await;
    let (house, neighbour) = (bench.house("acme").await, bench.house("globex").await);
    bench.join(&neighbour, &house.email, Role::User).await;
    let from = bench.login(&house.email, PASSWORD, Some(house.tenant)).await.unwrap();
    others(&bench, &from, 199).await;
    // The one that is to go first, were it not the caller's.
    bench
        .execute("UPDATE auth.refresh_tokens SET created_at = now() - interval '10 days'")
        .await;
    let House { tenant, .. } = neighbour;
    let pair = switch(&Bench::ctx_in(&from), &bench.state, tenant).await.unwrap();
    assert_eq!(bench.count(ENDED).await, 1);
    for pair in [&from, &pair] {
        assert_eq!(bench.standing(pair).await, Standing::Good);
    }
}

#[tokio::test]
async fn a_tenant_is_not_told_from_where_a_log_in_to_another_has_ended_a_session_in_it() {
    let bench = Bench::start("bounds_told").await;
    let (acme, globex) = (bench.house("acme").await, bench.house("globex").await);
    bench.join(&globex, &acme.email, Role::User).await;
    let there = bench.login(&acme.email, PASSWORD, Some(globex.tenant)).await.unwrap();
    others(&bench, &there, 199).await;
    for (tenant, is_there) in [(acme.tenant, false), (globex.tenant, true)] {
        let attempt = Attempt {
            email: acme.email.parse().unwrap(),
            password: OfferedPassword::parse(PASSWORD).unwrap(),
            tenant: Some(tenant),
            second_factor: None,
            device: None,
        };
        let call = from_there(anonymous());
        let pair = actions::login(&call, &bench.state, &attempt).await.unwrap();
        let last = "SELECT id FROM auth.sessions WHERE revoke_reason = 'too_many' ORDER BY revoked_at DESC LIMIT 1";
        let last: Uuid = sqlx::query_scalar(last).fetch_one(&bench.superuser).await.unwrap();
        let ended = line(
            Some(globex.tenant),
            "session.end",
            acme.admin,
            SessionId::from_uuid(last),
        );
        let ended = ended.after(json!({ "reason": "too_many" }));
        let ended = if is_there { ended } else { ended.without_address() };
        let opened = line(Some(tenant), "session.open", acme.admin, pair.session.id);
        assert_eq!(told(&bench, &call).await, in_order(vec![ended, opened]));
    }
}

#[tokio::test]
async fn a_session_that_has_ended_goes_after_a_day_where_a_later_one_tells_from_where_it_was() {
    let bench = Bench::start("bounds_ended").await;
    let house = bench.house("acme").await;
    let session = |id: u32, address: &str| {
        format!(
            "INSERT INTO auth.sessions (id, identity_id, tenant_id, address, expires_at, revoked_at, revoke_reason)
             VALUES ('00000000-0000-7000-8000-00000000000{id}', '{}', '{}', '{address}', now() + interval '50 days',
                 now() - interval '24 hours 30 minutes', 'logout')",
            house.admin.uuid(),
            house.tenant.uuid()
        )
    };
    for (id, address) in [(1, "192.0.2.1"), (2, "192.0.2.1"), (3, "192.0.2.2")] {
        bench.execute(&session(id, address)).await;
    }
    crate::housekeeping::tidy(&bench.state).await.unwrap();
    let left =
        "SELECT count(*) FROM auth.sessions WHERE id::text LIKE '%000000000002' OR id::text LIKE '%000000000003'";
    assert_eq!(
        (
            bench.count("SELECT count(*) FROM auth.sessions").await,
            bench.count(left).await
        ),
        (2, 2)
    );
}

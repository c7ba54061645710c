//! An access token does not outlast its session, whatever ends that by time.

use chrono::Utc;
use rowhouse_auth_kit::Role;
use rowhouse_status::wire::code;
use rowhouse_status::{Failure, Reason};
use tonic::Code;

use crate::error::Error;
use crate::rights::Standing;
use crate::session::manage::switch;
use crate::session::refresh::refresh;
use crate::session::{Pair, RefreshToken};
use crate::tests::bench::{Bench, House, PASSWORD, anonymous};

/// Ends every session in four minutes: a token of its own would last five.
const ENDS_SOON: &str = "UPDATE auth.sessions SET expires_at = now() + interval '4 minutes'";

/// Lets sessions last a quarter of an hour in every tenant.
const POLICY: &str = "INSERT INTO auth.login_policies (tenant_id, session_lifetime_s) SELECT id, 900 FROM auth.tenants";

/// Under which every session ends in four minutes.
const BEGUN_EARLIER: &str = "UPDATE auth.sessions SET created_at = now() - interval '11 minutes'";

/// A member of two tenants, logged in to the first, which let sessions last a quarter of an hour.
async fn of_two_tenants(bench: &Bench) -> (Pair, House, House) {
    let house = bench.house("acme").await;
    let neighbour = bench.house("globex").await;
    let email = "ada@acme.example";
    bench.member(&house, email, Role::User).await;
    bench.join(&neighbour, email, Role::User).await;
    let pair = bench.login(email, PASSWORD, Some(house.tenant)).await.unwrap();
    bench.execute(POLICY).await;
    (pair, house, neighbour)
}

async fn use_up(bench: &Bench, token: &RefreshToken) -> Pair {
    refresh(&anonymous(), &bench.state, token).await.unwrap()
}

/// A time of a session, in whole seconds since 1970.
async fn at(bench: &Bench, pair: &Pair, time: &str) -> i64 {
    let id = pair.session.id.uuid();
    let sql = format!("SELECT floor(extract(epoch FROM {time}))::bigint FROM auth.sessions WHERE id = '{id}'");
    bench.count(&sql).await
}

#[tokio::test]
async fn a_token_ends_with_a_session_that_ends_sooner() {
    let bench = Bench::start("ends_session").await;
    let house = bench.house("acme").await;
    let password = bench.operator("first@rowhouse.example").await;
    let begun = Utc::now().timestamp();
    let member = bench.login(&house.email, PASSWORD, None).await.unwrap();
    let operator = bench.login("first@rowhouse.example", &password, None).await.unwrap();
    // The control: sessions that go on.
    for pair in [&member, &operator] {
        assert!(pair.expires.timestamp() >= begun + 300);
    }
    bench.execute(ENDS_SOON).await;
    for pair in [member, operator] {
        let next = use_up(&bench, &pair.refresh_token).await;
        assert_eq!(next.expires.timestamp(), at(&bench, &next, "expires_at").await);
    }
}

#[tokio::test]
async fn a_token_ends_when_the_tenant_ends_the_session() {
    let bench = Bench::start("ends_policy").await;
    let house = bench.house("acme").await;
    let pair = bench.login(&house.email, PASSWORD, None).await.unwrap();
    bench.execute(POLICY).await;
    bench.execute(BEGUN_EARLIER).await;
    let next = use_up(&bench, &pair.refresh_token).await;
    let ends = at(&bench, &next, "created_at + interval '15 minutes'").await;
    assert_eq!(next.expires.timestamp(), ends);
}

/// No policy can ask for so little; the first token of a session is made by the same rule all the same.
#[tokio::test]
async fn the_token_of_a_log_in_ends_when_the_tenant_ends_the_session() {
    let bench = Bench::start("ends_login").await;
    let house = bench.house("acme").await;
    let policy = format!(
        "ALTER TABLE auth.login_policies DROP CONSTRAINT login_policies_session_lifetime;
         INSERT INTO auth.login_policies (tenant_id, session_lifetime_s) VALUES ('{}', 240)",
        house.tenant.uuid()
    );
    bench.execute(&policy).await;
    let pair = bench.login(&house.email, PASSWORD, None).await.unwrap();
    let ends = at(&bench, &pair, "created_at + interval '4 minutes'").await;
    assert_eq!(pair.expires.timestamp(), ends);
}

#[tokio::test]
async fn who_goes_to_another_tenant_goes_for_as_long_as_that_one_allows() {
    let bench = Bench::start("ends_switch").await;
    let (pair, house, neighbour) = of_two_tenants(&bench).await;
    bench.execute(BEGUN_EARLIER).await;
    let ada = Bench::ctx_in(&pair);
    let there = switch(&ada, &bench.state, neighbour.tenant).await.unwrap();
    let ends = at(&bench, &there, "created_at + interval '15 minutes'").await;
    assert_eq!(there.expires.timestamp(), ends);

    // Nothing is left of it there: no session is opened that could not act. Here it goes on, and that is what is answered.
    let older = format!(
        "UPDATE auth.sessions SET created_at = now() - interval '16 minutes';
         DELETE FROM auth.login_policies WHERE tenant_id = '{}'",
        house.tenant.uuid()
    );
    bench.execute(&older).await;
    let refused = switch(&ada, &bench.state, neighbour.tenant).await.map(drop);
    assert!(matches!(refused, Err(Error::SessionTooOld)), "{refused:?}");
    let reason = Failure::from(refused.unwrap_err()).reason();
    assert_eq!(
        (reason, code(reason)),
        (Reason::SessionTooOld, Code::FailedPrecondition)
    );
    assert_eq!(bench.standing(&pair).await, Standing::Good);
    let opened = format!(
        "SELECT count(*) FROM auth.sessions WHERE tenant_id = '{}' AND identity_id = '{}'",
        neighbour.tenant.uuid(),
        pair.session.user.uuid()
    );
    assert_eq!(bench.count(&opened).await, 1);
}

/// A call of which its session has ended on the way, as in its last second, is not told that the session goes on.
#[tokio::test]
async fn who_goes_to_another_tenant_when_nothing_is_left_of_the_session_hears_that_it_has_ended() {
    let bench = Bench::start("ends_switch_late").await;
    let (pair, house, neighbour) = of_two_tenants(&bench).await;
    let over = "UPDATE auth.sessions SET created_at = now() - interval '16 minutes'";
    bench.execute(over).await;
    let ada = Bench::ctx_in(&pair);
    let refused = switch(&ada, &bench.state, neighbour.tenant).await.map(drop);
    assert!(matches!(refused, Err(Error::Revoked)), "{refused:?}");
    // The control: it goes on where it is.
    let longer = format!(
        "UPDATE auth.login_policies SET session_lifetime_s = 3600 WHERE tenant_id = '{}'",
        house.tenant.uuid()
    );
    bench.execute(&longer).await;
    let refused = switch(&ada, &bench.state, neighbour.tenant).await.map(drop);
    assert!(matches!(refused, Err(Error::SessionTooOld)), "{refused:?}");
}

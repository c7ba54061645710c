//! What the audit logs keep of log-ins that failed, and of refresh tokens whose session is over.

use rowhouse_auth_kit::Role;
use rowhouse_context::{Ctx, Principal};
use rowhouse_types::{TenantId, UserId};
use serde_json::Value;

use crate::error::Error;
use crate::identity::OfferedPassword;
use crate::session::actions::logout;
use crate::session::refresh::refresh;
use crate::session::{self, Pair, RefreshToken, actions};
use crate::tests::bench::{Bench, PASSWORD, Told, ctx, why};

const LOGIN: &str = "rowhouse.auth.v1.AuthService/Login";
const REFRESH: &str = "rowhouse.auth.v1.AuthService/Refresh";
const WRONG: &str = "wrong horse battery";

async fn fail(bench: &Bench, from: &str, email: &str) {
    fail_at(bench, from, email, None).await;
}

async fn fail_at(bench: &Bench, from: &str, email: &str, named: Option<TenantId>) {
    let from: Ctx = ctx(Principal::Anonymous, None).with_origin(None, Some(from.to_owned()));
    let attempt = session::Attempt {
        email: email.parse().unwrap(),
        password: OfferedPassword::parse(WRONG).unwrap(),
        tenant: named,
        second_factor: None,
        device: None,
    };
    assert!(actions::login(&from, &bench.state, &attempt).await.is_err());
}

fn of(tenant: TenantId, user: UserId, from: &str, why: Value) -> Told {
    (Some(tenant.uuid()), user.to_string(), Some(from.to_owned()), why)
}

#[tokio::test]
async fn a_member_s_failed_log_ins_stand_in_the_log_of_each_of_their_tenants() {
    let bench = Bench::start("failed_logins").await;
    let (acme, globex) = (bench.house("acme").await, bench.house("globex").await);
    // One person in two tenants, and one in one.
    bench.join(&globex, &acme.email, Role::User).await;
    for _ in 0..3 {
        fail(&bench, "192.0.2.1", &acme.email).await;
    }
    fail(&bench, "192.0.2.2", &globex.email).await;
    fail(&bench, "192.0.2.3", "nobody@acme.example").await;
    fail(&bench, "192.0.2.3", "nobody@globex.example").await;
    bench.login(&acme.email, PASSWORD, Some(acme.tenant)).await.unwrap();

    let mut wanted = vec![
        of(acme.tenant, acme.admin, "192.0.2.1", why("LOGIN_FAILED", 3)),
        of(globex.tenant, acme.admin, "192.0.2.1", why("LOGIN_FAILED", 3)),
        of(globex.tenant, globex.admin, "192.0.2.2", why("LOGIN_FAILED", 1)),
    ];
    wanted.sort_by_key(|(tenant, target, ..)| (*tenant, target.clone()));
    // Whom the platform's is about nobody knows, only where it came from.
    wanted.push((
        None,
        String::new(),
        Some("192.0.2.3".to_owned()),
        why("LOGIN_FAILED", 2),
    ));
    assert_eq!(bench.told(LOGIN).await, wanted);
    let named = "SELECT count(*) FROM auth.audit AS a WHERE a::text LIKE '%@%'";
    assert_eq!(
        bench.count(named).await,
        0,
        "the audit log holds no addresses of people"
    );
}

#[tokio::test]
async fn who_has_to_wait_is_recorded_as_that() {
    let bench = Bench::start("failed_waits").await;
    let house = bench.house("acme").await;
    for _ in 0..8 {
        fail(&bench, "192.0.2.1", &house.email).await;
    }
    let wanted = [
        of(house.tenant, house.admin, "192.0.2.1", why("LOGIN_FAILED", 6)),
        of(house.tenant, house.admin, "192.0.2.1", why("TOO_MANY_ATTEMPTS", 2)),
    ];
    assert_eq!(bench.told(LOGIN).await, wanted);
}

/// Who guesses chooses what to name, and finds the password by it all the same.
#[tokio::test]
async fn naming_a_tenant_that_somebody_is_not_in_keeps_no_guess_from_those_that_they_are_in() {
    let bench = Bench::start("failed_named").await;
    let (acme, globex) = (bench.house("acme").await, bench.house("globex").await);
    let left = bench.house("initech").await;
    for house in [&globex, &left] {
        bench.join(house, &acme.email, Role::User).await;
    }
    let leaves = format!(
        "UPDATE auth.memberships SET state = 'disabled' WHERE tenant_id = '{}' AND identity_id = '{}'",
        left.tenant.uuid(),
        acme.admin.uuid()
    );
    bench.execute(&leaves).await;
    for foreign in [bench.house("umbrella").await.tenant, left.tenant, TenantId::generate()] {
        fail_at(&bench, "192.0.2.1", &acme.email, Some(foreign)).await;
    }
    // One that they are in is the only one that it is about.
    fail_at(&bench, "192.0.2.2", &acme.email, Some(acme.tenant)).await;
    fail_at(&bench, "192.0.2.3", "nobody@acme.example", Some(acme.tenant)).await;

    let mut wanted = vec![
        of(acme.tenant, acme.admin, "192.0.2.1", why("LOGIN_FAILED", 3)),
        of(acme.tenant, acme.admin, "192.0.2.2", why("LOGIN_FAILED", 1)),
        of(globex.tenant, acme.admin, "192.0.2.1", why("LOGIN_FAILED", 3)),
    ];
    wanted.sort_by_key(|(tenant, _, from, _)| (*tenant, from.clone()));
    wanted.push((
        None,
        String::new(),
        Some("192.0.2.3".to_owned()),
        why("LOGIN_FAILED", 1),
    ));
    assert_eq!(bench.told(LOGIN).await, wanted);
}

/// Presents a refresh token that is not good.
async fn present(bench: &Bench, token: &RefreshToken) {
    let thief = ctx(Principal::Anonymous, None).with_origin(None, Some("192.0.2.1".to_owned()));
    let refused = refresh(&thief, &bench.state, token).await.map(drop);
    assert!(matches!(refused, Err(Error::RefreshTokenInvalid)), "{refused:?}");
}

fn of_session(pair: &Pair, times: u64) -> Told {
    let tenant = pair.session.tenant.map(|tenant| tenant.uuid());
    let why = why("REFRESH_TOKEN_INVALID", times);
    (tenant, pair.session.id.to_string(), Some("192.0.2.1".to_owned()), why)
}

/// Somebody else may have it, and goes on trying.
#[tokio::test]
async fn a_refresh_token_whose_session_is_over_stands_in_the_log_of_where_the_session_was() {
    let bench = Bench::start("failed_refreshes").await;
    let house = bench.house("acme").await;
    let password = bench.operator("root@rowhouse.example").await;
    let member = bench.login(&house.email, PASSWORD, None).await.unwrap();
    let operator = bench.login("root@rowhouse.example", &password, None).await.unwrap();
    let expired = bench.login(&house.email, PASSWORD, None).await.unwrap();
    for pair in [&member, &operator] {
        logout(&Bench::ctx_in(pair), &bench.state).await.unwrap();
    }
    let over = format!(
        "UPDATE auth.sessions SET expires_at = now() - interval '1 second' WHERE id = '{}'",
        expired.session.id.uuid()
    );
    bench.execute(&over).await;
    for pair in [&member, &member, &operator, &expired] {
        present(&bench, &pair.refresh_token).await;
    }
    let mut wanted = [
        of_session(&member, 2),
        of_session(&expired, 1),
        of_session(&operator, 1),
    ];
    // By the session, the platform's last.
    wanted[..2].sort_by_key(|(_, session, ..)| session.clone());
    assert_eq!(bench.told(REFRESH).await, wanted);
}

/// The tenant lets no session last so long: that ends it as well.
#[tokio::test]
async fn a_refresh_token_of_who_may_do_nothing_any_more_is_told_too() {
    let bench = Bench::start("failed_refreshes_standing").await;
    let house = bench.house("acme").await;
    let pair = bench.login(&house.email, PASSWORD, None).await.unwrap();
    bench
        .execute(
            "INSERT INTO auth.login_policies (tenant_id, session_lifetime_s) SELECT id, 900 FROM auth.tenants;
             UPDATE auth.sessions SET created_at = now() - interval '16 minutes'",
        )
        .await;
    present(&bench, &pair.refresh_token).await;
    assert_eq!(bench.told(REFRESH).await, [of_session(&pair, 1)]);
}

/// The control: what says nothing about a theft fills no log.
#[tokio::test]
async fn a_refresh_token_that_is_good_too_old_or_invented_is_told_to_nobody() {
    let bench = Bench::start("good_refreshes").await;
    let house = bench.house("acme").await;
    let pair = bench.login(&house.email, PASSWORD, None).await.unwrap();
    let from = ctx(Principal::Anonymous, None).with_origin(None, Some("192.0.2.1".to_owned()));
    let next = refresh(&from, &bench.state, &pair.refresh_token).await.unwrap();
    bench
        .execute("UPDATE auth.refresh_tokens SET expires_at = now() - interval '1 second'")
        .await;
    for refused in [next.refresh_token, RefreshToken::generate().unwrap()] {
        present(&bench, &refused).await;
    }
    assert_eq!(bench.told(REFRESH).await, []);
}

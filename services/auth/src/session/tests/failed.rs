//! What the audit logs keep of log-ins that failed.

use rowhouse_auth_kit::Role;
use rowhouse_context::{Ctx, Principal};
use rowhouse_types::{TenantId, UserId};
use serde_json::Value;

use crate::identity::OfferedPassword;
use crate::session::{self, actions};
use crate::tests::bench::{Bench, PASSWORD, Told, ctx, why};

const LOGIN: &str = "rowhouse.auth.v1.AuthService/Login";
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

//! What the audit logs keep of log-ins that failed.

use rowhouse_audit::ControlLog;
use rowhouse_auth_kit::Role;
use rowhouse_context::{Ctx, Principal};
use rowhouse_types::{TenantId, UserId};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::audit::TABLE;
use crate::identity::OfferedPassword;
use crate::session::{self, actions};
use crate::tests::bench::{Bench, PASSWORD, ctx};

const WRONG: &str = "wrong horse battery";

/// One entry: whose log, whom it was about, from where, what it says of why.
type Kept = (Option<Uuid>, String, Option<String>, Value);

async fn fail(bench: &Bench, from: &str, email: &str) {
    let from: Ctx = ctx(Principal::Anonymous, None).with_origin(None, Some(from.to_owned()));
    let attempt = session::Attempt {
        email: email.parse().unwrap(),
        password: OfferedPassword::parse(WRONG).unwrap(),
        tenant: None,
        second_factor: None,
    };
    assert!(actions::login(&from, &bench.state, &attempt).await.is_err());
}

/// Writes what was counted, and reads it back.
async fn kept(bench: &Bench) -> Vec<Kept> {
    let stop = CancellationToken::new();
    stop.cancel();
    let log = ControlLog::new(bench.state.db.pool().clone(), TABLE);
    bench.state.failed_logins.run(&log, stop).await;
    let rows = "SELECT tenant_id, target, address, after FROM auth.audit \
        WHERE action = 'rowhouse.auth.v1.AuthService/Login' AND outcome = 'refused' AND actor = 'anonymous' \
        ORDER BY tenant_id NULLS LAST, target, address, after->>'reason'";
    sqlx::query_as(rows).fetch_all(&bench.superuser).await.unwrap()
}

fn why(reason: &str, times: u64) -> Value {
    serde_json::json!({ "reason": reason, "permission": null, "times": times })
}

fn of(tenant: TenantId, user: UserId, from: &str, why: Value) -> Kept {
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
    assert_eq!(kept(&bench).await, wanted);
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
    assert_eq!(kept(&bench).await, wanted);
}

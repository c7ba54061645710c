//! What is counted together, what is bounded, and what is written.

use rowhouse_context::RequestId;
use rowhouse_types::{SessionId, UserId};

use super::*;

fn refusal(tenant: TenantId, rpc: &'static str) -> Refusal {
    let principal = Principal::Member {
        user: UserId::from_uuid(uuid::Uuid::nil()),
        session: SessionId::generate(),
        tenant,
    };
    Refusal {
        ctx: Ctx::new(RequestId::generate(), principal, Some(tenant), Instant::now()),
        rpc,
        reason: "PERMISSION_MISSING",
        permission: Some("contacts:delete".to_owned()),
        target: String::new(),
    }
}

fn times(entries: &[Entry]) -> Vec<(String, u64)> {
    let mut times: Vec<(String, u64)> = entries
        .iter()
        .map(|entry| {
            let after = entry.after.as_ref().unwrap();
            (entry.action.clone(), after["times"].as_u64().unwrap())
        })
        .collect();
    times.sort();
    times
}

#[test]
fn the_first_is_written_at_once_and_what_repeats_as_a_number() {
    let refusals = Refusals::new(ServiceName::Crm);
    let tenant = TenantId::generate();
    let now = Instant::now();
    refusals.refused(refusal(tenant, "A/B"));
    let first = refusals.take(|due| due <= now + Duration::from_millis(100));
    assert_eq!(times(&first), [("A/B".to_owned(), 1)]);
    assert_eq!((first[0].outcome.as_str(), first[0].tenant), (REFUSED, Some(tenant)));
    for _ in 0..500 {
        refusals.refused(refusal(tenant, "A/B"));
    }
    assert_eq!(refusals.take(|due| due <= now + WINDOW / 2), []);
    assert_eq!(times(&refusals.take(|_| true)), [("A/B".to_owned(), 500)]);
    assert_eq!(refusals.take(|_| true), [], "and then it is forgotten");
    assert!(refusals.refused.lock().unwrap().known.is_empty());
}

#[test]
fn one_tenants_flood_is_bounded_and_leaves_room_for_its_neighbour() {
    const RPCS: [&str; 3] = ["A/B", "A/C", "A/D"];
    let refusals = Refusals::new(ServiceName::Crm);
    let (flood, neighbour) = (TenantId::generate(), TenantId::generate());
    for at in 0..PER_TENANT_MAX * 3 {
        let mut one = refusal(flood, RPCS[at % 3]);
        one.permission = Some(format!("p{at}"));
        refusals.refused(one);
    }
    refusals.refused(refusal(neighbour, "A/B"));
    let entries = refusals.take(|_| true);
    let of = |tenant| entries.iter().filter(move |entry| entry.tenant == Some(tenant));
    assert_eq!((of(flood).count(), of(neighbour).count()), (PER_TENANT_MAX + 1, 1));
    let others: Vec<Entry> = of(flood).filter(|entry| entry.action == OTHERS).cloned().collect();
    let beyond = u64::try_from(PER_TENANT_MAX * 2).unwrap();
    assert_eq!(times(&others), [(OTHERS.to_owned(), beyond)]);
}

#[test]
fn many_machines_at_one_account_do_not_hide_what_else_is_refused() {
    let refusals = Refusals::new(ServiceName::Auth);
    let tenant = TenantId::generate();
    let attempt = |target: &str, address: String| Refusal {
        ctx: Ctx::new(
            RequestId::generate(),
            Principal::Anonymous,
            Some(tenant),
            Instant::now(),
        )
        .with_origin(None, Some(address)),
        rpc: "A/Login",
        reason: "LOGIN_FAILED",
        permission: None,
        target: target.to_owned(),
    };
    for at in 0..500 {
        refusals.refused(attempt("user_one", format!("192.0.2.{at}")));
    }
    refusals.refused(attempt("user_two", "192.0.2.1".to_owned()));
    let entries = refusals.take(|_| true);
    let of = |target: &'static str| entries.iter().filter(move |entry| entry.target == target);
    assert_eq!((of("user_one").count(), of("user_two").count()), (ADDRESSES_MAX + 1, 1));
    assert!(entries.iter().all(|entry| entry.action != OTHERS));
    let all: u64 = times(&entries).into_iter().map(|(_, times)| times).sum();
    assert_eq!(all, 501);
    refusals.take(|_| true);
    assert!(
        refusals.refused.lock().unwrap().addresses.is_empty(),
        "and then it is forgotten"
    );
}

/// A call of an operator who was let in.
fn access(operator: UserId, tenant: TenantId, why: &str, rpc: &'static str) -> Access {
    let principal = Principal::Operator {
        user: operator,
        session: SessionId::generate(),
    };
    let ctx = Ctx::new(RequestId::generate(), principal, Some(tenant), Instant::now());
    Access {
        ctx: ctx.with_origin(Some(why.to_owned()), None),
        rpc,
    }
}

#[test]
fn an_operator_who_is_let_in_is_one_entry_for_each_reason_and_minute() {
    let refusals = Refusals::new(ServiceName::Crm);
    let (operator, tenant, now) = (UserId::generate(), TenantId::generate(), Instant::now());
    refusals.let_in(access(operator, tenant, "ticket 7", "A/List"));
    let first = refusals.take(|due| due <= now + Duration::from_millis(100));
    let [entry] = &first[..] else {
        panic!("{first:?}");
    };
    assert_eq!(
        (entry.action.as_str(), entry.outcome.as_str()),
        ("operator.access", "done")
    );
    assert_eq!((entry.tenant, &entry.actor), (Some(tenant), &operator.to_string()));
    assert_eq!(entry.reason.as_deref(), Some("ticket 7"));
    assert_eq!(entry.after, Some(json!({ "rpc": "A/List", "times": 1 })));

    // Page by page, and whatever else for the same reason.
    for at in 0..500 {
        refusals.let_in(access(operator, tenant, "ticket 7", ["A/Get", "A/List"][at % 2]));
    }
    assert_eq!(refusals.take(|due| due <= now + WINDOW / 2), []);
    // Another reason, another operator and another tenant are told apart.
    refusals.let_in(access(operator, tenant, "ticket 8", "A/Get"));
    refusals.let_in(access(UserId::generate(), tenant, "ticket 7", "A/Get"));
    refusals.let_in(access(operator, TenantId::generate(), "ticket 7", "A/Get"));
    let entries = refusals.take(|_| true);
    assert_eq!(entries.len(), 4);
    let again = entries
        .iter()
        .find(|entry| entry.after == Some(json!({ "rpc": "A/Get", "times": 500 })));
    assert_eq!(again.and_then(|entry| entry.reason.as_deref()), Some("ticket 7"));
    assert_eq!(refusals.take(|_| true), [], "and then it is forgotten");
    assert!(refusals.let_in.lock().unwrap().known.is_empty());
}

/// Whoever gives a thousand reasons, or is refused a thousand things meanwhile, is seen all the same.
#[test]
fn no_flood_hides_who_was_let_in() {
    let refusals = Refusals::new(ServiceName::Crm);
    let (operator, tenant) = (UserId::generate(), TenantId::generate());
    for at in 0..PER_TENANT_MAX * 3 {
        let mut one = refusal(tenant, "A/B");
        one.permission = Some(format!("p{at}"));
        refusals.refused(one);
        refusals.let_in(access(operator, tenant, &format!("ticket {at}"), "A/List"));
    }
    let late = UserId::generate();
    refusals.let_in(access(late, tenant, "ticket 9", "A/Get"));
    let entries = refusals.take(|_| true);
    let of = |user: UserId| entries.iter().filter(move |entry| entry.actor == user.to_string());
    assert_eq!(of(operator).count(), PER_TENANT_MAX + 1);
    let beyond = of(operator)
        .find(|entry| entry.reason.as_deref() == Some(SEVERAL))
        .unwrap();
    let times = PER_TENANT_MAX * 2;
    assert_eq!(
        beyond.after,
        Some(json!({ "rpc": "A/List", "times": times, "first_reason": "ticket 100" }))
    );
    assert_eq!(of(late).count(), 1, "by name, whoever else was let in");
    let refused = entries.iter().filter(|entry| entry.outcome == REFUSED);
    assert_eq!(
        refused.count(),
        PER_TENANT_MAX + 1,
        "and neither takes the other's room"
    );
}

//! The log of a control schema: sealed as it is written, read by filters, and whatever is done to it shows.

mod actions;
mod sealing;

use rowhouse_audit::{AuditLog as _, Batch, Chain, Check, ControlLog, Entry, FaultKind, Place, Query};
use rowhouse_context::{Ctx, Principal};
use rowhouse_status::{Failure, Reason};
use rowhouse_types::{SessionId, TenantId, UserId};
use serde_json::json;

use super::logs::is_away;
use super::{TABLE, record};
use crate::tests::bench::{Bench, ctx};

fn log(bench: &Bench) -> ControlLog {
    ControlLog::new(bench.state.db.pool().clone(), TABLE)
}

fn member(tenant: TenantId) -> Ctx {
    let principal = Principal::Member {
        user: UserId::generate(),
        session: SessionId::generate(),
        tenant,
    };
    ctx(principal, Some(tenant))
}

async fn write(bench: &Bench, ctx: &Ctx, action: &'static str) {
    let mut tx = bench.state.begin().await.unwrap();
    let entry = super::Entry::new(action, "user_1")
        .before(json!({ "role": "user" }))
        .after(json!({ "role": "manager", "n": 1.5 }));
    record(&mut tx, ctx, entry).await.unwrap();
    tx.commit().await.unwrap();
}

async fn batches(log: &ControlLog, ctx: &Ctx) -> Vec<Batch> {
    let mut all: Vec<Batch> = Vec::new();
    loop {
        let after = all.last().map_or(0, |batch| batch.seal.number);
        let page = log.seals(ctx, ctx.tenant_opt(), after).await.unwrap();
        if page.is_empty() {
            return all;
        }
        all.extend(page);
    }
}

async fn faults(log: &ControlLog, ctx: &Ctx) -> Vec<FaultKind> {
    let chain = Chain {
        service: TABLE.service,
        tenant: ctx.tenant_opt(),
    };
    let mut check = Check::new(chain, Place::default(), None);
    batches(log, ctx).await.iter().for_each(|batch| check.take(batch));
    check.end(&log.unsealed(ctx, ctx.tenant_opt()).await.unwrap().lost);
    check.faults().iter().map(|fault| fault.kind).collect()
}

#[test]
fn a_service_that_the_tenants_plan_keeps_from_reading_is_named_like_one_that_is_away() {
    let exceeded = Failure::quota(TenantId::generate(), "concurrent_transactions", 1);
    assert!(is_away(&exceeded));
    assert!(!is_away(&Failure::new(
        Reason::TenantSuspended,
        "the tenant is suspended"
    )));
}

/// Whoever has the whole database in hand: each thing that they may do to the log, and what it shows as.
#[tokio::test]
async fn what_is_done_to_the_log_behind_our_back_shows() {
    let bench = Bench::start("auth_audit_tampered").await;
    let log = log(&bench);
    let tampering = [
        ("UPDATE auth.audit SET target = 'user_2'", FaultKind::EntryChanged),
        ("DELETE FROM auth.audit", FaultKind::EntryMissing),
        ("DELETE FROM auth.seals WHERE number = 1", FaultKind::SealMissing),
        (
            "UPDATE auth.seals SET hash = previous WHERE number = 1",
            FaultKind::SealChanged,
        ),
        ("UPDATE auth.audit SET at = '-infinity'", FaultKind::EntryChanged),
        // PostgreSQL knows the year, chrono does not.
        ("UPDATE auth.audit SET at = '290000-01-01'", FaultKind::EntryChanged),
        (
            "UPDATE auth.seals SET entries[1] = NULL WHERE number = 1",
            FaultKind::SealChanged,
        ),
        (
            "UPDATE auth.seals SET sealed_at = 'infinity', hash = '' WHERE number = 1",
            FaultKind::SealChanged,
        ),
        (
            "ALTER TABLE auth.audit DISABLE TRIGGER USER;
             INSERT INTO auth.audit SELECT gen_random_uuid(), at - interval '1 year', tenant_id, actor, on_behalf_of,
                 action, target, before, after, reason, address, request_id, outcome FROM auth.audit LIMIT 1",
            FaultKind::EntryUnsealed,
        ),
    ];
    for (statement, fault) in tampering {
        let one = member(TenantId::generate());
        for _ in 0..2 {
            write(&bench, &one, "member.update").await;
            log.seal(one.tenant_opt()).await.unwrap();
        }
        assert_eq!(faults(&log, &one).await, [], "before");
        bench.execute(statement).await;
        let found = faults(&log, &one).await;
        assert!(found.contains(&fault), "{statement}: {found:?}");
        bench
            .execute("ALTER TABLE auth.audit ENABLE TRIGGER USER; TRUNCATE auth.audit, auth.seals, auth.unsealed")
            .await;
    }
}

#[tokio::test]
async fn entries_are_read_by_each_filter() {
    let bench = Bench::start("auth_audit_filters").await;
    let log = log(&bench);
    let tenant = TenantId::generate();
    let (one, two) = (member(tenant), member(tenant));
    write(&bench, &one, "member.update").await;
    write(&bench, &two, "role.create").await;
    let refused = Entry {
        outcome: "refused".to_owned(),
        ..Entry::done(TABLE.service, &one, "rowhouse.auth.v1.RoleService/CreateRole", "")
    };
    log.note(&refused).await.unwrap();
    let all = Query {
        limit: 10,
        ..Query::default()
    };
    let actions = async |query: Query| -> Vec<String> {
        let page = log.page(&one, Some(tenant), &query).await.unwrap();
        page.into_iter().map(|entry| entry.action).collect()
    };
    let rpc = refused.action.as_str();
    assert_eq!(actions(all.clone()).await, [rpc, "role.create", "member.update"]);
    let text = |text: &str| Some(text.to_owned());
    let middle = log.page(&one, Some(tenant), &all).await.unwrap().remove(1);
    let filters = [
        (
            Query {
                actor: Some(two.principal().actor()),
                ..all.clone()
            },
            vec!["role.create"],
        ),
        (
            Query {
                action: text("member.update"),
                ..all.clone()
            },
            vec!["member.update"],
        ),
        (
            Query {
                action: text("member"),
                ..all.clone()
            },
            vec![],
        ),
        (
            Query {
                target: text("user_1"),
                ..all.clone()
            },
            vec!["role.create", "member.update"],
        ),
        (
            Query {
                outcome: text("refused"),
                ..all.clone()
            },
            vec![rpc],
        ),
        (
            Query {
                request_id: Some(two.request_id().to_string()),
                ..all.clone()
            },
            vec!["role.create"],
        ),
        (
            Query {
                before: Some(middle.id),
                ..all.clone()
            },
            vec!["member.update"],
        ),
        (
            Query {
                from: Some(middle.at),
                ..all.clone()
            },
            vec![rpc, "role.create"],
        ),
        (
            Query {
                to: Some(middle.at),
                ..all.clone()
            },
            vec!["member.update"],
        ),
        (
            Query {
                limit: 1,
                ..all.clone()
            },
            vec![rpc],
        ),
    ];
    for (query, expected) in filters {
        assert_eq!(actions(query.clone()).await, expected, "{query:?}");
    }
    let foreign = member(TenantId::generate());
    assert!(log.page(&foreign, foreign.tenant_opt(), &all).await.unwrap().is_empty());
    assert!(
        log.page(&foreign, None, &all)
            .await
            .unwrap()
            .iter()
            .all(|entry| entry.tenant.is_none())
    );
}

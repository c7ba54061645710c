//! Provisioning on a real database.

use rowhouse_context::Principal;
use rowhouse_types::{OperationId, TenantId};

use super::actions::{create_first_administrator, set_access};
use super::{Access, AccessChange};
use crate::error::Error;
use crate::rights::{Query, Standing, Version};
use crate::tests::bench::{Bench, PASSWORD, founding, service_ctx};
use crate::tests::statements::Statements;

#[tokio::test]
async fn a_repeated_founding_answers_the_same_invitation() {
    let bench = Bench::start("tenant_founding").await;
    let founding = founding(TenantId::generate(), "ada@acme.example");
    let calls = (0..4).map(|_| {
        let (state, founding) = (bench.state.clone(), founding.clone());
        tokio::spawn(async move {
            create_first_administrator(&service_ctx(), &state, &founding)
                .await
                .unwrap()
        })
    });
    let mut answers = Vec::new();
    for call in calls.collect::<Vec<_>>() {
        answers.push(call.await.unwrap());
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]));
    for table in ["invitations", "outbox", "tenants"] {
        assert_eq!(
            bench.count(&format!("SELECT count(*) FROM auth.{table}")).await,
            1,
            "{table}"
        );
    }
    let elsewhere = super::Founding {
        tenant: TenantId::generate(),
        ..founding
    };
    let reused = create_first_administrator(&service_ctx(), &bench.state, &elsewhere).await;
    assert!(matches!(reused, Err(Error::OperationReused)));
}

#[tokio::test]
async fn nobody_acts_in_a_tenant_before_it_is_allowed() {
    let bench = Bench::start("tenant_pending").await;
    let founding = founding(TenantId::generate(), "ada@acme.example");
    let invitation = create_first_administrator(&service_ctx(), &bench.state, &founding)
        .await
        .unwrap();
    bench.accept(invitation, PASSWORD).await.unwrap();
    let early = bench.login("ada@acme.example", PASSWORD, None).await;
    assert!(matches!(early, Err(Error::TenantNotReady)));
    bench.set_access(founding.tenant, Access::Allowed).await;
    assert!(bench.login("ada@acme.example", PASSWORD, None).await.is_ok());
}

#[tokio::test]
async fn a_tenant_is_made_known_once() {
    let bench = Bench::start("tenant_known").await;
    let founding = founding(TenantId::generate(), "ada@acme.example");
    let statements = Statements::listen();
    let made_known = || {
        let sent = statements.take();
        sent.iter()
            .filter(|sent| sent.starts_with("INSERT INTO auth.tenants"))
            .count()
    };
    create_first_administrator(&service_ctx(), &bench.state, &founding)
        .await
        .unwrap();
    assert_eq!(made_known(), 1);
    bench.set_access(founding.tenant, Access::Allowed).await;
    assert_eq!(made_known(), 0, "its access is a round trip cheaper");
    bench.set_access(TenantId::generate(), Access::Suspended).await;
    assert_eq!(made_known(), 1, "one that was never founded");
    assert_eq!(bench.count("SELECT count(*) FROM auth.tenants").await, 2);
}

#[tokio::test]
async fn operations_apply_in_the_order_of_their_time_and_once() {
    let bench = Bench::start("tenant_order").await;
    let tenant = TenantId::generate();
    let (first, second, third) = (
        OperationId::generate(),
        OperationId::generate(),
        OperationId::generate(),
    );
    let apply = |access, operation| {
        let (state, change) = (
            bench.state.clone(),
            AccessChange {
                tenant,
                access,
                operation,
            },
        );
        async move { set_access(&service_ctx(), &state, &change).await.unwrap() }
    };
    let allowed = apply(Access::Allowed, second).await;
    assert_eq!(
        apply(Access::Suspended, first).await,
        allowed,
        "an older one is ignored"
    );
    assert_eq!(apply(Access::Allowed, second).await, allowed, "a repeated one too");
    let suspended = apply(Access::Suspended, third).await;
    assert!(suspended > allowed);
    assert_eq!(apply(Access::Allowed, second).await, suspended);
    let access = "SELECT count(*) FROM auth.tenants WHERE access = 'suspended'";
    assert_eq!(bench.count(access).await, 1);
    assert_eq!(bench.count("SELECT count(*) FROM auth.right_changes").await, 2);
    assert_eq!(bench.count("SELECT version FROM auth.rights_clock").await, suspended.0);
}

#[tokio::test]
async fn a_suspended_tenant_is_closed_to_operators_too() {
    let bench = Bench::start("tenant_operator").await;
    let house = bench.house("acme").await;
    let password = bench.operator("root@rowhouse.example").await;
    let pair = bench.login("root@rowhouse.example", &password, None).await.unwrap();
    let principal = Principal::Operator {
        user: pair.session.user,
        session: pair.session.id,
    };
    let within = Query::of(&principal, Some(house.tenant)).unwrap();
    assert_eq!(bench.rights(within).await.standing, Standing::Good);
    bench.set_access(house.tenant, Access::Suspended).await;
    let rights = bench.rights(within).await;
    assert_eq!((rights.standing, rights.role), (Standing::TenantSuspended, None));
    assert!(rights.version > Version(1));
    assert_eq!(
        bench.rights(Query { tenant: None, ..within }).await.standing,
        Standing::Good
    );
}

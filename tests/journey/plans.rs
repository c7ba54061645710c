//! A plan's bounds, seen by the members of a tenant in every placement and by its neighbour.

mod jobs;
mod mails;
mod statements;
mod transactions;

use anyhow::{Result, bail};
use rowhouse_devkit::caller::Caller;
use rowhouse_devkit::journey;
use rowhouse_devkit::suite::Process;
use rowhouse_proto::auth::v1::WhoAmIRequest;
use rowhouse_proto::common::v1::{Limits, Placement};
use rowhouse_proto::crm::v1::ListContactsRequest;
use rowhouse_proto::tenant::v1::{CreatePlanRequest, Plan, SetTenantPlanRequest};
use rowhouse_proto::worker::v1::GetReportRequest;
use rowhouse_types::{ReportId, TenantId};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::support::database;
use crate::support::redis::Keys;
use crate::support::world::{Member, PLACEMENTS, World, slug_in};

/// Gives a tenant that nobody has used yet a plan of its own: limits are remembered for some seconds once they were asked.
async fn tenant_with(world: &World, placement: Placement, name: &str, limits: Limits) -> Result<Member> {
    let slug = slug_in(placement, name);
    let address = format!("ada@{slug}.example");
    let tenant = journey::create_tenant_in(&world.operator, placement, &slug, &slug, &address).await?;
    let plan = Plan {
        name: slug.clone(),
        display_name: slug.clone(),
        limits: Some(limits),
        ..Plan::default()
    };
    world
        .operator
        .plans()
        .create_plan(CreatePlanRequest { plan: Some(plan) })
        .await?;
    assign(world, &tenant.id, slug, None).await?;
    world.join(&tenant.id, &address).await
}

/// The bounds of a tenant's plan are these from now on.
async fn raise(world: &World, placement: Placement, name: &str, member: &Member, limits: Limits) -> Result<()> {
    assign(world, &member.tokens.tenant_id, slug_in(placement, name), Some(limits)).await
}

async fn assign(world: &World, tenant_id: &str, plan: String, overrides: Option<Limits>) -> Result<()> {
    let request = SetTenantPlanRequest {
        tenant_id: tenant_id.to_owned(),
        plan,
        overrides,
        reason: "a test".to_owned(),
    };
    world.operator.plans().set_tenant_plan(request).await?;
    Ok(())
}

/// A service forgets what it remembers of plans, by which it goes for up to 70 s.
async fn forget(world: &World, process: Process) -> Result<()> {
    Keys::of(&world.suite).await?.flush().await?;
    world.suite.restart(process).await
}

/// The same member on connections of their own: the others may have ended with their process.
fn anew(world: &World, member: &Member) -> Result<Caller> {
    Caller::anonymous(world.suite.endpoints()?).with_token(&member.tokens.access_token)
}

/// Why a call of [`journey`] was refused.
fn refusal<T>(answer: Result<T>) -> Result<Status> {
    match answer {
        Ok(_) => bail!("it was let through"),
        Err(error) => error.downcast(),
    }
}

/// A bound of the member's tenant has refused: whose it is, which one, and what it allows; and when to try again.
#[track_caller]
fn assert_refused(refused: &Status, member: &Member, bound: &str) {
    assert!(over_quota(refused), "{refused:?}");
    let details = refused.get_error_details();
    let violations = details.quota_failure().map(|quota| quota.violations.as_slice());
    let told: Vec<_> = violations
        .unwrap_or_default()
        .iter()
        .map(|violation| (violation.subject.as_str(), violation.description.as_str()))
        .collect();
    assert_eq!(told, [(member.tokens.tenant_id.as_str(), bound)]);
    assert!(details.retry_info().and_then(|info| info.retry_delay).is_some());
}

fn over_quota(status: &Status) -> bool {
    let details = status.get_error_details();
    let reason = details.error_info().map(|info| info.reason.as_str());
    status.code() == Code::ResourceExhausted && reason == Some("QUOTA_EXCEEDED")
}

/// Calls crm, auth and worker in turn until one refuses for the tenant's rate.
async fn until_refused(member: &Member) -> Result<Status> {
    let report = GetReportRequest {
        id: ReportId::generate().to_string(),
    };
    for _ in 0..10_000 {
        let crm = member
            .caller
            .contacts()
            .list_contacts(ListContactsRequest::default())
            .await;
        let auth = member.caller.auth().who_am_i(WhoAmIRequest {}).await;
        let worker = member.caller.reports().get_report(report.clone()).await;
        for refused in [crm.err(), auth.err(), worker.err()].into_iter().flatten() {
            if over_quota(&refused) {
                return Ok(refused);
            }
            anyhow::ensure!(refused.code() == Code::NotFound, "{refused}");
        }
    }
    anyhow::bail!("10,000 rounds passed")
}

#[tokio::test]
async fn a_tenants_calls_are_bounded_over_all_services_and_its_neighbours_are_not() -> Result<()> {
    let world = World::start("plan-rate").await?;
    for placement in PLACEMENTS {
        let limits = Limits {
            requests_per_second: Some(20),
            ..Limits::default()
        };
        let bounded = tenant_with(&world, placement, "bounded", limits).await?;
        let neighbour = tenant_with(&world, placement, "neighbour", Limits::default()).await?;
        let refused = until_refused(&bounded).await?;
        assert_refused(&refused, &bounded, "requests_per_second: at most 20");
        for _ in 0..200 {
            neighbour.caller.auth().who_am_i(WhoAmIRequest {}).await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_plan_bounds_contacts_and_seats_and_is_told_to_the_home() -> Result<()> {
    let world = World::start("plan-bounds").await?;
    for placement in PLACEMENTS {
        bounds_in(&world, placement).await?;
    }
    Ok(())
}

async fn bounds_in(world: &World, placement: Placement) -> Result<()> {
    let limits = Limits {
        contacts: Some(2),
        seats: Some(2),
        statement_timeout_ms: Some(1_234),
        ..Limits::default()
    };
    let ada = tenant_with(world, placement, "small", limits).await?;
    for number in 0..2 {
        journey::create_contact(&ada.caller, "A Contact", &format!("c{number}@small.example")).await?;
    }
    let third = journey::create_contact(&ada.caller, "A Contact", "c3@small.example").await;
    assert_refused(&refusal(third)?, &ada, "contacts: at most 2");

    journey::invite(&ada.caller, "bob@small.example", "user").await?;
    let third = journey::invite(&ada.caller, "carl@small.example", "user").await;
    assert_refused(&refusal(third)?, &ada, "seats: at most 2");

    let who = ada.caller.auth().who_am_i(WhoAmIRequest {}).await?.into_inner();
    let tenant: TenantId = who.tenant_id.parse()?;
    let (client, _) = database::home(world.suite.databases(), placement, tenant).await?;
    let sql = "SELECT limits ->> 'statement_timeout_ms' FROM rowhouse.homes WHERE tenant_id = $1";
    let timeout_ms: String = client.query_one(sql, &[&tenant.uuid()]).await?.get(0);
    assert_eq!(timeout_ms, "1234");
    Ok(())
}

//! A plan's bounds, seen by the members of a tenant in every placement and by its neighbour.

use anyhow::{Context as _, Result};
use rowhouse_devkit::journey;
use rowhouse_proto::auth::v1::WhoAmIRequest;
use rowhouse_proto::common::v1::{Limits, Placement};
use rowhouse_proto::crm::v1::ListContactsRequest;
use rowhouse_proto::tenant::v1::{CreatePlanRequest, Plan, SetTenantPlanRequest};
use rowhouse_proto::worker::v1::GetReportRequest;
use rowhouse_types::{ReportId, TenantId};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::support::database;
use crate::support::world::{Member, PLACEMENTS, World, slug_in};

/// Gives a tenant that nobody has used yet a plan of its own: limits are remembered for some seconds once they were asked.
async fn tenant_with(world: &World, placement: Placement, name: &str, limits: Limits) -> Result<Member> {
    let slug = slug_in(placement, name);
    let address = format!("ada@{slug}.example");
    let tenant = journey::create_tenant_in(&world.operator, placement, &slug, &slug, &address).await?;
    let mut plans = world.operator.plans();
    let plan = Plan {
        name: slug.clone(),
        display_name: slug.clone(),
        limits: Some(limits),
        ..Plan::default()
    };
    plans.create_plan(CreatePlanRequest { plan: Some(plan) }).await?;
    let assign = SetTenantPlanRequest {
        tenant_id: tenant.id.clone(),
        plan: slug,
        overrides: None,
        reason: "a test".to_owned(),
    };
    plans.set_tenant_plan(assign).await?;
    world.join(&tenant.id, &address).await
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
        let details = refused.get_error_details();
        let quota = details.quota_failure().context("the refusal says which quota")?;
        assert_eq!(quota.violations[0].description, "requests_per_second: at most 20");
        assert!(details.retry_info().and_then(|info| info.retry_delay).is_some());
        for _ in 0..200 {
            neighbour.caller.auth().who_am_i(WhoAmIRequest {}).await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_plan_bounds_contacts_seats_and_statements() -> Result<()> {
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
    assert!(third.unwrap_err().downcast_ref::<Status>().is_some_and(over_quota));

    journey::invite(&ada.caller, "bob@small.example", "user").await?;
    let third = journey::invite(&ada.caller, "carl@small.example", "user").await;
    assert!(third.unwrap_err().downcast_ref::<Status>().is_some_and(over_quota));

    let who = ada.caller.auth().who_am_i(WhoAmIRequest {}).await?.into_inner();
    let tenant: TenantId = who.tenant_id.parse()?;
    let (client, _) = database::home(world.suite.databases(), placement, tenant).await?;
    let sql = "SELECT limits ->> 'statement_timeout_ms' FROM rowhouse.homes WHERE tenant_id = $1";
    let timeout_ms: String = client.query_one(sql, &[&tenant.uuid()]).await?.get(0);
    assert_eq!(timeout_ms, "1234");
    Ok(())
}

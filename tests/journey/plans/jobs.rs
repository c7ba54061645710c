//! `jobs_in_flight`: reports that are not finished.

use std::time::Duration;

use anyhow::Result;
use rowhouse_devkit::suite::Process;
use rowhouse_devkit::{cluster, journey};
use rowhouse_proto::common::v1::Limits;
use rowhouse_proto::worker::v1::ReportState;
use rowhouse_types::TenantId;
use tokio_postgres::Client;

use super::{anew, assert_refused, forget, raise, refusal, tenant_with};
use crate::support::world::{Member, PLACEMENTS, World};

/// Reports that are asked for at once.
const ASKED: usize = 4;

/// Longest wait for a report's end: the delay after a fourth attempt that finds crm away is 60 s (libs/mq), and half of that
/// for the rest.
const END_MAX: Duration = Duration::from_secs(90);

fn limits(jobs_in_flight: i32) -> Limits {
    Limits {
        jobs_in_flight: Some(jobs_in_flight),
        ..Limits::default()
    }
}

/// A tenant's reports that are not finished.
async fn in_flight(control: &Client, member: &Member) -> Result<i64> {
    let tenant: TenantId = member.tokens.tenant_id.parse()?;
    let sql = "SELECT count(*) FROM worker.reports WHERE tenant_id = $1 AND state IN ('queued', 'running')";
    Ok(control.query_one(sql, &[&tenant.uuid()]).await?.get(0))
}

/// Asks for reports at once; the ids of those that were let in. The others were refused by the bound.
async fn ask(world: &World, member: &Member, bound: &str) -> Result<Vec<String>> {
    let mut asked = tokio::task::JoinSet::new();
    for _ in 0..ASKED {
        let caller = anew(world, member)?;
        asked.spawn(async move { journey::run_report(&caller).await });
    }
    let mut let_in = Vec::new();
    for answer in asked.join_all().await {
        match answer {
            Ok(report) => let_in.push(report.id),
            refused => assert_refused(&refusal(refused)?, member, bound),
        }
    }
    Ok(let_in)
}

#[tokio::test]
async fn a_plan_bounds_the_reports_in_flight_exactly_and_none_that_was_let_in_is_lost_or_taken_back() -> Result<()> {
    let world = World::start("plan-jobs").await?;
    let control = cluster::connect(&world.suite.databases().control_superuser_url()).await?;
    let mut tenants = Vec::new();
    for placement in PLACEMENTS {
        let bounded = tenant_with(&world, placement, "bounded", limits(2)).await?;
        let neighbour = tenant_with(&world, placement, "neighbour", Limits::default()).await?;
        tenants.push((placement, bounded, neighbour));
    }
    // With crm away no report ends.
    world.suite.kill9(Process::Crm).await?;
    let mut reports = Vec::new();
    for (_, bounded, neighbour) in &tenants {
        let let_in = ask(&world, bounded, "jobs_in_flight: at most 2").await?;
        assert_eq!((let_in.len(), in_flight(&control, bounded).await?), (2, 2));
        reports.extend(let_in.into_iter().map(|id| (bounded, id)));
        let let_in = ask(&world, neighbour, "").await?;
        assert_eq!(let_in.len(), ASKED);
        reports.extend(let_in.into_iter().map(|id| (neighbour, id)));
    }
    // One tenant's bound is raised, the other's set below what it has in flight.
    for (placement, bounded, neighbour) in &tenants {
        raise(&world, *placement, "bounded", bounded, limits(3)).await?;
        raise(&world, *placement, "neighbour", neighbour, limits(1)).await?;
    }
    forget(&world, Process::Worker).await?;
    for (_, bounded, neighbour) in &tenants {
        let let_in = ask(&world, bounded, "jobs_in_flight: at most 3").await?;
        assert_eq!((let_in.len(), in_flight(&control, bounded).await?), (1, 3));
        reports.extend(let_in.into_iter().map(|id| (bounded, id)));
        let let_in = ask(&world, neighbour, "jobs_in_flight: at most 1").await?;
        let left = in_flight(&control, neighbour).await?;
        assert_eq!(
            (let_in.len(), usize::try_from(left)?),
            (0, ASKED),
            "nothing is taken back"
        );
    }
    world.suite.restart(Process::Crm).await?;
    for (member, id) in reports {
        let report = journey::finished_report(&anew(&world, member)?, &id, END_MAX).await?;
        assert_eq!(report.state(), ReportState::Succeeded, "{report:?}");
    }
    for (_, _, neighbour) in &tenants {
        // Below the bound again.
        journey::run_report(&anew(&world, neighbour)?).await?;
    }
    Ok(())
}

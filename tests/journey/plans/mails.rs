//! `mails_per_day`: invitations beyond it are refused, and mails about finished reports are left out.

use anyhow::Result;
use rowhouse_devkit::caller::Caller;
use rowhouse_devkit::journey::{self, BACKGROUND_MAX};
use rowhouse_devkit::smtp::Mail;
use rowhouse_devkit::suite::Process;
use rowhouse_devkit::{cluster, wait};
use rowhouse_proto::common::v1::{Limits, Placement};
use rowhouse_proto::worker::v1::ReportState;
use rowhouse_types::TenantId;

use super::{anew, assert_refused, forget, raise, refusal, tenant_with};
use crate::support::world::{Member, PASSWORD, PLACEMENTS, World, slug_in};

fn limits(mails_per_day: i32) -> Limits {
    Limits {
        mails_per_day: Some(mails_per_day),
        ..Limits::default()
    }
}

/// The id of a report that has succeeded.
async fn reported(caller: &Caller) -> Result<String> {
    let report = journey::run_report(caller).await?;
    let report = journey::finished_report(caller, &report.id, BACKGROUND_MAX).await?;
    assert_eq!(report.state(), ReportState::Succeeded, "{report:?}");
    Ok(report.id)
}

/// Invites somebody, who gets the mail.
async fn invited(world: &World, caller: &Caller, address: &str) -> Result<()> {
    journey::invite(caller, address, "user").await?;
    world.suite.wait_for_mail(address, BACKGROUND_MAX, |_| true).await?;
    Ok(())
}

/// A report that succeeds, of whose end its requester is told.
async fn told(world: &World, member: &Member, caller: &Caller) -> Result<()> {
    let id = reported(caller).await?;
    let about_it = |mail: &Mail| mail.text.contains(&id);
    world
        .suite
        .wait_for_mail(&member.email, BACKGROUND_MAX, about_it)
        .await?;
    Ok(())
}

#[tokio::test]
async fn a_plan_bounds_the_mails_of_a_day() -> Result<()> {
    let world = World::start("plan-mails").await?;
    let mut tenants = Vec::new();
    for placement in PLACEMENTS {
        // The invitation of the administrator was one.
        let bounded = tenant_with(&world, placement, "bounded", limits(2)).await?;
        two_mails_in(&world, placement, &bounded).await?;
        let neighbour = tenant_with(&world, placement, "neighbour", Limits::default()).await?;
        for name in ["bob", "carl"] {
            let address = format!("{name}@{}.example", slug_in(placement, "neighbour"));
            invited(&world, &neighbour.caller, &address).await?;
        }
        told(&world, &neighbour, &neighbour.caller).await?;
        tenants.push((placement, bounded, neighbour));
    }
    // One tenant's bound is raised, the other's set below what it has sent.
    for (placement, bounded, neighbour) in &tenants {
        raise(&world, *placement, "bounded", bounded, limits(100)).await?;
        raise(&world, *placement, "neighbour", neighbour, limits(1)).await?;
    }
    for process in [Process::Auth, Process::Worker] {
        forget(&world, process).await?;
    }
    for (placement, bounded, neighbour) in &tenants {
        let caller = anew(&world, bounded)?;
        invited(&world, &caller, &carl(*placement)).await?;
        told(&world, bounded, &caller).await?;
        sent_too_many_in(&world, *placement, neighbour).await?;
    }
    Ok(())
}

/// What was sent is good still, and nothing new is sent.
async fn sent_too_many_in(world: &World, placement: Placement, ada: &Member) -> Result<()> {
    let slug = slug_in(placement, "neighbour");
    let caller = anew(world, ada)?;
    let dora = format!("dora@{slug}.example");
    let refused = refusal(journey::invite(&caller, &dora, "user").await)?;
    assert_refused(&refused, ada, "mails_per_day: at most 1");
    let mail = world
        .suite
        .wait_for_mail(&format!("bob@{slug}.example"), BACKGROUND_MAX, |_| true)
        .await?;
    // Auth has begun anew, and connections of before have ended with it.
    let anyone = Caller::anonymous(world.suite.endpoints()?);
    journey::accept(&anyone, &journey::link_token(&mail)?, "Bob", PASSWORD).await?;
    Ok(())
}

fn carl(placement: Placement) -> String {
    format!("carl@{}.example", slug_in(placement, "bounded"))
}

/// One more is sent, and then none.
async fn two_mails_in(world: &World, placement: Placement, ada: &Member) -> Result<()> {
    let bob = format!("bob@{}.example", slug_in(placement, "bounded"));
    invited(world, &ada.caller, &bob).await?;
    let refused = refusal(journey::invite(&ada.caller, &carl(placement), "user").await)?;
    assert_refused(&refused, ada, "mails_per_day: at most 2");

    let report = reported(&ada.caller).await?;
    let control = cluster::connect(&world.suite.databases().control_superuser_url()).await?;
    let tenant: TenantId = ada.tokens.tenant_id.parse()?;
    let left_out = "SELECT count(*) FROM worker.mails
        WHERE tenant_id = $1 AND kind = 'worker.report_finished.v1' AND state = 'void'";
    wait::until("the mail that is left out", BACKGROUND_MAX, || async {
        Ok(control.query_one(left_out, &[&tenant.uuid()]).await?.get::<_, i64>(0) == 1)
    })
    .await?;
    let mails = world.suite.mails()?;
    assert!(mails.iter().all(|mail| !mail.text.contains(&report)), "the report's");
    assert!(mails.iter().all(|mail| !mail.to.contains(&carl(placement))), "carl's");
    Ok(())
}

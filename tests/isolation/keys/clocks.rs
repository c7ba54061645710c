//! T11 where clocks differ: keys are replaced and revoked while the services' calendars stand apart by as much as tokens
//! allow. One that is further off is refused, so they do stand apart.

use anyhow::{Result, ensure};
use chrono::{DateTime, Utc};
use rowhouse_devkit::suite::{Listener, Process};
use rowhouse_devkit::torture::Torture;
use rowhouse_devkit::{clock, http};
use tonic::Code;

use super::{Attempt, replace_again_and_again, revoke_again_and_again, start};
use crate::support::world::{House, World};

/// Whose calendar is moved, and by how many seconds from auth's.
type Clocks = &'static [(Process, i64)];

/// Any two clocks may differ by five seconds (`LEEWAY_S` of `libs/auth`). Those that members' tokens are verified by are four
/// from auth's, which they were signed by; crm's and worker's are five from tenant's, to which they show tokens of their own.
const ALLOWED: [Clocks; 2] = [
    &[(Process::Crm, 4), (Process::Worker, 4), (Process::Tenant, -1)],
    &[(Process::Crm, -4), (Process::Worker, -4), (Process::Tenant, 1)],
];

/// Further than is allowed for members' tokens, and no further than services' tokens bear: those are shown for half of the
/// minute that they live.
const TOO_FAR: Clocks = &[(Process::Crm, -30)];

/// A suite whose clocks differ, and say so.
async fn start_apart(name: &str, clocks: Clocks) -> Result<(World, House)> {
    let mut environment = Vec::new();
    for (process, by_s) in clocks {
        environment.extend(clock::moved(*process, *by_s)?);
    }
    let (world, house) = start(name, environment).await?;
    for process in Process::ALL {
        let moved = clocks.iter().find(|(moved, _)| *moved == process);
        let by_s = moved.map_or(0, |(_, by_s)| *by_s);
        let url = format!("{}/livez", world.suite.url(process, Listener::Admin));
        let earliest = Utc::now().timestamp() + by_s;
        let told = DateTime::parse_from_rfc2822(&http::date(&url).await?)?.timestamp();
        let latest = Utc::now().timestamp() + by_s;
        ensure!(
            (earliest..=latest).contains(&told),
            "{process:?} says {told}, which is not from {earliest} to {latest}"
        );
    }
    Ok((world, house))
}

/// Lets those end in order whose clocks were moved: libfaketime takes its shared memory away then, and only then.
async fn stop(world: &World, clocks: Clocks) -> Result<()> {
    for (process, _) in clocks {
        world.suite.stop(*process).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_refused_while_keys_are_replaced_and_clocks_differ() -> Result<()> {
    let mut torture = Torture::begin("T11", "rotations, clocks apart");
    while torture.round().is_some() {
        for clocks in ALLOWED {
            let (world, house) = start_apart("t11-rotate-apart", clocks).await?;
            replace_again_and_again(&mut torture, &world, &house).await?;
            stop(&world, clocks).await?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_a_revoked_key_signed_is_let_in_while_clocks_differ() -> Result<()> {
    let mut torture = Torture::begin("T11", "revocations, clocks apart");
    while torture.round().is_some() {
        for clocks in ALLOWED {
            let (world, house) = start_apart("t11-revoke-apart", clocks).await?;
            revoke_again_and_again(&mut torture, &world, &house).await?;
            stop(&world, clocks).await?;
        }
    }
    Ok(())
}

/// The control: for crm a token that was just signed is of the future, for half a minute; for the others it holds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_further_behind_refuses_what_was_just_signed() -> Result<()> {
    let (world, house) = start_apart("t11-too-far", TOO_FAR).await?;
    let fresh = world.log_in(&house.tenant.id, &house.manager.email).await?;
    let refused = Attempt::ListContacts.run(&fresh.caller).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::Unauthenticated, "the access token does not hold")
    );
    for attempt in [Attempt::GetReport, Attempt::WhoAmI] {
        let answer = attempt.run(&fresh.caller).await;
        assert!(answer.is_ok(), "{attempt:?}: {answer:?}");
    }
    stop(&world, TOO_FAR).await
}

//! A home that was built ahead is claimed and the invitation to it sent at once; to another nobody is invited before it stands.

use rowhouse_devkit::log::Log;
use rowhouse_proto::common::v1::HomeState;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::Level;

use super::bench::{Bench, LONG, ctx, new_tenant};
use super::crashes::assert_provisioned_once;
use super::fakes::Mishap;
use crate::error::Result;
use crate::operation::saga::End;
use crate::operation::{Held, runner};
use crate::tenant::Tenant;

/// How the statement that records a step that is not the last begins.
const ADVANCE: &str = "-- Records a step";

/// A bench with one spare.
async fn with_a_spare(name: &str) -> Bench {
    let bench = Bench::start(name).await;
    bench.filler(1).round_once().await;
    bench
}

fn create(bench: &Bench, slug: &str) -> JoinHandle<Result<Tenant>> {
    let (tenants, new) = (bench.tenants.clone(), new_tenant(slug));
    tokio::spawn(async move { tenants.create(&ctx(LONG), new).await })
}

/// Waits until the step that the tenant's operation is at has failed so often.
async fn until_failed(bench: &Bench, slug: &str, times: i32) {
    let failed = async {
        // The operation is there when its first call has come.
        bench.fakes.until_called("prepare", 1).await;
        let operation = bench.operation(slug).await;
        while bench.failures(operation).await.0 < times {
            tokio::task::yield_now().await;
        }
    };
    timeout(LONG, failed).await.expect("it fails so often");
}

#[tokio::test]
async fn with_a_spare_the_invitation_does_not_wait_for_the_home() {
    let bench = with_a_spare("together").await;
    bench.fakes.plan("prepare", Mishap::HangsBefore);
    let process = bench.process().await;
    let _call = process.create("acme");
    bench.fakes.until_called("prepare", 1).await;
    bench.fakes.until_called("invite", 1).await;
    {
        let effects = bench.fakes.effects();
        let states: Vec<HomeState> = effects.homes.values().map(|home| home.state()).collect();
        assert_eq!(states, [HomeState::Spare], "nobody has claimed it");
        assert!(effects.access.is_empty(), "and nobody may act in it");
    }
    process.kill();
    bench.fakes.heal();
    bench.let_time_pass().await;
    runner::round(&bench.pool, &bench.sagas).await.unwrap();
    let tenant = bench.settled("acme").await;
    assert_provisioned_once(&bench, &tenant, 1).await;
}

#[tokio::test]
async fn without_a_spare_nobody_is_invited_before_the_home_stands() {
    let bench = Bench::start("apart").await;
    bench.fakes.plan("prepare", Mishap::Fails);
    let call = create(&bench, "acme");
    // A failure is recorded when every call that was made beside has ended.
    until_failed(&bench, "acme", 1).await;
    assert_eq!(bench.fakes.called("invite"), 0);
    bench.fakes.heal();
    let tenant = call.await.unwrap().unwrap();
    assert_provisioned_once(&bench, &tenant, 1).await;
}

#[tokio::test]
async fn whoever_resumes_an_operation_invites_only_when_the_home_stands() {
    let bench = with_a_spare("resumed_apart").await;
    bench.fakes.plan("prepare", Mishap::Fails);
    let call = create(&bench, "acme");
    until_failed(&bench, "acme", 2).await;
    assert_eq!(bench.fakes.called("invite"), 1, "by who took the spare");
    bench.fakes.heal();
    let tenant = call.await.unwrap().unwrap();
    assert_provisioned_once(&bench, &tenant, 1).await;
    assert_eq!((bench.fakes.called("invite"), bench.fakes.effects().claimed), (2, 1));
}

#[tokio::test]
async fn an_invitation_that_fails_beside_the_home_is_the_next_step() {
    let bench = with_a_spare("invitation_failed").await;
    for method in ["prepare", "invite"] {
        bench.fakes.plan(method, Mishap::HangsBefore);
    }
    let process = bench.process().await;
    let _call = process.create("acme");
    for method in ["prepare", "invite"] {
        bench.fakes.until_called(method, 1).await;
    }
    process.kill();
    bench.fakes.heal();
    bench.let_time_pass().await;
    let resumed = bench.claim("acme").await.expect("it is due");
    assert!(!resumed.spare);
    // As who took the spare would have gone on.
    let held = Held { spare: true, ..resumed };
    bench.fakes.plan("invite", Mishap::Fails);
    assert!(matches!(bench.sagas.drive(held).await, End::Left));
    let called = || (bench.fakes.called("prepare"), bench.fakes.called("invite"));
    assert_eq!(called(), (2, 2), "a call that has failed is not repeated at once");
    let recorded = "SELECT count(*) FROM tenant.operations WHERE step = 'invite' AND attempts = 1 AND lease_id IS NULL";
    assert_eq!(bench.count(recorded).await, 1);

    bench.fakes.heal();
    bench.let_time_pass().await;
    let tenant = bench.settled("acme").await;
    assert_provisioned_once(&bench, &tenant, 1).await;
    assert_eq!(called(), (2, 3), "the home is there");
}

#[tokio::test]
async fn a_spare_that_is_claimed_and_its_invitation_are_one_record() {
    let bench = with_a_spare("one_record").await;
    let log = Log::listen("sqlx::query", Level::TRACE);
    let recorded = || {
        let entries = log.take();
        let summaries = entries.iter().filter_map(|entry| entry.field("summary"));
        summaries.filter(|summary| summary.starts_with(ADVANCE)).count()
    };
    let create = async |slug: &str| bench.tenants.create(&ctx(LONG), new_tenant(slug)).await.unwrap();
    let tenant = create("acme").await;
    assert_eq!(recorded(), 1);
    assert_provisioned_once(&bench, &tenant, 1).await;
    // The control: without a spare they are two.
    let tenant = create("other").await;
    assert_eq!(recorded(), 2);
    assert_provisioned_once(&bench, &tenant, 2).await;
}

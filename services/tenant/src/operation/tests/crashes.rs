//! T24: an operation cut short anywhere ends, and each effect is there once.

use std::time::Duration;

use rowhouse_devkit::torture::Torture;
use rowhouse_proto::auth::v1::TenantAccess;
use rowhouse_proto::common::v1::HomeState;
use rowhouse_types::TenantId;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::bench::{Bench, LONG, ctx, new_tenant, turn};
use super::fakes::Mishap;
use crate::error::Error;
use crate::operation::saga::End;
use crate::operation::{Held, Kind, Step, runner, store};
use crate::request;
use crate::tenant::{Reason, State, Tenant};

/// Time for a call that shall not see the end of its operation.
const SHORT: Duration = Duration::from_millis(800);

/// What the killed process waits for: calls of these methods, each of which hangs.
type Point = Vec<(&'static str, Mishap)>;

const HANGS: [Mishap; 2] = [Mishap::HangsBefore, Mishap::HangsAfter];

/// Asserts that provisioning had each of its effects once.
pub(super) async fn assert_provisioned_once(bench: &Bench, tenant: &Tenant, tenants: usize) {
    assert_eq!(tenant.state, State::Active);
    {
        let effects = bench.fakes.effects();
        let id = tenant.id.to_string();
        assert_eq!(usize::try_from(effects.built).unwrap(), tenants, "one home each");
        assert_eq!(effects.invitations.len(), tenants, "one invitation each");
        assert_eq!(effects.access[&id].0, TenantAccess::Allowed);
        assert_eq!(effects.homes[&id].state(), HomeState::Active);
    }
    let expected = i64::try_from(tenants).unwrap();
    for sql in [
        "SELECT count(*) FROM tenant.tenants WHERE state = 'active'",
        "SELECT count(*) FROM tenant.homes WHERE state = 'active' AND participant = 'crm' AND server = 'data1'",
        "SELECT count(DISTINCT tenant_id) FROM tenant.outbox WHERE kind = 'tenant.activated.v1'",
        "SELECT count(*) FROM tenant.outbox",
        "SELECT count(*) FROM tenant.operations WHERE step = 'done' AND payload = '{}' AND lease_id IS NULL",
        "SELECT count(*) FROM tenant.operations",
        "SELECT count(*) FROM tenant.audit WHERE tenant_id IS NOT NULL AND outcome = 'accepted'",
        "SELECT count(*) FROM tenant.audit WHERE tenant_id IS NOT NULL AND outcome = 'done'",
        "SELECT count(*) FROM tenant.audit WHERE tenant_id IS NULL AND outcome = 'done'",
    ] {
        assert_eq!(bench.count(sql).await, expected, "{sql}");
    }
}

#[tokio::test]
async fn provisioning_killed_at_any_step_is_resumed_and_has_each_effect_once() {
    let mut torture = Torture::begin("T24", "provisioning");
    while torture.round().is_some() {
        provisioning_killed(&mut torture).await;
    }
}

async fn provisioning_killed(torture: &mut Torture) {
    let alone = ["prepare", "invite", "access"].map(|method| HANGS.map(|mishap| vec![(method, mishap)]));
    let alone: Vec<Point> = alone.into_iter().flatten().collect();
    // With a spare these two are called at once.
    let both = HANGS.map(|prepare| HANGS.map(|invite| vec![("prepare", prepare), ("invite", invite)]));
    let both = both.into_iter().flatten();
    killed_at(torture, "provisioning_killed", false, &alone).await;
    let points: Vec<Point> = alone.into_iter().chain(both).collect();
    killed_at(torture, "provisioning_spares", true, &points).await;
}

/// `spares`: whether each tenant finds one.
async fn killed_at(torture: &mut Torture, name: &str, spares: bool, points: &[Point]) {
    let bench = Bench::start(name).await;
    for (index, point) in points.iter().enumerate() {
        let slug = format!("killed-{index}");
        if spares {
            bench.filler(1).round_once().await;
        }
        let before: Vec<u32> = point.iter().map(|(method, _)| bench.fakes.called(method)).collect();
        for (method, mishap) in point {
            bench.fakes.plan(method, *mishap);
        }
        let process = bench.process().await;
        let _call = process.create(&slug);
        for ((method, _), before) in point.iter().zip(before) {
            bench.fakes.until_called(method, before + 1).await;
        }
        process.kill();
        bench.fakes.heal();

        // Nothing goes on by itself while the dead process's lease lasts.
        assert!(bench.claim(&slug).await.is_none());
        bench.let_time_pass().await;
        runner::round(&bench.pool, &bench.sagas).await.unwrap();
        let tenant = bench.settled(&slug).await;
        assert_provisioned_once(&bench, &tenant, index + 1).await;
        let claimed = usize::try_from(bench.fakes.effects().claimed).unwrap();
        assert_eq!(claimed, if spares { index + 1 } else { 0 }, "{point:?}");
        torture.trials(1);
    }
}

/// Thousands of ids may be over, and who signs up waits for none of them.
#[tokio::test]
async fn operations_are_taken_up_while_request_ids_are_being_forgotten() {
    let bench = Bench::start("forgetting").await;
    bench.fakes.plan("prepare", Mishap::HangsBefore);
    let process = bench.process().await;
    let _call = process.create("acme");
    bench.fakes.hanging().await;
    process.kill();
    bench.fakes.heal();
    let mut locking = bench.superuser.begin().await.unwrap();
    sqlx::query("LOCK TABLE tenant.requests IN EXCLUSIVE MODE")
        .execute(&mut *locking)
        .await
        .unwrap();
    let stop = CancellationToken::new();
    let until = async |what: &str, sql| {
        let counted = async {
            while bench.count(sql).await == 0 {
                tokio::task::yield_now().await;
            }
        };
        timeout(LONG, counted).await.expect(what);
    };
    let taken_up = async {
        let waiting = "SELECT count(*) FROM pg_stat_activity
                       WHERE datname = current_database() AND wait_event_type = 'Lock'";
        until("the forgetting waits for the lock", waiting).await;
        bench.let_time_pass().await;
        let finished = "SELECT count(*) FROM tenant.operations WHERE finished_at IS NOT NULL";
        until("the operation is taken up", finished).await;
        locking.rollback().await.unwrap();
        stop.cancel();
    };
    tokio::join!(
        runner::run(bench.pool.clone(), bench.sagas.clone(), stop.clone()),
        request::forget(bench.pool.clone(), stop.clone()),
        taken_up,
    );
}

/// The control: what makes a repeated step harmless is that it names its operation. Under another id it has its effect again.
#[tokio::test]
async fn without_its_operations_id_a_resumed_step_has_its_effect_twice() {
    let bench = Bench::start("killed_without_id").await;
    bench.fakes.plan("invite", Mishap::HangsAfter);
    let process = bench.process().await;
    let _call = process.create("twice");
    bench.fakes.hanging().await;
    process.kill();
    bench.fakes.heal();
    assert_eq!(bench.fakes.effects().invitations.len(), 1);
    sqlx::query("UPDATE tenant.operations SET operation_id = gen_random_uuid()")
        .execute(&bench.superuser)
        .await
        .unwrap();
    bench.let_time_pass().await;
    runner::round(&bench.pool, &bench.sagas).await.unwrap();
    assert_eq!(bench.settled("twice").await.state, State::Active);
    assert_eq!(bench.fakes.effects().invitations.len(), 2);
}

#[tokio::test]
async fn a_process_killed_right_after_the_reservation_is_resumed() {
    let bench = Bench::start("killed_after_reservation").await;
    bench.fakes.plan("prepare", Mishap::HangsBefore);
    let process = bench.process().await;
    let _call = process.create("reserved");
    bench.fakes.hanging().await;
    process.kill();
    bench.fakes.heal();
    bench.let_time_pass().await;
    let held = store::claim(&bench.pool, None).await.unwrap().expect("it is due");
    assert_eq!(held.step, Step::Prepare);
    assert_eq!(held.administrator.as_deref(), Some("ada@example.com"));
    store::release(&bench.pool, &held).await.unwrap();
    let tenant = bench.settled("reserved").await;
    assert_provisioned_once(&bench, &tenant, 1).await;
}

#[tokio::test]
async fn every_operation_killed_at_any_step_is_resumed() {
    let mut torture = Torture::begin("T24", "operations");
    while torture.round().is_some() {
        operations_killed(&mut torture).await;
    }
}

async fn operations_killed(torture: &mut Torture) {
    let bench = Bench::start("turning_killed").await;
    let created = bench.tenants.create(&ctx(LONG), new_tenant("acme")).await.unwrap();
    let id = created.id.to_string();
    for mishap in [Mishap::HangsBefore, Mishap::HangsAfter] {
        for (kind, methods, access, home) in OPERATIONS {
            for method in methods {
                lead_to_the_start(&bench, created.id, kind).await;
                bench.fakes.plan(method, mishap);
                let process = bench.process().await;
                let _call = process.turn(created.id, kind);
                bench.fakes.hanging().await;
                process.kill();
                bench.fakes.heal();
                bench.let_time_pass().await;
                runner::round(&bench.pool, &bench.sagas).await.unwrap();
                let tenant = bench.settled("acme").await;
                assert_eq!(tenant.state, kind.state_after(), "{method} {mishap:?}");
                assert_eq!(bench.fakes.effects().access[&id].0, access, "{method} {mishap:?}");
                assert_eq!(bench.fakes.effects().homes[&id].state(), home, "{method} {mishap:?}");
                torture.trials(1);
            }
        }
    }
    let open = "SELECT count(*) FROM tenant.operations WHERE finished_at IS NULL";
    assert_eq!(bench.count(open).await, 0);
}

/// The operations on a tenant that exists: the calls of their steps, and how they leave auth and the home.
const OPERATIONS: [(Kind, &[&str], TenantAccess, HomeState); 5] = [
    (
        Kind::Suspend,
        &["access", "freeze"],
        TenantAccess::Suspended,
        HomeState::Frozen,
    ),
    (
        Kind::Resume,
        &["thaw", "access"],
        TenantAccess::Allowed,
        HomeState::Active,
    ),
    (
        Kind::Restrict,
        &["restrict"],
        TenantAccess::Allowed,
        HomeState::ReadOnly,
    ),
    (
        Kind::Delete,
        &["access", "freeze"],
        TenantAccess::Suspended,
        HomeState::Frozen,
    ),
    (
        Kind::Undelete,
        &["thaw", "access"],
        TenantAccess::Allowed,
        HomeState::Active,
    ),
];

/// Leads the tenant from a state at rest to the one in which an operation begins.
async fn lead_to_the_start(bench: &Bench, id: TenantId, of: Kind) {
    let back = match bench.tenants.get(id).await.unwrap().state {
        State::Deleted => Kind::Undelete,
        _ => Kind::Resume,
    };
    let there = match of {
        Kind::Resume => Some(Kind::Suspend),
        Kind::Undelete => Some(Kind::Delete),
        Kind::Provision | Kind::Suspend | Kind::Restrict | Kind::Delete | Kind::Purge => None,
    };
    for kind in [back].into_iter().chain(there) {
        turn(&bench.tenants, id, kind).await.unwrap();
    }
}

#[tokio::test]
async fn a_participant_that_is_away_is_asked_again_until_it_is_back() {
    let bench = Bench::start("participant_away").await;
    bench.fakes.plan("prepare", Mishap::Fails);
    let answer = bench.tenants.create(&ctx(SHORT), new_tenant("patient")).await.unwrap();
    assert_eq!(answer.state, State::Provisioning, "the deadline came first");
    let (attempts, error) = bench.failures(bench.operation("patient").await).await;
    assert!(attempts >= 1, "{attempts}");
    assert!(error.unwrap().contains("DEPENDENCY_UNAVAILABLE"));

    bench.fakes.heal();
    bench.let_time_pass().await;
    let tenant = bench.settled("patient").await;
    assert_provisioned_once(&bench, &tenant, 1).await;
    let (attempts, error) = bench.failures(bench.operation("patient").await).await;
    assert_eq!((attempts, error), (0, None));
}

#[tokio::test]
async fn a_call_waits_for_the_process_that_has_the_lease() {
    let bench = Bench::start("waits_for_other").await;
    bench.fakes.plan("invite", Mishap::HangsBefore);
    let process = bench.process().await;
    let call = process.create("shared-work");
    bench.fakes.hanging().await;
    bench.fakes.heal();
    // The lease passes to another process while the first one still waits for an answer.
    bench.let_time_pass().await;
    let tenant = bench.settled("shared-work").await;
    assert_provisioned_once(&bench, &tenant, 1).await;
    let answer = call.await.unwrap().unwrap();
    assert_eq!((answer.id, answer.state), (tenant.id, State::Active));
    process.kill();
}

#[tokio::test]
async fn who_lost_the_lease_changes_nothing() {
    let bench = Bench::start("lease_lost").await;
    bench.fakes.plan("prepare", Mishap::Fails);
    bench.tenants.create(&ctx(SHORT), new_tenant("zombie")).await.unwrap();
    bench.let_time_pass().await;
    let zombie = bench.claim("zombie").await.expect("it is due");
    assert!(bench.claim("zombie").await.is_none(), "one lease at a time");
    bench.let_time_pass().await;
    let heir = bench.claim("zombie").await.expect("the lease is over");

    let pool = &bench.pool;
    assert!(!store::renew(pool, &zombie).await.unwrap());
    assert!(!store::advance(pool, &zombie, Step::Invite, &[]).await.unwrap());
    assert!(store::finish(pool, &zombie, &[]).await.unwrap().is_none());
    store::postpone(pool, &zombie, "too late", LONG).await.unwrap();
    store::release(pool, &zombie).await.unwrap();
    let (_, error) = bench.failures(heir.id).await;
    assert_ne!(error.as_deref(), Some("too late"));

    assert!(store::renew(pool, &heir).await.unwrap(), "the heir still has it");
    assert!(store::advance(pool, &heir, Step::Invite, &[]).await.unwrap());
    assert!(
        !store::advance(pool, &heir, Step::Invite, &[]).await.unwrap(),
        "a step is recorded once"
    );

    // The control: by the heir's lease and step it overwrites what the heir is at, and throws it out.
    let unfenced = Held {
        lease: heir.lease,
        step: Step::Invite,
        ..zombie
    };
    assert!(store::advance(pool, &unfenced, Step::Allow, &[]).await.unwrap());
    store::postpone(pool, &unfenced, "too late", LONG).await.unwrap();
    let (_, error) = bench.failures(heir.id).await;
    assert_eq!(error.as_deref(), Some("too late"));
    assert!(!store::renew(pool, &heir).await.unwrap());
}

#[tokio::test]
async fn an_operation_that_has_ended_is_answered_although_the_work_on_it_goes_on() {
    let bench = Bench::start("ended").await;
    bench.fakes.plan("prepare", Mishap::HangsBefore);
    let process = bench.process().await;
    let _call = process.create("ended");
    bench.fakes.hanging().await;
    process.kill();
    bench.fakes.heal();
    bench.let_time_pass().await;
    let held = bench.claim("ended").await.expect("it is due");
    assert!(matches!(bench.sagas.drive(held.clone()).await, End::Finished(_)));
    // As if this process were at it still when the time is over.
    bench.fakes.plan("prepare", Mishap::HangsBefore);
    let settled = bench.sagas.settle(held.id, Some(held), Instant::now()).await.unwrap();
    assert_eq!(settled.map(|tenant| tenant.state), Some(State::Active));
}

#[tokio::test]
async fn a_process_that_stops_gives_its_leases_back() {
    let bench = Bench::start("stops").await;
    bench.fakes.plan("prepare", Mishap::HangsBefore);
    let tenants = bench.tenants.clone();
    let call = tokio::spawn(async move { tenants.create(&ctx(LONG), new_tenant("stopped")).await });
    bench.fakes.hanging().await;
    assert_eq!(bench.sagas.running(), 1);
    bench.sagas.stop().await;
    assert_eq!(call.await.unwrap().unwrap().state, State::Provisioning);
    assert!(bench.claim("stopped").await.is_some(), "the next process need not wait");
}

#[tokio::test]
async fn a_suspension_that_cannot_reach_a_participant_holds_at_auth_and_goes_on() {
    let bench = Bench::start("suspension_stuck").await;
    let created = bench.tenants.create(&ctx(LONG), new_tenant("stuck")).await.unwrap();
    bench.fakes.plan("freeze", Mishap::Fails);
    let reason = Reason::parse_required("unpaid").unwrap();
    let error = bench
        .tenants
        .suspend(&ctx(SHORT), created.id, &reason)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::StillRunning { .. }), "{error}");
    let during = bench.tenants.get(created.id).await.unwrap();
    assert_eq!(during.state, State::Suspending);
    assert_eq!(
        bench.fakes.effects().access[&created.id.to_string()].0,
        TenantAccess::Suspended
    );
    let frozen = "SELECT count(*) FROM tenant.homes WHERE state = 'frozen'";
    assert_eq!(bench.count(frozen).await, 1, "the directory says so already");

    bench.fakes.heal();
    let reason = Reason::parse_required("again").unwrap();
    let joined = bench.tenants.suspend(&ctx(LONG), created.id, &reason).await.unwrap();
    assert_eq!(
        joined.state,
        State::Suspended,
        "the second call waits for the same operation"
    );
    let operations = "SELECT count(*) FROM tenant.operations WHERE kind = 'suspend'";
    assert_eq!(bench.count(operations).await, 1);
}

#[tokio::test]
async fn a_tenant_has_one_operation_at_a_time() {
    let bench = Bench::start("one_operation").await;
    bench.fakes.plan("prepare", Mishap::Fails);
    bench.tenants.create(&ctx(SHORT), new_tenant("single")).await.unwrap();
    bench.let_time_pass().await;
    let mut second = bench.claim("single").await.unwrap();
    second.id = rowhouse_types::OperationId::generate();
    second.lease = Uuid::new_v4();
    let mut connection = bench.pool.acquire().await.unwrap();
    let refused = store::begin(&mut connection, &second).await.unwrap_err();
    assert!(matches!(refused, Error::Database(sqlx::Error::Database(fault))
        if fault.constraint() == Some("operations_open_key")));
}

#[tokio::test]
async fn a_filler_killed_at_any_step_is_taken_up_and_builds_each_spare_once() {
    for mishap in [Mishap::HangsBefore, Mishap::HangsAfter] {
        let bench = Bench::start("filler_killed").await;
        bench.fakes.plan("spare", mishap);
        let process = bench.process().await;
        process.fill(&bench.fakes, 3);
        bench.fakes.hanging().await;
        process.kill();
        bench.fakes.heal();

        let ready = "SELECT count(*) FROM tenant.spares WHERE state = 'ready'";
        let filler = bench.filler(3);
        filler.round_once().await;
        // The control: what the dead process was at stays so while its leases last.
        assert!(bench.count(ready).await < 3);
        bench.let_time_pass().await;
        filler.round_once().await;
        assert_eq!(bench.count(ready).await, 3, "{mishap:?}");
        assert_eq!(bench.count("SELECT count(*) FROM tenant.spares").await, 3, "no orphan");
        assert_eq!(bench.fakes.effects().built, 3, "one home each");

        for index in 0..3 {
            let slug = format!("heir-{index}");
            bench.tenants.create(&ctx(LONG), new_tenant(&slug)).await.unwrap();
        }
        let effects = bench.fakes.effects();
        assert_eq!((effects.built, effects.claimed), (3, 3), "every home has one owner");
    }
}

#[tokio::test]
async fn provisioning_does_not_wait_for_its_records() {
    let bench = Bench::start("runs_ahead").await;
    sqlx::raw_sql(
        "CREATE FUNCTION tenant.hold() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN PERFORM pg_advisory_xact_lock_shared(4711); RETURN NEW; END $$;
         CREATE TRIGGER hold BEFORE UPDATE OF step ON tenant.operations FOR EACH ROW EXECUTE FUNCTION tenant.hold()",
    )
    .execute(&bench.superuser)
    .await
    .unwrap();
    let mut holder = bench.superuser.begin().await.unwrap();
    sqlx::query("SELECT pg_advisory_xact_lock(4711)")
        .execute(&mut *holder)
        .await
        .unwrap();
    let tenants = bench.tenants.clone();
    let call = tokio::spawn(async move { tenants.create(&ctx(LONG), new_tenant("ahead")).await });
    while !bench.fakes.effects().calls.contains_key("invite") {
        tokio::task::yield_now().await;
    }
    let unrecorded = "SELECT count(*) FROM tenant.operations WHERE step = 'prepare'";
    assert_eq!(bench.count(unrecorded).await, 1);
    holder.commit().await.unwrap();
    let tenant = call.await.unwrap().unwrap();
    assert_provisioned_once(&bench, &tenant, 1).await;
}

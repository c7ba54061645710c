//! Runs on a real database, with a participant whose houses are in memory: waves, budgets, pauses, crashes, servers that
//! are away.

mod houses;
mod servers;
mod versions;

use std::time::Duration;

use futures_util::StreamExt as _;
use rowhouse_status::{Failure, Reason as Because};
use rowhouse_types::{IdempotencyKey, TenantId};
use tokio::time::timeout;

use super::actions::{DriftQuery, NewRun};
use super::runner::Runner;
use super::*;
use crate::error::{Error, Result};
use crate::operation::tests::{Bench, FakeHouse, LONG, Mishap, NEWEST, ctx, entry};
use crate::tenant::Reason;

fn reason() -> Reason {
    Reason::parse_required("a column is added").unwrap()
}

fn new_run(waves: Vec<Wave>) -> NewRun {
    NewRun {
        plan: Plan {
            participant: ServiceName::Crm,
            target: 0,
            waves,
            parallelism: 2,
            failure_budget: 0,
        },
        reason: reason(),
        request: None,
    }
}

fn because<T: std::fmt::Debug>(outcome: Result<T>) -> Because {
    Failure::from(outcome.unwrap_err()).reason()
}

/// A database, and a participant with ten houses, one of each tenth.
async fn bench(name: &str) -> (Bench, Vec<TenantId>) {
    let bench = Bench::start(name).await;
    let tenants: Vec<TenantId> = (0..10).map(|_| TenantId::generate()).collect();
    let houses = tenants
        .iter()
        .zip(0..)
        .map(|(tenant, at)| FakeHouse::new(tenant, at * 10));
    bench.fakes.effects().houses = houses.collect();
    for tenant in &tenants {
        put_into_directory(&bench, *tenant).await;
    }
    (bench, tenants)
}

/// Lets the directory know the tenant and its home.
async fn put_into_directory(bench: &Bench, tenant: TenantId) {
    let insert = sqlx::query(
        "WITH known AS (
             INSERT INTO tenant.tenants (tenant_id, slug, display_name, placement, server, state)
             VALUES ($1, $2, 'A tenant', 'shared', 'data1', 'provisioning') RETURNING tenant_id)
         INSERT INTO tenant.homes (tenant_id, participant, server, placement, generation, version, state)
         SELECT tenant_id, 'crm', 'data1', 'shared', 1, 1, 'active' FROM known",
    );
    let slug = format!("t-{}", tenant.uuid().simple());
    let insert = insert.bind(tenant.uuid()).bind(slug);
    insert.execute(&bench.superuser).await.unwrap();
}

fn migrated(bench: &Bench) -> usize {
    let effects = bench.fakes.effects();
    effects.houses.iter().filter(|house| house.version == NEWEST).count()
}

/// Carries the run on until it is in the state.
async fn until(bench: &Bench, runner: &Runner, id: MigrationRunId, state: State) -> Run {
    until_so(bench, runner, id, |run| run.state == state).await
}

/// Carries the run on until it is so.
async fn until_so(bench: &Bench, runner: &Runner, id: MigrationRunId, is_so: impl Fn(&Run) -> bool) -> Run {
    let looking = async {
        loop {
            runner.look().await.unwrap();
            let run = bench.migrations.get(id).await.unwrap();
            if is_so(&run) {
                return run;
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(LONG, looking).await.expect("the run never got there")
}

#[tokio::test]
async fn canaries_come_first_and_every_house_once() {
    let (bench, tenants) = bench("migration_waves").await;
    let waves = vec![Wave::Tenants(vec![tenants[9]]), Wave::Percent(30), Wave::Percent(100)];
    let run = bench.migrations.start(&ctx(LONG), new_run(waves)).await.unwrap();
    assert_eq!(
        (run.state, run.planned, run.plan.target, run.migrated()),
        (State::Running, 10, NEWEST, 0)
    );
    let (runner, watched) = (bench.migration_runner(), bench.migrations.watch(&ctx(LONG), &run));
    let watching = tokio::spawn(watched.map(|run| run.unwrap()).collect::<Vec<Run>>());
    let done = until(&bench, &runner, run.id, State::Done).await;
    assert_eq!(
        (done.wave, done.migrated(), done.failed(), done.finished_at.is_some()),
        (3, 10, 0, true)
    );
    assert!(bench.fakes.effects().houses.iter().all(|house| house.migrated == 1));
    let told = "SELECT count(*) FROM tenant.homes WHERE version = 3";
    assert_eq!(
        bench.count(told).await,
        10,
        "the directory is told before the run is done"
    );

    // The watcher saw waves in order, and its stream ended with the run.
    let seen = timeout(LONG, watching).await.unwrap().unwrap();
    assert!(
        seen.windows(2)
            .all(|pair| pair[0].revision < pair[1].revision && pair[0].wave <= pair[1].wave)
    );
    assert_eq!(seen.last().unwrap().state, State::Done);
    let audited =
        bench.count("SELECT count(*) FROM tenant.audit WHERE action = 'migration.start' AND reason IS NOT NULL");
    assert_eq!(audited.await, 1);
    runner.stop().await;
}

#[tokio::test]
async fn a_run_halts_when_more_houses_fail_than_may_and_resuming_tries_them_again() {
    let (bench, tenants) = bench("migration_budget").await;
    for house in [2, 5] {
        bench.fakes.effects().houses[house].is_broken = true;
    }
    let mut new = new_run(vec![Wave::Percent(100)]);
    (new.plan.failure_budget, new.plan.parallelism) = (1, 1);
    let run = bench.migrations.start(&ctx(LONG), new).await.unwrap();
    let runner = bench.migration_runner();
    let halted = until(&bench, &runner, run.id, State::Halted).await;
    assert_eq!(
        (halted.failed(), halted.migrated()),
        (2, 4),
        "the second fault is one too many"
    );
    let tenants: Vec<String> = [2, 5].map(|at: usize| tenants[at].to_string()).into();
    let named: Vec<String> = halted.faults.iter().map(|fault| fault.tenant.clone()).collect();
    assert_eq!((named, halted.faults[0].sqlstate.as_str()), (tenants, "23514"));

    bench.fakes.effects().houses[5].is_broken = false;
    let resumed = bench.migrations.resume(&ctx(LONG), run.id, &reason()).await.unwrap();
    assert_ne!(resumed.round, halted.round);
    let done = until(&bench, &runner, run.id, State::Done).await;
    assert_eq!(
        (done.failed(), done.migrated(), migrated(&bench)),
        (1, 9, 9),
        "one is within the budget"
    );
    runner.stop().await;
}

/// They are work like any other: an index on a large table takes longer than all else.
#[tokio::test]
async fn a_house_that_is_behind_in_deferred_steps_alone_is_planned_and_counted() {
    let (bench, _) = bench("migration_deferred").await;
    for (house, deferred) in bench.fakes.effects().houses.iter_mut().zip(1..) {
        (house.version, house.deferred) = (NEWEST, deferred.min(NEWEST));
    }
    let ctx = ctx(LONG);
    let started = bench.migrations.start(&ctx, new_run(vec![Wave::Percent(100)]));
    let run = started.await.unwrap();
    assert_eq!((run.planned, run.migrated()), (1, 0));
    let runner = bench.migration_runner();
    let done = until(&bench, &runner, run.id, State::Done).await;
    assert_eq!((done.planned, done.migrated()), (1, 1));
    runner.stop().await;
}

/// The second wave does not hold the canary that failed in the first.
#[tokio::test]
async fn a_canary_that_failed_counts_in_every_wave_after_it() {
    let (bench, tenants) = bench("migration_budget_waves").await;
    for house in [0, 9] {
        bench.fakes.effects().houses[house].is_broken = true;
    }
    let waves = vec![Wave::Tenants(vec![tenants[9]]), Wave::Percent(10), Wave::Percent(100)];
    let mut new = new_run(waves);
    new.plan.failure_budget = 1;
    let run = bench.migrations.start(&ctx(LONG), new).await.unwrap();
    let runner = bench.migration_runner();
    let over = until_so(&bench, &runner, run.id, |run| run.state != State::Running).await;
    assert_eq!((over.state, over.wave, over.failed()), (State::Halted, 1, 2));
    assert_eq!(over.progress["data1"].failed, 1, "of the second wave");
    assert_eq!(migrated(&bench), 0, "no house of the third");

    bench.fakes.effects().houses[0].is_broken = false;
    bench.migrations.resume(&ctx(LONG), run.id, &reason()).await.unwrap();
    let done = until(&bench, &runner, run.id, State::Done).await;
    assert_eq!(
        (done.failed(), migrated(&bench)),
        (1, 9),
        "the canary is within the budget"
    );
    runner.stop().await;
}

#[tokio::test]
async fn a_run_is_paused_resumed_and_cancelled_and_what_has_ended_stays_so() {
    let (bench, _) = bench("migration_pause").await;
    let id = bench
        .migrations
        .start(&ctx(LONG), new_run(vec![Wave::Percent(100)]))
        .await
        .unwrap()
        .id;
    let paused = bench.migrations.pause(&ctx(LONG), id, &reason()).await.unwrap();
    assert_eq!(paused.state, State::Paused);
    assert_eq!(
        bench.migrations.pause(&ctx(LONG), id, &reason()).await.unwrap(),
        paused,
        "again"
    );
    let runner = bench.migration_runner();
    runner.look().await.unwrap();
    assert_eq!(migrated(&bench), 0, "a paused run is not carried on");

    let another = bench
        .migrations
        .start(&ctx(LONG), new_run(vec![Wave::Percent(1)]))
        .await;
    assert_eq!(because(another), Because::MigrationRunning);
    bench.migrations.resume(&ctx(LONG), id, &reason()).await.unwrap();
    bench.migrations.cancel(&ctx(LONG), id, &reason()).await.unwrap();
    for outcome in [
        bench.migrations.resume(&ctx(LONG), id, &reason()).await,
        bench.migrations.pause(&ctx(LONG), id, &reason()).await,
    ] {
        assert_eq!(because(outcome), Because::StateForbids);
    }
    // The database holds it too.
    let by_hand = sqlx::query("UPDATE tenant.migration_runs SET state = 'running', finished_at = NULL");
    assert!(by_hand.execute(&bench.superuser).await.is_err());
    let next = bench
        .migrations
        .start(&ctx(LONG), new_run(vec![Wave::Percent(100)]))
        .await
        .unwrap();
    let done = until(&bench, &runner, next.id, State::Done).await;
    assert_eq!(done.migrated(), 10);
    assert_eq!(
        because(bench.migrations.cancel(&ctx(LONG), next.id, &reason()).await),
        Because::StateForbids
    );
    assert_eq!(
        because(bench.migrations.get(MigrationRunId::generate()).await),
        Because::ResourceNotFound
    );
    runner.stop().await;
}

#[tokio::test]
async fn whoever_turns_a_run_stands_in_the_log_once_with_why() {
    let (bench, _) = bench("migration_audit").await;
    let operators = [(); 4].map(|()| ctx(LONG));
    let [starts, pauses, resumes, cancels] = &operators;
    let whys = ["a column is added", "a rush", "it is over", "another way"];
    let [_, rush, over, another] = whys.map(|why| Reason::parse_required(why).unwrap());
    let runs = &bench.migrations;
    let id = runs.start(starts, new_run(vec![Wave::Percent(100)])).await.unwrap().id;
    // What changes nothing, or is refused, is none of their doing.
    for _ in 0..2 {
        runs.pause(pauses, id, &rush).await.unwrap();
    }
    runs.resume(resumes, id, &over).await.unwrap();
    runs.cancel(cancels, id, &another).await.unwrap();
    runs.resume(resumes, id, &over).await.unwrap_err();

    let turns = [
        ("migration.start", "accepted"),
        ("migration.pause", "done"),
        ("migration.resume", "done"),
        ("migration.cancel", "done"),
    ];
    let expected = turns.iter().zip(&operators).zip(whys);
    let expected = expected.map(|(((action, outcome), operator), why)| entry(operator, action, outcome, Some(why)));
    assert_eq!(bench.audited(None, id).await, expected.collect::<Vec<_>>());
}

#[tokio::test]
async fn a_call_under_way_does_not_outlive_a_pause() {
    let (bench, _) = bench("migration_late").await;
    let id = bench
        .migrations
        .start(&ctx(LONG), new_run(vec![Wave::Percent(100)]))
        .await
        .unwrap()
        .id;
    bench.fakes.plan("migrate_batch", Mishap::HangsAfter);
    let runner = bench.migration_runner();
    runner.look().await.unwrap();
    bench.fakes.hanging().await;
    let paused = bench.migrations.pause(&ctx(LONG), id, &reason()).await.unwrap();
    bench.fakes.heal();
    runner.stop().await;
    let after = bench.migrations.get(id).await.unwrap();
    assert_eq!(after, paused, "what comes late changes nothing");
}

#[tokio::test]
async fn what_a_dead_process_left_is_carried_on_by_another() {
    let (bench, _) = bench("migration_crash").await;
    let id = bench
        .migrations
        .start(&ctx(LONG), new_run(vec![Wave::Percent(100)]))
        .await
        .unwrap()
        .id;
    bench.fakes.plan("migrate_batch", Mishap::HangsAfter);
    let dead = bench.process().await;
    dead.carry_on_migrations().await;
    bench.fakes.hanging().await;
    dead.kill();
    bench.fakes.heal();
    let runner = bench.migration_runner();
    runner.look().await.unwrap();
    assert_eq!(bench.migrations.get(id).await.unwrap().migrated(), 0, "the lease holds");
    let over = sqlx::query("UPDATE tenant.migration_runs SET lease_until = now()");
    over.execute(&bench.superuser).await.unwrap();
    let done = until(&bench, &runner, id, State::Done).await;
    assert_eq!(done.migrated(), 10);
    assert!(bench.fakes.effects().houses.iter().all(|house| house.migrated == 1));
    runner.stop().await;
}

#[tokio::test]
async fn a_participant_that_is_away_is_asked_again() {
    let (bench, _) = bench("migration_away").await;
    let id = bench
        .migrations
        .start(&ctx(LONG), new_run(vec![Wave::Percent(100)]))
        .await
        .unwrap()
        .id;
    bench.fakes.plan("migrate_batch", Mishap::Fails);
    let runner = bench.migration_runner();
    let run = until_so(&bench, &runner, id, |run| run.away().is_some()).await;
    assert_eq!((run.state, run.failed()), (State::Running, 0), "no house has failed");
    bench.fakes.heal();
    let done = until(&bench, &runner, id, State::Done).await;
    assert_eq!((done.away(), migrated(&bench)), (None, 10));
    runner.stop().await;
}

#[tokio::test]
async fn a_call_that_is_repeated_answers_the_run_that_it_started() {
    let (bench, _) = bench("migration_request").await;
    let ctx = ctx(LONG);
    let request = Some(IdempotencyKey::generate());
    let with = |waves| NewRun {
        request,
        ..new_run(waves)
    };
    let all = || vec![Wave::Percent(100)];
    let (one, other) = tokio::join!(
        bench.migrations.start(&ctx, with(all())),
        bench.migrations.start(&ctx, with(all()))
    );
    assert_eq!(one.unwrap(), other.unwrap());
    assert_eq!(bench.count("SELECT count(*) FROM tenant.migration_runs").await, 1);
    let changed = bench.migrations.start(&ctx, with(vec![Wave::Percent(50)])).await;
    assert_eq!(because(changed), Because::RequestIdReused);
}

#[tokio::test]
async fn what_is_not_known_is_refused() {
    let (bench, _) = bench("migration_unknown").await;
    for target in [NEWEST + 1, i32::MAX] {
        let mut new = new_run(vec![Wave::Percent(100)]);
        new.plan.target = target;
        let refused = bench.migrations.start(&ctx(LONG), new).await;
        assert_eq!(because(refused), Because::MigrationVersionUnknown);
    }
    for outcome in [
        bench.migrations.plan(&ctx(LONG), ServiceName::Worker).await.map(drop),
        bench
            .migrations
            .check_drift(&ctx(LONG), drift("data9", ""))
            .await
            .map(drop),
    ] {
        let reason = because(outcome);
        assert!(
            matches!(reason, Because::FieldInvalid | Because::ResourceNotFound),
            "{reason:?}"
        );
    }
    let plan = bench.migrations.plan(&ctx(LONG), ServiceName::Crm).await.unwrap();
    assert_eq!(
        (
            plan.len(),
            plan[0].1.as_ref().unwrap().newest,
            plan[0].1.as_ref().unwrap().versions[0].houses
        ),
        (1, NEWEST, 10)
    );
    assert_eq!(bench.count("SELECT count(*) FROM tenant.migration_runs").await, 0);
}

#[tokio::test]
async fn canaries_without_a_home_are_refused_by_their_place() {
    let (bench, tenants) = bench("migration_canaries").await;
    let waves = vec![
        Wave::Percent(1),
        Wave::Tenants(vec![tenants[0], TenantId::generate(), tenants[1]]),
        Wave::Tenants(vec![TenantId::generate()]),
    ];
    let refused = bench.migrations.start(&ctx(LONG), new_run(waves)).await;
    let failure = Failure::from(refused.unwrap_err());
    let fields: Vec<&str> = failure.violations().iter().map(|one| one.field.as_str()).collect();
    assert_eq!(fields, ["waves[1].tenant_ids[1]", "waves[2].tenant_ids[0]"]);
    assert_eq!(failure.reason(), Because::FieldInvalid);
    assert_eq!(bench.count("SELECT count(*) FROM tenant.migration_runs").await, 0);
}

fn drift(server: &str, token: &str) -> DriftQuery {
    DriftQuery {
        participant: ServiceName::Crm,
        server: server.parse().unwrap(),
        size: 1,
        token: token.to_owned(),
    }
}

#[tokio::test]
async fn houses_are_compared_page_by_page_and_a_token_is_for_its_list() {
    let (bench, _) = bench("migration_drift").await;
    let ctx = ctx(LONG);
    let first = bench.migrations.check_drift(&ctx, drift("data1", "")).await.unwrap();
    assert_eq!(first.checked, 1);
    let last = bench
        .migrations
        .check_drift(&ctx, drift("data1", &first.next_page_token))
        .await
        .unwrap();
    assert_eq!(last.next_page_token, "");
    let forged = bench.migrations.check_drift(&ctx, drift("data1", "x")).await.map(drop);
    assert!(matches!(forged, Err(Error::PageToken)));
}

#[tokio::test]
async fn a_watcher_is_told_that_its_time_is_over() {
    let (bench, _) = bench("migration_watch").await;
    let run = bench
        .migrations
        .start(&ctx(LONG), new_run(vec![Wave::Percent(1)]))
        .await
        .unwrap();
    let seen: Vec<_> = bench
        .migrations
        .watch(&ctx(Duration::from_millis(1)), &run)
        .collect()
        .await;
    assert_eq!(seen[0].as_ref().unwrap(), &run);
    assert!(seen.len() == 2 && matches!(seen[1], Err(Error::WatchOver { .. })));
}

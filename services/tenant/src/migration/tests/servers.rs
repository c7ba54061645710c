//! Runs over two data servers, of which one is away.

use std::collections::BTreeSet;

use rowhouse_devkit::log::Log;
use tracing::Level;

use super::*;
use crate::operation::tests::server;

/// Ten houses on data1, one of each tenth, and five on data2, one of each fifth.
pub(super) async fn bench(name: &str) -> Bench {
    let (bench, _) = super::bench(name).await;
    let mut connection = bench.pool.acquire().await.unwrap();
    let data2 = crate::server::store::insert(&mut connection, &server("data2", 100)).await;
    assert!(data2.unwrap().is_some());
    drop(connection);
    let more = (0..5).map(|at| FakeHouse::new(TenantId::generate(), at * 20).on("data2"));
    bench.fakes.effects().houses.extend(more);
    bench
}

async fn start(bench: &Bench, waves: Vec<Wave>) -> Run {
    bench.migrations.start(&ctx(LONG), new_run(waves)).await.unwrap()
}

/// How many houses of the server are done.
fn migrated_on(bench: &Bench, server: &str) -> usize {
    let effects = bench.fakes.effects();
    let done = effects
        .houses
        .iter()
        .filter(|house| house.server == server && house.version == NEWEST);
    done.count()
}

/// Puts every house of data1 on data2, migrated, and lets the directory know.
async fn migrated_elsewhere(bench: &Bench) {
    for house in &mut bench.fakes.effects().houses {
        (house.server, house.version) = ("data2", NEWEST);
    }
    let moved = sqlx::query("UPDATE tenant.homes SET server = 'data2'");
    moved.execute(&bench.superuser).await.unwrap();
}

/// How often in a row data2 has not answered.
fn failures(run: &Run) -> u32 {
    let away = run.progress.get("data2").and_then(|progress| progress.away.as_ref());
    away.map_or(0, |away| away.failures)
}

/// The largest number last: what is recorded only grows.
#[tokio::test]
async fn each_server_has_as_many_calls_at_once_as_the_run_says_and_no_more() {
    let bench = bench("migration_parallel").await;
    let behind = bench.fakes.effects().houses.clone();
    let runner = bench.migration_runner();
    for parallelism in [1, 2, wire::PARALLELISM_MAX] {
        bench.fakes.effects().houses.clone_from(&behind);
        bench.fakes.plan("migrate_batch", Mishap::Waits);
        let mut new = new_run(vec![Wave::Percent(100)]);
        new.plan.parallelism = parallelism;
        let id = bench.migrations.start(&ctx(LONG), new).await.unwrap().id;
        let (before, both) = (bench.fakes.called("migrate_batch"), 2 * u32::from(parallelism));
        runner.look().await.unwrap();
        bench.fakes.until_called("migrate_batch", before + both).await;
        // Calls share a connection and come in order: one too many would have come before what is asked now.
        bench.migrations.plan(&ctx(LONG), ServiceName::Crm).await.unwrap();
        let wanted = ["data1", "data2"].map(|server| (server.to_owned(), u32::from(parallelism)));
        assert_eq!(bench.fakes.most_migrating(), BTreeMap::from(wanted.clone()));
        bench.fakes.heal();
        let done = until(&bench, &runner, id, State::Done).await;
        assert_eq!((done.migrated(), migrated(&bench)), (15, 15));
        assert_eq!(bench.fakes.most_migrating(), BTreeMap::from(wanted), "in every round");
    }
    runner.stop().await;
}

#[tokio::test]
async fn a_server_that_hangs_keeps_no_other_waiting() {
    let bench = bench("migration_hangs").await;
    let id = start(&bench, vec![Wave::Percent(100)]).await.id;
    bench.fakes.plan_on("data2", Mishap::HangsBefore);
    let runner = bench.migration_runner();
    let run = until_so(&bench, &runner, id, |_| migrated_on(&bench, "data1") == 10).await;
    assert_eq!(
        (run.state, run.wave),
        (State::Running, 0),
        "it is not over without data2"
    );
    runner.stop().await;
}

#[tokio::test]
async fn a_wave_ends_when_the_server_that_was_away_is_back_and_done() {
    let bench = bench("migration_back").await;
    let id = start(&bench, vec![Wave::Percent(50), Wave::Percent(100)]).await.id;
    bench.fakes.plan_on("data2", Mishap::Fails);
    let runner = bench.migration_runner();
    let waits = |run: &Run| failures(run) >= 2 && migrated_on(&bench, "data1") >= 5;
    let run = until_so(&bench, &runner, id, waits).await;
    assert_eq!((run.state, run.wave, run.failed()), (State::Running, 0, 0));
    assert_eq!(migrated_on(&bench, "data1"), 5, "the next wave has not begun");
    bench.fakes.heal();
    let done = until(&bench, &runner, id, State::Done).await;
    assert_eq!((done.migrated(), done.away(), migrated(&bench)), (15, None, 15));
    runner.stop().await;
}

#[tokio::test]
async fn another_process_goes_on_with_what_the_first_knew_of_a_server_that_is_away() {
    let bench = bench("migration_away_crash").await;
    let id = start(&bench, vec![Wave::Percent(100)]).await.id;
    bench.fakes.plan_on("data2", Mishap::Fails);
    let dead = bench.process().await;
    dead.carry_on_migrations().await;
    let away = async {
        loop {
            let run = bench.migrations.get(id).await.unwrap();
            if failures(&run) >= 1 {
                return run;
            }
            tokio::task::yield_now().await;
        }
    };
    let before = timeout(LONG, away).await.unwrap();
    dead.kill();
    let over = sqlx::query("UPDATE tenant.migration_runs SET lease_until = now() WHERE lease_id IS NOT NULL");
    over.execute(&bench.superuser).await.unwrap();
    let runner = bench.migration_runner();
    let more = failures(&before) + 2;
    let after = until_so(&bench, &runner, id, |run| failures(run) >= more).await;
    let since = |run: &Run| run.away().map(|(_, away)| away.since);
    assert_eq!(since(&after), since(&before));
    bench.fakes.heal();
    let done = until(&bench, &runner, id, State::Done).await;
    assert_eq!((done.migrated(), migrated(&bench)), (15, 15));
    runner.stop().await;
}

#[tokio::test]
async fn a_run_starts_while_a_server_is_away_and_migrates_it_when_it_is_back() {
    let bench = bench("migration_away_start").await;
    bench.fakes.plan_on("data2", Mishap::Fails);
    let run = start(&bench, vec![Wave::Percent(100)]).await;
    assert_eq!((run.planned, run.migrated(), run.away().unwrap().0), (10, 0, "data2"));
    bench.fakes.heal();
    let runner = bench.migration_runner();
    let done = until(&bench, &runner, run.id, State::Done).await;
    assert_eq!((done.planned, done.migrated(), migrated(&bench)), (15, 15, 15));
    runner.stop().await;
}

#[tokio::test]
async fn each_fault_names_its_data_server() {
    let bench = bench("migration_faults").await;
    for house in [0, 10] {
        bench.fakes.effects().houses[house].is_broken = true;
    }
    let mut new = new_run(vec![Wave::Percent(100)]);
    new.plan.failure_budget = 2;
    let id = bench.migrations.start(&ctx(LONG), new).await.unwrap().id;
    let runner = bench.migration_runner();
    let done = until(&bench, &runner, id, State::Done).await;
    let told = wire::migration(&done).faults;
    let servers: Vec<&str> = told.iter().map(|fault| fault.server.as_str()).collect();
    assert_eq!(servers, ["data1", "data2"]);
    runner.stop().await;
}

#[tokio::test]
async fn a_plan_tells_of_the_servers_that_answer_in_time() {
    let bench = bench("migration_away_plan").await;
    bench.fakes.plan_on("data2", Mishap::HangsBefore);
    let time = Duration::from_secs(6);
    let planned = bench.migrations.plan(&ctx(time), ServiceName::Crm).await.unwrap();
    let counted: Vec<_> = planned
        .iter()
        .map(|(server, fleet)| {
            (
                server.as_str(),
                fleet.as_ref().ok().map(|fleet| fleet.versions[0].houses),
            )
        })
        .collect();
    assert_eq!(counted, [("data1", Some(10)), ("data2", None)]);
}

#[tokio::test]
async fn nothing_starts_where_no_server_answers() {
    let bench = bench("migration_all_away").await;
    bench.fakes.plan("describe_fleet", Mishap::Fails);
    let refused = bench
        .migrations
        .start(&ctx(LONG), new_run(vec![Wave::Percent(100)]))
        .await;
    assert_eq!(because(refused), Because::DependencyUnavailable);
    assert_eq!(bench.count("SELECT count(*) FROM tenant.migration_runs").await, 0);
}

#[tokio::test]
async fn a_server_that_hangs_keeps_no_versions_of_another_from_the_directory() {
    let bench = bench("versions_hangs").await;
    migrated_elsewhere(&bench).await;
    bench.fakes.plan_on("data1", Mishap::HangsBefore);
    let versions = bench.versions();
    let looking = tokio::spawn(async move { versions.look(&mut BTreeSet::new()).await });
    bench.fakes.hanging().await;
    let told = async {
        let newest = "SELECT count(*) FROM tenant.homes WHERE version = 3";
        while bench.count(newest).await < 10 {}
    };
    timeout(LONG, told).await.expect("data2's homes were never told of");
    assert!(!looking.is_finished(), "the control: data1 hangs");
    looking.abort();
}

#[tokio::test]
async fn a_server_that_fails_keeps_no_other_from_it_and_is_logged_once_until_it_has_answered() {
    let bench = bench("versions_fails").await;
    migrated_elsewhere(&bench).await;
    let (versions, mut silent) = (bench.versions(), BTreeSet::new());
    let log = Log::listen("rowhouse_tenant", Level::WARN);
    let mut look = async || versions.look(&mut silent).await.unwrap();
    bench.fakes.plan_on("data1", Mishap::Fails);
    for _ in 0..3 {
        look().await;
    }
    let newest = "SELECT count(*) FROM tenant.homes WHERE version = 3";
    assert_eq!(bench.count(newest).await, 10);
    let entries = log.take();
    let servers: Vec<Option<&str>> = entries.iter().map(|entry| entry.field("server")).collect();
    assert_eq!(servers, [Some("data1")]);
    bench.fakes.heal();
    look().await;
    assert_eq!(log.take(), []);
    bench.fakes.plan_on("data1", Mishap::Fails);
    look().await;
    assert_eq!(log.take().len(), 1);
}

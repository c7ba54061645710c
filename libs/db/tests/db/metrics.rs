//! What is counted and measured. The recorder is this thread's own, and everything here runs on this thread.

use std::collections::{BTreeMap, BTreeSet};

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};
use rowhouse_db::{Error, Home, Lanes, Mode, OwnDatabases, TenantDb, TenantDbConfig};
use rowhouse_devkit::servers::Login;
use rowhouse_types::{Placement, TenantId};

use crate::bench::{Bench, LONG, config, ctx, until};
use crate::lanes::{SHORT, list, open};
use crate::notes::BACKEND;

/// One of two connections has served 336 of so many homes, and is closed.
const HOMES: usize = 2 * 336;

/// That one of two lanes is the first choice of all of these happens once in 2^39 runs.
const HOMES_OF_LANES: u64 = 40;

const README: &str = include_str!("../../README.md");

/// A process, straight at PostgreSQL, with one connection of each kind and one slot for each tenant.
async fn process(bench: &Bench) -> TenantDb {
    let lanes = Lanes {
        count: 2,
        connections_per_lane_max: 1,
        server_connections_per_lane: 1,
        slots_per_tenant: 1,
        are_aliases: false,
    };
    let config = TenantDbConfig {
        own_databases: OwnDatabases {
            connections_max: 1,
            ..OwnDatabases::default()
        },
        ..config(bench.databases.data_url(Login::App), lanes)
    };
    TenantDb::connect(config, bench.directory.clone()).await.unwrap()
}

/// What was counted or measured by this name, by its labels as they are written.
pub(crate) fn values(recorder: &PrometheusRecorder, name: &str) -> BTreeMap<String, u64> {
    let text = recorder.handle().render();
    let values = text.lines().filter_map(|line| {
        let (key, value) = line.rsplit_once(' ')?;
        let labels = key.strip_prefix(name)?;
        (labels.is_empty() || labels.starts_with('{')).then(|| (labels.to_owned(), value.parse().unwrap()))
    });
    values.collect()
}

/// How many waits were measured.
fn waits(recorder: &PrometheusRecorder, what: &str) -> u64 {
    let counts = values(recorder, "rowhouse_db_wait_seconds_count");
    let count = counts.get(&format!("{{for=\"{what}\"}}"));
    count.copied().unwrap_or_default()
}

/// The names of what was counted or measured.
fn names(recorder: &PrometheusRecorder) -> BTreeSet<String> {
    let text = recorder.handle().render();
    let kinds = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    kinds
        .filter_map(|kind| kind.split(' ').next())
        .filter(|name| name.starts_with("rowhouse_db_"))
        .map(str::to_owned)
        .collect()
}

#[tokio::test]
async fn a_wait_that_was_given_up_is_measured_too() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let _local = metrics::set_default_local_recorder(&recorder);
    let bench = Bench::start("waits", 1).await;
    let (one, two) = (process(&bench).await, process(&bench).await);
    let (tenant, own) = (bench.tenant().await, bench.tenant_in(Placement::Database).await);
    assert_eq!(list(&two, tenant, LONG).await, Ok(0), "its lane is connected");
    let stream = one.bulk();
    let held = (
        open(&one, tenant).await,
        open(&stream, tenant).await,
        open(&one, own).await,
    );
    for (what, db, tenant, error) in [
        ("permit", &one, tenant, Error::Busy),
        ("slot", &two, tenant, Error::Busy),
        ("connection", &stream, tenant, Error::DeadlineExceeded),
        ("connection", &one, own, Error::DeadlineExceeded),
    ] {
        let before = waits(&recorder, what);
        assert_eq!(list(db, tenant, SHORT).await, Err(error), "{what}");
        assert_eq!(waits(&recorder, what), before + 1, "{what}");
    }
    drop(held);
}

#[tokio::test]
async fn a_lane_is_measured_by_what_is_open_and_by_what_it_has_served() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let _local = metrics::set_default_local_recorder(&recorder);
    let bench = Bench::start("lane_gauges", 1).await;
    let db = process(&bench).await;
    let home = bench.prepare(TenantId::generate()).await;
    bench.directory.put(home.clone());
    let open = || values(&recorder, "rowhouse_db_lane_connections");
    let served = || values(&recorder, "rowhouse_db_lane_homes");
    assert_eq!((open(), served()), (BTreeMap::new(), BTreeMap::new()));
    // The same home over the same connection counts once.
    for _ in 0..2 {
        assert_eq!(list(&db, home.tenant, LONG).await, Ok(0));
        assert_eq!(served().into_values().collect::<Vec<_>>(), [1]);
        assert_eq!(open(), served(), "in one lane");
    }
    // So many that they meet in both lanes; the server does not know them.
    for _ in 1..HOMES_OF_LANES {
        let tenant = TenantId::generate();
        bench.directory.put(Home { tenant, ..home.clone() });
        assert_eq!(list(&db, tenant, LONG).await, Err(Error::TenantNotReady));
    }
    assert_eq!(open().into_values().collect::<Vec<_>>(), [1, 1]);
    assert_eq!(served().into_values().sum::<u64>(), HOMES_OF_LANES);
    db.shutdown().await;
    until(|| async { open().into_values().collect::<Vec<_>>() == [0, 0] }).await;
}

#[tokio::test]
async fn the_readme_lists_every_metric_and_each_of_them_appears() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let _local = metrics::set_default_local_recorder(&recorder);
    let bench = Bench::start("metrics", 1).await;
    let (one, two) = (process(&bench).await, process(&bench).await);
    let (tenant, own) = (bench.tenant().await, bench.tenant_in(Placement::Database).await);
    assert_eq!(list(&one, own, LONG).await, Ok(0));
    assert_eq!(list(&two, tenant, LONG).await, Ok(0), "its lane is connected");
    two.ping().await.unwrap();

    // A slot is refused, and a transaction dropped.
    let held = open(&one, tenant).await;
    assert_eq!(list(&two, tenant, SHORT).await, Err(Error::Busy));
    drop(held);

    // The directory knows homes that the server does not: it is asked afresh, and the connection counts them.
    let home = bench.prepare(TenantId::generate()).await;
    for _ in 0..HOMES {
        let tenant = TenantId::generate();
        bench.directory.put(Home { tenant, ..home.clone() });
        assert_eq!(list(&one, tenant, LONG).await, Err(Error::TenantNotReady));
    }

    // A dropped transaction whose back end is gone cannot be rolled back.
    let superuser = bench.superuser().await;
    let mut lost = one.begin(&ctx(tenant, LONG), Mode::Read).await.unwrap();
    let back_end = lost.fetch_one(&BACKEND, &[]).await.unwrap().0;
    let terminate = "SELECT pg_terminate_backend($1, 20000)";
    superuser.execute(terminate, &[&back_end]).await.unwrap();
    drop(lost);

    let listed: BTreeSet<String> = README
        .split('`')
        .filter(|word| word.starts_with("rowhouse_db_"))
        .map(str::to_owned)
        .collect();
    until(|| async { names(&recorder).contains("rowhouse_db_discarded_connections_total") }).await;
    assert_eq!(names(&recorder), listed);
}

//! From the outbox to the broker.

use std::sync::atomic::{AtomicI64, Ordering};

use super::*;
use crate::Companion;

#[tokio::test(flavor = "multi_thread")]
async fn an_event_reaches_its_queue_with_id_and_headers() {
    let mut world = World::new("reaches").await;
    world.relay();
    let seen = Arc::new(Mutex::new(None));
    let kept = Arc::clone(&seen);
    world.consumer(move |delivery| {
        *kept.lock().unwrap() = Some(delivery.clone());
        Ok(())
    });
    let tenant = rowhouse_types::TenantId::generate();
    let sent = Event {
        tenant: Some(tenant),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
        ..event(KIND)
    };
    let mut connection = world.pool.acquire().await.unwrap();
    outbox::append(&mut connection, "test", &sent).await.unwrap();
    until("the event arrives", async || seen.lock().unwrap().is_some()).await;
    let got = seen.lock().unwrap().clone().unwrap();
    assert_eq!((got.id, got.kind.as_str(), got.tenant), (sent.id, KIND, Some(tenant)));
    assert_eq!(
        (got.request_id.as_str(), got.traceparent),
        ("request-1", sent.traceparent)
    );
    assert_eq!((got.payload, got.attempt), (sent.payload, 1));
    world
        .until_count("the outbox is empty", "SELECT count(*) FROM test.outbox", 0)
        .await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_queue_takes_waits_and_does_not_stand_before_others() {
    let mut world = World::new("unroutable").await;
    for _ in 0..250 {
        world.append("test.nobody_listens.v1").await;
    }
    let unheard = world.append("test.unheard.v1").await;
    world.relay();
    world
        .until_count(
            "the kind that needs no listener is gone",
            "SELECT count(*) FROM test.outbox WHERE kind = 'test.unheard.v1'",
            0,
        )
        .await;
    assert_eq!(world.outbox_rows().await, 250, "{unheard}");

    world.consumer(|_| Ok(()));
    let heard = world.append(KIND).await;
    world
        .until_count("the heard one is handled", "SELECT count(*) FROM test.effects", 1)
        .await;
    assert_eq!(world.outbox_rows().await, 250, "{heard}");

    let channel = world.broker.channel(Purpose::Consume).await.unwrap();
    let late = Queue {
        name: "test.late",
        bindings: &["test.nobody_listens.v1"],
        ..QUEUE
    };
    topology::declare_queue(&channel, &late).await.unwrap();
    world
        .until_count(
            "all are published once a queue takes them",
            "SELECT count(*) FROM test.outbox",
            0,
        )
        .await;
    until("all are in the queue", async || {
        topology::look_at(&channel, &late).await.unwrap() == 250
    })
    .await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_commits_late_is_not_missed() {
    let mut world = World::new("late").await;
    world.relay();
    world.consumer(|_| Ok(()));
    let mut late = world.pool.begin().await.unwrap();
    outbox::append(&mut late, "test", &event(KIND)).await.unwrap();
    for _ in 0..20 {
        world.append(KIND).await;
    }
    world
        .until_count("the others are handled", "SELECT count(*) FROM test.effects", 20)
        .await;
    late.commit().await.unwrap();
    world
        .until_count("the late one is handled", "SELECT count(*) FROM test.effects", 21)
        .await;
    world.end().await;
}

/// Every connection is cut again and again while events flow; two relays compete.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_done_twice_when_connections_are_cut() {
    let proxy = Proxy::start().await;
    let mut world = World::through("cuts", Some(&proxy)).await;
    world.relay();
    world.relay();
    world.consumer(|_| Ok(()));
    let mut cut = 0;
    for _ in 0..5 {
        for _ in 0..40 {
            world.append(KIND).await;
        }
        until("there is something to cut", async || proxy.open().await > 0).await;
        cut += proxy.cut().await;
    }
    assert!(cut >= 5, "only {cut} connections were there to cut");
    world
        .until_count(
            "everything is handled",
            "SELECT count(DISTINCT message_id) FROM test.effects",
            200,
        )
        .await;
    world
        .until_count("the outbox is empty", "SELECT count(*) FROM test.outbox", 0)
        .await;
    assert_eq!(world.count("SELECT count(*) FROM test.effects").await, 200);
    world.end().await;
}

/// A broker that takes bytes and says nothing: neither confirms nor messages arrive, and no connection ends.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_done_twice_when_the_broker_falls_silent() {
    let proxy = Proxy::start().await;
    let mut world = World::through("silent", Some(&proxy)).await;
    world.relay();
    world.consumer(|_| Ok(()));
    world.append(KIND).await;
    world
        .until_count("the first is handled", "SELECT count(*) FROM test.effects", 1)
        .await;
    proxy.freeze(true);
    let connections = proxy.open().await;
    for _ in 0..50 {
        world.append(KIND).await;
    }
    // The relay has waited for its confirms in vain, given the rows back and connected anew.
    until("somebody connects anew", async || proxy.open().await > connections).await;
    assert_eq!(world.outbox_rows().await, 50);
    proxy.freeze(false);
    world
        .until_count("everything is handled", "SELECT count(*) FROM test.effects", 51)
        .await;
    world
        .until_count("the outbox is empty", "SELECT count(*) FROM test.outbox", 0)
        .await;
    assert_eq!(world.count("SELECT count(*) FROM test.effects").await, 51);
    world.end().await;
}

/// Counts the visits of databases that are there.
#[derive(Default)]
struct Visited {
    times: AtomicI64,
}

#[async_trait::async_trait]
impl Companion for Visited {
    async fn visit(&self, database: &PgPool) {
        // One of the databases is absent.
        let there = sqlx::query("SELECT 1").execute(database).await;
        self.times.fetch_add(i64::from(there.is_ok()), Ordering::Relaxed);
    }
}

/// Of tenants with a database of their own: one that is ready is found, one that is not is left alone, and none keeps a
/// connection.
#[tokio::test(flavor = "multi_thread")]
async fn events_in_databases_that_come_and_go_are_published() {
    let mut world = World::new("databases").await;
    world.consumer(|_| Ok(()));
    let pair = Databases::empty("databases_own").await.unwrap();
    let mut pools = Vec::new();
    for url in [pair.control_superuser_url(), pair.data_superuser_url()] {
        let pool = PgPoolOptions::new().max_connections(1).connect(&url).await.unwrap();
        sqlx::raw_sql(TABLES).execute(&pool).await.unwrap();
        pools.push(pool);
    }
    sqlx::raw_sql("CREATE TABLE test.databases (database_name text PRIMARY KEY, state text NOT NULL)")
        .execute(&world.pool)
        .await
        .unwrap();
    for (name, state) in [
        (pair.control_name(), "ready"),
        (pair.data_name(), "building"),
        ("absent", "ready"),
    ] {
        sqlx::query("INSERT INTO test.databases VALUES ($1, $2)")
            .bind(name)
            .bind(state)
            .execute(&world.pool)
            .await
            .unwrap();
    }
    for pool in &pools {
        for _ in 0..120 {
            let mut connection = pool.acquire().await.unwrap();
            outbox::append(&mut connection, "test", &event(KIND)).await.unwrap();
        }
    }
    let beside = |main: &PgPool, name: &str| {
        let options = (*main.connect_options()).clone().database(name);
        PgPoolOptions::new().max_connections(1).connect_lazy_with(options)
    };
    let visited = Arc::new(Visited::default());
    let broker = world.broker.clone();
    let relay = DatabasesRelay::new("test", world.pool.clone(), beside, "test", broker, visited.clone());
    world.tasks.push(tokio::spawn(relay.run(world.stop.clone())));
    world
        .until_count("the ready one's are handled", "SELECT count(*) FROM test.effects", 120)
        .await;
    let left = async |pool: &PgPool| -> i64 {
        let counting = sqlx::query_scalar("SELECT count(*) FROM test.outbox");
        counting.fetch_one(pool).await.unwrap()
    };
    until("the outbox is empty", async || left(&pools[0]).await == 0).await;
    assert_eq!(left(&pools[1]).await, 120);
    until("somebody comes along", async || {
        visited.times.load(Ordering::Relaxed) > 0
    })
    .await;
    // The visit's connection ends; this test's own stays.
    until("the database is left alone", async || {
        let others =
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
        let others: i64 = sqlx::query_scalar(others).fetch_one(&pools[0]).await.unwrap();
        others == 0
    })
    .await;
    sqlx::query("UPDATE test.databases SET state = 'ready'")
        .execute(&world.pool)
        .await
        .unwrap();
    world
        .until_count("the other's follow", "SELECT count(*) FROM test.effects", 240)
        .await;
    world.end().await;
}

//! Relay and consumer against real servers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use lapin::options::BasicGetOptions;
use rowhouse_config::Secret;
use rowhouse_devkit::cluster::Kind;
use rowhouse_devkit::fixture::{Databases, VirtualHost};
use serde_json::json;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::broker::Purpose;
use crate::{
    Broker, Consumer, DatabasesRelay, Delivery, Event, Handler, HandlerError, Ledger, OutboxTable, Queue, Relay, Wake,
    outbox, topology,
};

mod consuming;
mod proxy;
mod relaying;

use proxy::Proxy;

const TABLES: &str = "
    CREATE SCHEMA test;
    CREATE TABLE test.outbox (
        id uuid PRIMARY KEY, tenant_id uuid, kind text NOT NULL, payload jsonb NOT NULL, request_id text NOT NULL,
        traceparent text, created_at timestamptz NOT NULL DEFAULT now());
    CREATE TABLE test.attempts (
        queue text NOT NULL, message_id uuid NOT NULL, kind text NOT NULL, attempts integer NOT NULL,
        last_error text, parked_at timestamptz, updated_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (queue, message_id));
    CREATE TABLE test.processed (
        queue text NOT NULL, message_id uuid NOT NULL, processed_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (queue, message_id));
    CREATE TABLE test.effects (message_id uuid NOT NULL);";

const QUEUE: Queue = Queue {
    name: "test.things",
    bindings: &["test.thing_happened.v1"],
    prefetch: 32,
    attempts_max: 3,
};
const KIND: &str = "test.thing_happened.v1";

/// A wait that ends sooner or fails the test.
const PATIENCE: Duration = Duration::from_secs(30);

/// A database, a virtual host and what runs on them.
struct World {
    pool: PgPool,
    broker: Broker,
    _host: VirtualHost,
    wake: Wake,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
    _databases: Databases,
}

impl World {
    async fn new(name: &str) -> Self {
        Self::through(name, None).await
    }

    /// A world whose broker is reached through a proxy.
    async fn through(name: &str, proxy: Option<&Proxy>) -> Self {
        let databases = Databases::empty_only(Kind::Control, name).await.unwrap();
        let pool = PgPoolOptions::new()
            .max_connections(8)
            .connect(&databases.control_superuser_url())
            .await
            .unwrap();
        sqlx::raw_sql(TABLES).execute(&pool).await.unwrap();
        let host = VirtualHost::create(name).await.unwrap();
        let broker = Broker::connect(&Secret::new(
            proxy.map_or_else(|| host.url().to_owned(), |proxy| proxy.url(host.url())),
        ))
        .unwrap();
        Self {
            pool,
            broker,
            _host: host,
            wake: Wake::new(),
            stop: CancellationToken::new(),
            tasks: Vec::new(),
            _databases: databases,
        }
    }

    fn relay(&mut self) {
        let table = OutboxTable::new(self.pool.clone(), "test");
        let relay =
            Relay::new("test", table, self.broker.clone(), self.wake.clone()).may_be_unheard(&["test.unheard.v1"]);
        self.tasks.push(tokio::spawn(relay.run(self.stop.clone())));
    }

    fn consumer(&mut self, act: impl Fn(&Delivery) -> Result<(), HandlerError> + Send + Sync + 'static) -> Seen {
        let ledger = Ledger::new(self.pool.clone(), "test");
        let seen = Seen::default();
        let handler = Effects {
            pool: self.pool.clone(),
            ledger: ledger.clone(),
            seen: seen.clone(),
            act: Box::new(act),
        };
        let consumer = Consumer::new(self.broker.clone(), QUEUE, ledger, Arc::new(handler));
        self.tasks.push(tokio::spawn(consumer.run(self.stop.clone())));
        seen
    }

    async fn append(&self, kind: &str) -> Uuid {
        let event = event(kind);
        let mut connection = self.pool.acquire().await.unwrap();
        outbox::append(&mut connection, "test", &event).await.unwrap();
        self.wake.notify();
        event.id
    }

    async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.pool).await.unwrap()
    }

    async fn outbox_rows(&self) -> i64 {
        self.count("SELECT count(*) FROM test.outbox").await
    }

    async fn until_count(&self, what: &str, sql: &'static str, wanted: i64) {
        until(what, async || self.count(sql).await == wanted).await;
    }

    /// Ends everything and waits for that.
    async fn end(self) {
        self.stop.cancel();
        for task in self.tasks {
            task.await.unwrap();
        }
        self.broker.close().await;
    }
}

/// Which messages a handler saw, and how often.
#[derive(Clone, Default)]
struct Seen {
    attempts: Arc<Mutex<BTreeMap<Uuid, Vec<u32>>>>,
}

impl Seen {
    fn attempts(&self, id: Uuid) -> Vec<u32> {
        self.attempts.lock().unwrap().get(&id).cloned().unwrap_or_default()
    }
}

type Act = dyn Fn(&Delivery) -> Result<(), HandlerError> + Send + Sync;

/// Writes one row a message.
struct Effects {
    pool: PgPool,
    ledger: Ledger,
    seen: Seen,
    act: Box<Act>,
}

#[async_trait]
impl Handler for Effects {
    async fn handle(&self, delivery: &Delivery) -> Result<(), HandlerError> {
        self.seen
            .attempts
            .lock()
            .unwrap()
            .entry(delivery.id)
            .or_default()
            .push(delivery.attempt);
        (self.act)(delivery)?;
        let mut transaction = self.pool.begin().await.unwrap();
        if !self
            .ledger
            .record(&mut transaction, QUEUE.name, delivery.id)
            .await
            .unwrap()
        {
            return Ok(());
        }
        sqlx::query("INSERT INTO test.effects VALUES ($1)")
            .bind(delivery.id)
            .execute(&mut *transaction)
            .await
            .unwrap();
        transaction.commit().await.unwrap();
        Ok(())
    }
}

fn event(kind: &str) -> Event {
    Event {
        id: Uuid::now_v7(),
        tenant: None,
        kind: kind.to_owned(),
        payload: json!({"thing_id": "thing_1"}),
        request_id: "request-1".to_owned(),
        traceparent: None,
    }
}

/// Waits for a condition.
async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let begun = tokio::time::Instant::now();
    while !condition().await {
        assert!(begun.elapsed() < PATIENCE, "waited too long until {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

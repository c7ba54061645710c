//! T02: every future of a transaction dropped at every await point, with a pool of one connection.

use std::pin::Pin;
use std::task::{Context, Poll};

use rowhouse_db::{Error, Lanes, Mode, OwnDatabases, TenantDb, TenantDbConfig};
use rowhouse_devkit::torture::Torture;
use rowhouse_types::{Placement, TenantId};
use uuid::Uuid;

use crate::bench::{Bench, LONG, config, ctx, schema_of};
use crate::notes::{INSERT, INSERT_WITH_EVENT, LIST, Note};

/// More polls than any of the operations needs.
const POLLS_MAX: usize = 60;

/// A future that is polled so many times at most and then dropped.
pub(crate) struct AtMost<T> {
    future: Option<Pin<Box<dyn Future<Output = T> + Send>>>,
    polls: usize,
}

impl<T> AtMost<T> {
    pub(crate) fn new(future: impl Future<Output = T> + Send + 'static, polls: usize) -> Self {
        Self {
            future: Some(Box::pin(future)),
            polls,
        }
    }
}

impl<T> Future for AtMost<T> {
    /// None: it was dropped.
    type Output = Option<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.polls -= 1;
        let future = self.future.as_mut().expect("polled after its end");
        match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if self.polls == 0 => {
                self.future = None;
                Poll::Ready(None)
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

type Operation = fn(TenantDb, TenantId) -> Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

fn read_single(db: TenantDb, tenant: TenantId) -> Pin<Box<dyn Future<Output = Result<(), Error>> + Send>> {
    Box::pin(async move {
        let mut tx = db.begin_single(&ctx(tenant, LONG), Mode::Read).await?;
        tx.fetch_all(&LIST, &[]).await.map(drop)
    })
}

fn write_single(db: TenantDb, tenant: TenantId) -> Pin<Box<dyn Future<Output = Result<(), Error>> + Send>> {
    Box::pin(async move {
        let mut tx = db.begin_single(&ctx(tenant, LONG), Mode::Write).await?;
        let id = Uuid::now_v7();
        tx.fetch_one(&INSERT_WITH_EVENT, &[&id, &format!("whole {id}"), &id])
            .await
            .map(drop)
    })
}

pub(crate) fn write_several(db: TenantDb, tenant: TenantId) -> Pin<Box<dyn Future<Output = Result<(), Error>> + Send>> {
    Box::pin(async move {
        let mut tx = db.begin(&ctx(tenant, LONG), Mode::Write).await?;
        for _ in 0..2 {
            let id = Uuid::now_v7();
            tx.fetch_one(&INSERT_WITH_EVENT, &[&id, &format!("whole {id}"), &id])
                .await?;
        }
        tx.commit().await
    })
}

fn write_and_commit_with_the_last(
    db: TenantDb,
    tenant: TenantId,
) -> Pin<Box<dyn Future<Output = Result<(), Error>> + Send>> {
    Box::pin(async move {
        let mut tx = db.begin(&ctx(tenant, LONG), Mode::Write).await?;
        tx.fetch_all(&LIST, &[]).await?;
        tx.commit_with_next();
        let id = Uuid::now_v7();
        tx.fetch_one(&INSERT_WITH_EVENT, &[&id, &format!("whole {id}"), &id])
            .await
            .map(drop)
    })
}

/// Never commits: nobody may ever see its row.
fn write_and_forget(db: TenantDb, tenant: TenantId) -> Pin<Box<dyn Future<Output = Result<(), Error>> + Send>> {
    Box::pin(async move {
        let mut tx = db.begin(&ctx(tenant, LONG), Mode::Write).await?;
        tx.fetch_one(&INSERT, &[&Uuid::now_v7(), &"forgotten"]).await.map(drop)
    })
}

fn refused(db: TenantDb, tenant: TenantId) -> Pin<Box<dyn Future<Output = Result<(), Error>> + Send>> {
    Box::pin(async move {
        let mut tx = db.begin(&ctx(tenant, LONG), Mode::Write).await?;
        tx.fetch_one(&INSERT, &[&Uuid::now_v7(), &"same"]).await?;
        let refused = tx.fetch_one(&INSERT, &[&Uuid::now_v7(), &"same"]).await;
        assert!(refused.is_err());
        Ok(())
    })
}

#[tokio::test]
async fn a_dropped_future_never_leaves_a_dirty_connection() {
    let operations: [(&str, Operation); 6] = [
        ("read_single", read_single),
        ("write_single", write_single),
        ("write_several", write_several),
        ("write_and_commit_with_the_last", write_and_commit_with_the_last),
        ("write_and_forget", write_and_forget),
        ("refused", refused),
    ];
    let mut torture = Torture::begin("T02", "every await point");
    while torture.round().is_some() {
        for placement in [Placement::Schema, Placement::Shared, Placement::Database] {
            everywhere(&mut torture, placement, operations).await;
        }
    }
}

async fn everywhere(torture: &mut Torture, placement: Placement, operations: [(&str, Operation); 6]) {
    let bench = Bench::start("drops", 1).await;
    let db = one_connection(&bench).await;
    let one = bench.tenant_in(placement).await;
    let (superuser, next) = if placement == Placement::Database {
        (bench.superuser_of(one).await, Next::Same(one))
    } else {
        let other = bench.tenant_in(placement).await;
        let canary = bench.insert(other, "canary").await.unwrap();
        (bench.superuser().await, Next::Another(other, canary))
    };
    for (name, operation) in operations {
        let mut finished = 0;
        for polls in 1..=POLLS_MAX {
            let outcome = AtMost::new(operation(db.clone(), one), polls).await;
            torture.trials(1);
            assert!(next.finds_nothing_foreign(&db).await, "{name} after {polls} polls");
            whole(&bench, &superuser, one, name, polls).await;
            match outcome {
                Some(result) => result.unwrap(),
                None => continue,
            }
            finished += 1;
            if finished == 3 {
                break;
            }
        }
        assert!(finished > 0, "{name} never came to its end");
    }
    assert_eq!(bench.busy_backends(&superuser).await, 0);
    db.shutdown().await;
}

/// The very next user of the one connection, who commits.
enum Next {
    /// Another tenant, who has this note and no other.
    Another(TenantId, Note),
    /// In a database of its own, where nobody else comes to: what was given up is not there.
    Same(TenantId),
}

impl Next {
    async fn finds_nothing_foreign(&self, db: &TenantDb) -> bool {
        let (Self::Another(tenant, _) | Self::Same(tenant)) = self;
        let mut tx = db.begin_single(&ctx(*tenant, LONG), Mode::Read).await.unwrap();
        let notes = tx.fetch_all(&LIST, &[]).await.unwrap();
        match self {
            Self::Another(_, canary) => notes == std::slice::from_ref(canary),
            Self::Same(_) => notes.iter().all(|note| note.body.starts_with("whole ")),
        }
    }
}

/// One to the main database, and one to each tenant's own.
async fn one_connection(bench: &Bench) -> TenantDb {
    let config = TenantDbConfig {
        own_databases: OwnDatabases {
            connections_max: 1,
            ..OwnDatabases::default()
        },
        ..config(bench.databases.data_pooled_url(), Lanes::OFF)
    };
    TenantDb::connect(config, bench.directory.clone()).await.unwrap()
}

/// What was committed is whole: as many events as notes, and nothing of transactions that never sent COMMIT.
async fn whole(bench: &Bench, superuser: &tokio_postgres::Client, tenant: TenantId, name: &str, polls: usize) {
    let home = schema_of(superuser, tenant).await;
    let sql = format!(
        "SELECT (SELECT count(*) FROM {home}.notes WHERE tenant_id = $1), (SELECT count(*) FROM rowhouse.outbox),
                (SELECT count(*) FROM {home}.notes WHERE tenant_id = $1 AND body NOT LIKE 'whole %')"
    );
    let row = superuser.query_one(&sql, &[&tenant.uuid()]).await.unwrap();
    let (notes, events, torn): (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
    assert_eq!((notes, torn), (events, 0), "{name} after {polls} polls");
    assert_eq!(bench.busy_backends(superuser).await, 0, "{name} after {polls} polls");
}

/// The control: a connection that is used again without a rollback commits what its last user had given up.
#[tokio::test]
async fn without_the_rollback_a_forgotten_write_would_be_seen() {
    let bench = Bench::start("no_rollback", 1).await;
    let (one, other) = (bench.tenant().await, bench.tenant().await);
    let enter = |tenant: TenantId| {
        format!(
            "BEGIN; SET LOCAL ROLE NONE; SELECT rowhouse.enter('{}', 'crm', 1, 'write', 1, 2, 1000)",
            tenant.uuid()
        )
    };
    let naive = bench.app().await;
    naive.batch_execute(&enter(one)).await.unwrap();
    let insert = format!(
        "INSERT INTO notes VALUES ('{}', '{}', 'forgotten')",
        one.uuid(),
        Uuid::now_v7()
    );
    naive.batch_execute(&insert).await.unwrap();
    // Its user has gone; here comes the next one.
    naive.batch_execute(&format!("{}; COMMIT", enter(other))).await.unwrap();
    let bodies: Vec<String> = bench
        .list(one)
        .await
        .unwrap()
        .into_iter()
        .map(|note: Note| note.body)
        .collect();
    assert_eq!(bodies, ["forgotten"]);
}

#[tokio::test]
async fn a_transaction_whose_statement_was_dropped_is_over() {
    let bench = Bench::start("over", 1).await;
    let tenant = bench.tenant().await;
    let mut tx = bench.db.begin(&ctx(tenant, LONG), Mode::Write).await.unwrap();
    tx.fetch_one(&INSERT, &[&Uuid::now_v7(), &"x"]).await.unwrap();
    {
        let statement = tx.fetch_all(&LIST, &[]);
        let mut statement = Box::pin(statement);
        let polled = futures_util::future::poll_immediate(&mut statement).await;
        assert!(polled.is_none());
    }
    assert!(matches!(tx.fetch_all(&LIST, &[]).await, Err(Error::Fault(_))));
    assert_eq!(
        bench.list(tenant).await,
        Ok(Vec::new()),
        "the connection is free while the rest lives on"
    );
    assert!(tx.commit().await.is_err());
}

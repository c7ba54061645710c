//! The context's deadline bounds everything.

use std::time::Duration;

use rowhouse_db::{Error, Mode};
use rowhouse_types::OperationId;
use tokio::time::Instant;
use uuid::Uuid;

use crate::bench::{Bench, LONG, ctx, mutate, server, until};
use crate::notes::{BACKEND, INSERT_SLOWLY, LIST, SLEEP, STATEMENT_TIMEOUT};

const SHORT: Duration = Duration::from_millis(300);

/// Far less than the statements would take, far more than a deadline.
const SOON: Duration = Duration::from_secs(15);

#[tokio::test]
async fn a_statement_ends_at_the_deadline() {
    let bench = Bench::start("deadline", 1).await;
    let tenant = bench.tenant().await;
    let begun = Instant::now();
    let mut tx = bench.db.begin_single(&ctx(tenant, SHORT), Mode::Read).await.unwrap();
    assert_eq!(tx.fetch_all(&SLEEP, &[&30.0]).await, Err(Error::DeadlineExceeded));
    assert!(begun.elapsed() < SOON);
    assert_eq!(
        bench.list(tenant).await,
        Ok(Vec::new()),
        "the one connection is of use again"
    );
    let superuser = bench.superuser().await;
    bench.until_idle(&superuser).await;
}

/// `statement_timeout` has the time that was left when the transaction began; the client keeps the deadline by itself.
#[tokio::test]
async fn a_later_statement_ends_at_the_same_deadline() {
    let bench = Bench::start("later_deadline", 1).await;
    let tenant = bench.tenant().await;
    let begun = Instant::now();
    let left = Duration::from_secs(3);
    let mut tx = bench.db.begin(&ctx(tenant, left), Mode::Read).await.unwrap();
    tx.fetch_all(&SLEEP, &[&0.2]).await.unwrap();
    assert_eq!(tx.fetch_all(&SLEEP, &[&30.0]).await, Err(Error::DeadlineExceeded));
    assert!(begun.elapsed() < SOON);
    drop(tx);
    assert_eq!(bench.list(tenant).await, Ok(Vec::new()));
}

/// Of the two that end a statement, the server: it is told what is left, whatever the client does later. BEGIN tells it
/// before `enter` may wait, and `enter` again; the control takes `enter`'s word away.
#[tokio::test]
async fn the_server_is_told_the_deadline() {
    const SETTING: &str =
        "pg_catalog.set_config('statement_timeout', LEAST(home.statement_timeout_ms, timeout_ms)::text, true)";
    let bench = Bench::start("told", 1).await;
    let tenant = bench.tenant().await;
    for by in [SETTING, "true"] {
        mutate(&bench, SETTING, by).await;
        let left = Duration::from_secs(40);
        let mut tx = bench.db.begin_single(&ctx(tenant, left), Mode::Read).await.unwrap();
        let told_ms = tx.fetch_one(&STATEMENT_TIMEOUT, &[]).await.unwrap().0;
        assert!((1..=40_000).contains(&told_ms), "{told_ms}");
    }
}

/// The smaller of the plan's bound and the deadline.
#[tokio::test]
async fn the_plans_bound_on_a_statement_is_kept() {
    let bench = Bench::start("plan_bound", 1).await;
    let tenant = bench.tenant().await;
    for (limit_ms, expected) in [(1_234_i32, 1_234..=1_234), (90_000, 1..=40_000)] {
        let order = OperationId::generate();
        bench
            .provisioner
            .set_limits(tenant, &server(), order, Some(limit_ms))
            .await
            .unwrap();
        let left = Duration::from_secs(40);
        let mut tx = bench.db.begin_single(&ctx(tenant, left), Mode::Read).await.unwrap();
        let told_ms = tx.fetch_one(&STATEMENT_TIMEOUT, &[]).await.unwrap().0;
        assert!(expected.contains(&told_ms), "{told_ms}");
    }
}

/// The server says 57014 in either case; what tells them apart is whether the caller has time left.
#[tokio::test]
async fn a_statement_that_the_plan_ends_is_told_from_one_that_the_deadline_ends() {
    let bench = Bench::start("plan_ends", 1).await;
    let tenant = bench.tenant().await;
    let allow = async |limit_ms| {
        let order = OperationId::generate();
        bench
            .provisioner
            .set_limits(tenant, &server(), order, Some(limit_ms))
            .await
            .unwrap();
    };
    allow(500).await;
    let mut first = bench.db.begin_single(&ctx(tenant, LONG), Mode::Read).await.unwrap();
    let ended = first.fetch_all(&SLEEP, &[&30.0]).await;
    assert_eq!(ended, Err(Error::StatementExceeded { tenant }), "the first statement");
    let mut later = bench.db.begin(&ctx(tenant, LONG), Mode::Read).await.unwrap();
    later.fetch_all(&LIST, &[]).await.unwrap();
    let ended = later.fetch_all(&SLEEP, &[&30.0]).await;
    assert_eq!(ended, Err(Error::StatementExceeded { tenant }), "a later one");
    drop(later);
    allow(90_000).await;
    let mut late = bench.db.begin_single(&ctx(tenant, SHORT), Mode::Read).await.unwrap();
    assert_eq!(late.fetch_all(&SLEEP, &[&30.0]).await, Err(Error::DeadlineExceeded));
}

#[tokio::test]
async fn an_order_that_comes_late_changes_no_limit() {
    let bench = Bench::start("plan_order", 1).await;
    let tenant = bench.tenant().await;
    let (first, second) = (OperationId::generate(), OperationId::generate());
    for (order, limit_ms) in [(second, Some(700)), (first, Some(300)), (second, Some(700))] {
        bench
            .provisioner
            .set_limits(tenant, &server(), order, limit_ms)
            .await
            .unwrap();
        let mut tx = bench.db.begin_single(&ctx(tenant, LONG), Mode::Read).await.unwrap();
        assert_eq!(tx.fetch_one(&STATEMENT_TIMEOUT, &[]).await.unwrap().0, 700);
    }
    // The control: the next order is kept, none at all too.
    bench
        .provisioner
        .set_limits(tenant, &server(), OperationId::generate(), None)
        .await
        .unwrap();
    let mut tx = bench.db.begin_single(&ctx(tenant, LONG), Mode::Read).await.unwrap();
    assert!(tx.fetch_one(&STATEMENT_TIMEOUT, &[]).await.unwrap().0 > 700);
}

/// And the client: it gives up at the deadline where the server knows none.
#[tokio::test]
async fn the_client_keeps_the_deadline_by_itself() {
    let bench = Bench::start("client_deadline", 1).await;
    mutate(&bench, "LEAST(home.statement_timeout_ms, timeout_ms)::text", "'0'").await;
    let tenant = bench.tenant().await;
    let mut tx = bench.db.begin(&ctx(tenant, LONG), Mode::Read).await.unwrap();
    assert_eq!(
        tx.fetch_one(&STATEMENT_TIMEOUT, &[]).await.unwrap().0,
        0,
        "the server knows none"
    );
    drop(tx);
    let begun = Instant::now();
    let mut tx = bench.db.begin_single(&ctx(tenant, SHORT), Mode::Read).await.unwrap();
    assert_eq!(tx.fetch_all(&SLEEP, &[&30.0]).await, Err(Error::DeadlineExceeded));
    assert!(begun.elapsed() < SOON);
}

#[tokio::test]
async fn entering_does_not_wait_beyond_the_deadline() {
    let bench = Bench::start("enter_deadline", 1).await;
    let tenant = bench.tenant().await;
    let mut superuser = bench.superuser().await;
    let holding = superuser.transaction().await.unwrap();
    holding
        .execute(
            "SELECT pg_advisory_xact_lock(rowhouse.tenant_lock($1))",
            &[&tenant.uuid()],
        )
        .await
        .unwrap();
    let begun = Instant::now();
    let mut tx = bench.db.begin_single(&ctx(tenant, SHORT), Mode::Read).await.unwrap();
    assert_eq!(tx.fetch_all(&LIST, &[]).await, Err(Error::DeadlineExceeded));
    assert!(begun.elapsed() < SOON);
    holding.commit().await.unwrap();
    assert_eq!(bench.list(tenant).await, Ok(Vec::new()));
}

#[tokio::test]
async fn waiting_for_a_connection_ends_at_the_deadline() {
    let bench = Bench::start("pool_deadline", 1).await;
    let tenant = bench.tenant().await;
    let mut holder = bench.db.begin(&ctx(tenant, LONG), Mode::Read).await.unwrap();
    holder.fetch_all(&LIST, &[]).await.unwrap();
    let mut tx = bench.db.begin_single(&ctx(tenant, SHORT), Mode::Read).await.unwrap();
    assert_eq!(tx.fetch_all(&LIST, &[]).await, Err(Error::DeadlineExceeded));
    holder.commit().await.unwrap();
    assert_eq!(bench.list(tenant).await, Ok(Vec::new()));
}

#[tokio::test]
async fn nothing_is_sent_after_the_deadline() {
    let bench = Bench::start("passed", 1).await;
    let tenant = bench.tenant().await;
    let mut tx = bench
        .db
        .begin_single(&ctx(tenant, Duration::ZERO), Mode::Write)
        .await
        .unwrap();
    let refused = tx.fetch_all(&INSERT_SLOWLY, &[&Uuid::now_v7(), &"x", &0.0]).await;
    assert_eq!(refused, Err(Error::DeadlineExceeded));
    assert_eq!(bench.list(tenant).await, Ok(Vec::new()));
}

/// The write has happened in its transaction and the statement still runs when its caller goes away.
#[tokio::test]
async fn a_dropped_write_is_cut_and_leaves_nothing() {
    let bench = Bench::start("cut", 1).await;
    let tenant = bench.tenant().await;
    let superuser = bench.superuser().await;
    let begun = Instant::now();
    let db = bench.db.clone();
    let writing = tokio::spawn(async move {
        let mut tx = db.begin_single(&ctx(tenant, LONG), Mode::Write).await.unwrap();
        tx.fetch_one(&INSERT_SLOWLY, &[&Uuid::now_v7(), &"x", &30.0]).await
    });
    until(|| async { bench.busy_backends(&superuser).await == 1 && sleeping(&superuser).await }).await;
    writing.abort();
    assert!(writing.await.unwrap_err().is_cancelled());
    bench.until_idle(&superuser).await;
    assert_eq!(bench.list(tenant).await, Ok(Vec::new()));
    assert!(begun.elapsed() < SOON);
}

async fn sleeping(superuser: &tokio_postgres::Client) -> bool {
    let row = superuser
        .query_one(
            "SELECT EXISTS (SELECT FROM pg_stat_activity
                 WHERE datname = current_database() AND wait_event = 'PgSleep')",
            &[],
        )
        .await
        .unwrap();
    row.get(0)
}

#[tokio::test]
async fn a_lost_backend_is_an_error_and_not_a_wrong_answer() {
    let bench = Bench::start("lost", 1).await;
    let tenant = bench.tenant().await;
    let superuser = bench.superuser().await;
    let mut tx = bench.db.begin(&ctx(tenant, LONG), Mode::Write).await.unwrap();
    let backend = tx.fetch_one(&BACKEND, &[]).await.unwrap().0;
    superuser
        .execute("SELECT pg_terminate_backend($1)", &[&backend])
        .await
        .unwrap();
    let lost = tx.fetch_all(&LIST, &[]).await;
    assert!(matches!(lost, Err(Error::Unavailable(_))), "{lost:?}");
    assert!(tx.commit().await.is_err());
    assert_eq!(
        bench.list(tenant).await,
        Ok(Vec::new()),
        "a new connection takes its place"
    );
}

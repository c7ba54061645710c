//! A change of state returns only when no older transaction is left.

use rowhouse_db::{Error, Mode};
use rowhouse_types::OperationId;
use uuid::Uuid;

use crate::bench::{Bench, LONG, ctx, mutate, server, until};
use crate::notes::INSERT;

/// Somebody waits for an advisory lock.
pub(crate) async fn waiting(superuser: &tokio_postgres::Client) -> i64 {
    let row = superuser
        .query_one(
            "SELECT count(*) FROM pg_locks
             WHERE locktype = 'advisory' AND NOT granted
                 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
            &[],
        )
        .await
        .unwrap();
    row.get(0)
}

#[tokio::test]
async fn freezing_waits_for_older_transactions_and_refuses_later_ones() {
    let bench = Bench::start("fence", 4).await;
    let superuser = bench.superuser().await;
    let tenant = bench.tenant().await;
    let mut older = bench.db.begin(&ctx(tenant, LONG), Mode::Write).await.unwrap();
    older.fetch_one(&INSERT, &[&Uuid::now_v7(), &"older"]).await.unwrap();

    let provisioner = bench.provisioner.clone();
    let freezing = tokio::spawn(async move { provisioner.freeze(tenant, &server(), OperationId::generate()).await });
    until(|| async { waiting(&superuser).await == 1 }).await;
    assert!(!freezing.is_finished());

    // One that comes after the freeze began waits behind it, and is refused when it is through.
    let db = bench.db.clone();
    let later = tokio::spawn(async move {
        let mut tx = db.begin_single(&ctx(tenant, LONG), Mode::Write).await.unwrap();
        tx.fetch_one(&INSERT, &[&Uuid::now_v7(), &"later"]).await
    });
    until(|| async { waiting(&superuser).await == 2 }).await;
    // Another tenant does not notice.
    let neighbour = bench.tenant().await;
    bench.insert(neighbour, "neighbour").await.unwrap();
    assert!(!freezing.is_finished());

    older
        .fetch_one(&INSERT, &[&Uuid::now_v7(), &"older still"])
        .await
        .unwrap();
    older.commit().await.unwrap();
    freezing.await.unwrap().unwrap();
    assert_eq!(later.await.unwrap(), Err(Error::TenantSuspended));
    bench
        .provisioner
        .thaw(tenant, &server(), OperationId::generate())
        .await
        .unwrap();
    let bodies: Vec<String> = bench
        .list(tenant)
        .await
        .unwrap()
        .into_iter()
        .map(|note| note.body)
        .collect();
    assert_eq!(bodies, ["older", "older still"]);
}

#[tokio::test]
async fn restricting_waits_for_older_writers() {
    let bench = Bench::start("restrict_fence", 4).await;
    let superuser = bench.superuser().await;
    let tenant = bench.tenant().await;
    let mut older = bench.db.begin(&ctx(tenant, LONG), Mode::Write).await.unwrap();
    older.fetch_one(&INSERT, &[&Uuid::now_v7(), &"older"]).await.unwrap();
    let provisioner = bench.provisioner.clone();
    let restricting =
        tokio::spawn(async move { provisioner.restrict(tenant, &server(), OperationId::generate()).await });
    until(|| async { waiting(&superuser).await == 1 }).await;
    assert!(!restricting.is_finished());
    older.commit().await.unwrap();
    restricting.await.unwrap().unwrap();
    assert_eq!(bench.insert(tenant, "later").await, Err(Error::TenantReadOnly));
    assert_eq!(bench.list(tenant).await.unwrap().len(), 1);
}

/// The control: without the lock in `enter`, an older transaction commits after the freeze has returned.
#[tokio::test]
async fn without_the_lock_the_fence_would_be_seen_open() {
    let bench = Bench::start("no_fence", 4).await;
    mutate(
        &bench,
        "PERFORM pg_catalog.pg_advisory_xact_lock_shared(rowhouse.tenant_lock(tenant));",
        "",
    )
    .await;
    let tenant = bench.tenant().await;
    let mut older = bench.db.begin(&ctx(tenant, LONG), Mode::Write).await.unwrap();
    older.fetch_one(&INSERT, &[&Uuid::now_v7(), &"older"]).await.unwrap();
    bench.freeze(tenant).await;
    older.commit().await.unwrap();
}

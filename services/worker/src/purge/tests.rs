//! The purge on a real database and a real folder.

use rowhouse_types::{OperationId, ReportId, TenantId};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;

use super::store;
use crate::email::store as mails;
use crate::error::Error;
use crate::files::Files;
use crate::report::{Kind, NewReport};
use crate::testing::{World, delivery, files_below, member};

const NEW: NewReport = NewReport {
    kind: Kind::Contacts,
    request: None,
};

/// A report that has succeeded, with its file, one that is queued, and a mail.
async fn populate(world: &World, tenant: TenantId) -> ReportId {
    let ctx = member(tenant);
    let made = world.reports().run(&ctx, NEW).await.unwrap().id;
    world.reports().run(&ctx, NEW).await.unwrap();
    let path = Files::path(tenant, made, 1);
    let mut file = world.files().writer(&path);
    file.write_all(b"id\r\n").await.unwrap();
    file.shutdown().await.unwrap();
    sqlx::query(
        "UPDATE worker.reports SET state = 'succeeded', row_count = 0, size_bytes = 4, file = $2, finished_at = now()
         WHERE id = $1",
    )
    .bind(made.uuid())
    .bind(&path)
    .execute(&world.pool)
    .await
    .unwrap();
    let told = delivery("worker.report_finished.v1", tenant, json!({ "report_id": made }));
    mails::open(&world.pool, &told).await.unwrap();
    made
}

#[tokio::test]
async fn nothing_of_the_tenant_stays_and_nothing_of_others_goes() {
    let world = World::new("purge").await;
    let (gone, stays) = (TenantId::generate(), TenantId::generate());
    populate(&world, gone).await;
    let kept = populate(&world, stays).await;
    let operation = OperationId::generate();

    // One row a call, so that it is cut at every place.
    let mut calls = 0;
    loop {
        calls += 1;
        let mut transaction = world.pool.begin().await.unwrap();
        let (purged, ended) = store::purge(&mut transaction, gone, operation, 1).await.unwrap();
        transaction.commit().await.unwrap();
        assert_eq!(purged.done, ended);
        if purged.done {
            break;
        }
    }
    assert!(calls > 4, "{calls} calls");
    let ctx = member(gone);
    let purged = world.records().purge(&ctx, gone, operation).await.unwrap();
    let expected = [
        ("events", 2),
        ("files", 1),
        ("mails", 1),
        ("reports", 2),
        ("request_ids", 0),
    ];
    let expected: Vec<(String, i64)> = expected.map(|(kind, count)| (kind.to_owned(), count)).into();
    assert_eq!(purged.removed, expected);
    assert_eq!(
        world
            .records()
            .purge(&ctx, gone, OperationId::generate())
            .await
            .unwrap(),
        purged
    );

    for (table, rows) in [
        ("SELECT count(*) FROM worker.reports", 2),
        ("SELECT count(*) FROM worker.mails", 1),
        ("SELECT count(*) FROM worker.outbox", 2),
    ] {
        assert_eq!(world.count(table).await, rows, "{table}");
    }
    let left = files_below(world.folder.path());
    assert_eq!(left.len(), 1, "{left:?}");
    assert!(left[0].to_string_lossy().contains(&kept.to_string()), "{left:?}");
    assert!(!world.folder.path().join(format!("files/reports/{gone}")).exists());
}

#[tokio::test]
async fn what_comes_late_is_refused_and_leaves_nothing() {
    let world = World::new("purge_late").await;
    let (gone, stays) = (TenantId::generate(), TenantId::generate());
    world
        .records()
        .purge(&member(gone), gone, OperationId::generate())
        .await
        .unwrap();
    let refused = world.reports().run(&member(gone), NEW).await.unwrap_err();
    assert!(matches!(refused, Error::TenantGone { .. }), "{refused}");
    let late = delivery("worker.report_finished.v1", gone, json!({}));
    mails::open(&world.pool, &late).await.unwrap();
    assert_eq!(world.count("SELECT count(*) FROM worker.reports").await, 0);
    assert_eq!(
        world
            .count("SELECT count(*) FROM worker.mails WHERE tenant_id IS NOT NULL")
            .await,
        0
    );
    // The control: another tenant's are taken.
    world.reports().run(&member(stays), NEW).await.unwrap();
}

#[tokio::test]
async fn a_purge_waits_for_the_report_that_is_being_queued() {
    let world = World::new("purge_race").await;
    let tenant = TenantId::generate();
    let mut queueing = world.pool.begin().await.unwrap();
    assert!(store::admits(&mut queueing, tenant).await.unwrap());
    let (records, ctx) = (world.records(), member(tenant));
    let purging = tokio::spawn(async move { records.purge(&ctx, tenant, OperationId::generate()).await });
    let waiting = "SELECT count(*) FROM pg_stat_activity
        WHERE wait_event_type = 'Lock' AND query LIKE '%purge_tenant%' AND datname = current_database()";
    while world.count(waiting).await == 0 {
        tokio::task::yield_now().await;
    }
    let requester = crate::peer::Requester {
        tenant,
        user: rowhouse_types::UserId::generate(),
        platform: false,
    };
    crate::report::store::insert(&mut queueing, ReportId::generate(), NEW, requester, None)
        .await
        .unwrap();
    queueing.commit().await.unwrap();
    assert!(purging.await.unwrap().unwrap().done);
    assert_eq!(world.count("SELECT count(*) FROM worker.reports").await, 0);
}

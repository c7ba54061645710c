//! What `TenantTx` promises.

use rowhouse_db::{Error, Lanes, Mode, Sql, TenantDb};
use rowhouse_devkit::gate::Gate;
use rowhouse_types::{Placement, TenantId};
use uuid::Uuid;

use crate::bench::{Bench, LONG, config, ctx};
use crate::notes::{DELETE, GET, INSERT, INSERT_ORPHAN, INSERT_WITH_EVENT, LIST, Note, STATEMENTS};

#[tokio::test]
async fn a_write_in_one_round_trip_is_read_by_its_tenant_only() {
    let bench = Bench::start("single", 2).await;
    let (one, other) = (bench.tenant().await, bench.tenant().await);
    let note = bench.insert(one, "mine").await.unwrap();
    assert_eq!(note.tenant, one.uuid());
    assert_eq!(bench.list(one).await.unwrap(), [note]);
    assert_eq!(bench.list(other).await.unwrap(), []);
}

#[tokio::test]
async fn several_statements_commit_together_or_not_at_all() {
    let bench = Bench::start("several", 2).await;
    let tenant = bench.tenant().await;
    let mut tx = bench.db.begin(&ctx(tenant, LONG), Mode::Write).await.unwrap();
    let note = tx.fetch_one(&INSERT, &[&Uuid::now_v7(), &"first"]).await.unwrap();
    tx.fetch_one(&INSERT, &[&Uuid::now_v7(), &"second"]).await.unwrap();
    assert_eq!(bench.list(tenant).await.unwrap(), [], "nobody else sees it yet");
    tx.commit().await.unwrap();
    assert_eq!(bench.list(tenant).await.unwrap().len(), 2);

    let mut tx = bench.db.begin(&ctx(tenant, LONG), Mode::Write).await.unwrap();
    assert_eq!(tx.execute(&DELETE, &[&note.id]).await, Ok(1));
    tx.commit_with_next();
    assert_eq!(tx.fetch_all(&LIST, &[]).await.unwrap().len(), 1);
    tx.commit().await.unwrap();
    assert_eq!(bench.list(tenant).await.unwrap().len(), 1);

    let mut tx = bench.db.begin(&ctx(tenant, LONG), Mode::Write).await.unwrap();
    tx.fetch_one(&INSERT, &[&Uuid::now_v7(), &"third"]).await.unwrap();
    drop(tx);
    assert_eq!(
        bench.list(tenant).await.unwrap().len(),
        1,
        "a dropped transaction leaves nothing"
    );
}

/// COMMIT of a failed transaction is answered without an error.
#[tokio::test]
async fn a_swallowed_error_does_not_become_a_commit() {
    let bench = Bench::start("swallowed", 2).await;
    let tenant = bench.tenant().await;
    let mut tx = bench.db.begin(&ctx(tenant, LONG), Mode::Write).await.unwrap();
    tx.fetch_one(&INSERT, &[&Uuid::now_v7(), &"same"]).await.unwrap();
    let refused = tx.fetch_one(&INSERT, &[&Uuid::now_v7(), &"same"]).await;
    let constraint = Error::Constraint {
        name: "notes_body_key".to_owned(),
        sqlstate: "23505".to_owned(),
    };
    assert_eq!(refused, Err(constraint));
    assert!(matches!(tx.fetch_all(&LIST, &[]).await, Err(Error::Fault(_))));
    assert!(matches!(tx.commit().await, Err(Error::Fault(_))));
    assert_eq!(bench.list(tenant).await.unwrap(), []);

    // The control: the server itself says nothing.
    let app = bench.superuser().await;
    app.batch_execute("BEGIN").await.unwrap();
    app.batch_execute("SELECT 1 / 0").await.unwrap_err();
    app.batch_execute("COMMIT").await.unwrap();
}

#[tokio::test]
async fn rows_that_came_before_a_failed_commit_are_no_success() {
    let bench = Bench::start("late", 2).await;
    let tenant = bench.tenant().await;
    let orphan = [Uuid::now_v7(), Uuid::now_v7()];
    let mut tx = bench.db.begin_single(&ctx(tenant, LONG), Mode::Write).await.unwrap();
    let refused = tx.execute(&INSERT_ORPHAN, &[&orphan[0], &orphan[1]]).await;
    assert!(
        matches!(refused, Err(Error::Constraint { ref sqlstate, .. }) if sqlstate == "23503"),
        "{refused:?}"
    );

    let mut tx = bench.db.begin(&ctx(tenant, LONG), Mode::Write).await.unwrap();
    assert_eq!(tx.execute(&INSERT_ORPHAN, &[&orphan[0], &orphan[1]]).await, Ok(1));
    assert!(matches!(tx.commit().await, Err(Error::Constraint { .. })));
}

#[tokio::test]
async fn a_reader_cannot_write() {
    let bench = Bench::start("reader", 2).await;
    let tenant = bench.tenant().await;
    let mut tx = bench.db.begin_single(&ctx(tenant, LONG), Mode::Read).await.unwrap();
    let refused = tx.fetch_one(&INSERT, &[&Uuid::now_v7(), &"x"]).await;
    assert_eq!(refused, Err(Error::Fault("note.insert: SQLSTATE 25006".to_owned())));
    assert_eq!(bench.list(tenant).await.unwrap(), []);
}

#[tokio::test]
async fn errors_name_the_statement_and_never_its_text_or_values() {
    let bench = Bench::start("words", 2).await;
    let tenant = bench.tenant().await;
    let long = "secret".repeat(20);
    let refused = bench.insert(tenant, &long).await.unwrap_err();
    let constraint = Error::Constraint {
        name: "notes_body_short".to_owned(),
        sqlstate: "23514".to_owned(),
    };
    assert_eq!(refused, constraint);
    let mut tx = bench.db.begin_single(&ctx(tenant, LONG), Mode::Write).await.unwrap();
    let refused = tx.fetch_one(&INSERT, &[&Uuid::now_v7(), &"a\0b"]).await.unwrap_err();
    assert_eq!(refused, Error::Fault("note.insert: SQLSTATE 22021".to_owned()));
    let mut tx = bench.db.begin_single(&ctx(tenant, LONG), Mode::Read).await.unwrap();
    let refused = tx.fetch_all(&GET, &[]).await.unwrap_err();
    assert_eq!(refused, Error::Fault("note.get: 0 binds for 1".to_owned()));
    let mut tx = bench.db.begin_single(&ctx(tenant, LONG), Mode::Read).await.unwrap();
    let refused = tx.fetch_all(&GET, &[&"secret"]).await.unwrap_err();
    assert!(
        matches!(&refused, Error::Fault(text) if !text.contains("secret")),
        "{refused}"
    );
    assert_eq!(bench.list(tenant).await.unwrap(), []);
}

#[tokio::test]
async fn pages_are_put_together_from_pieces_and_binds() {
    let bench = Bench::start("pages", 2).await;
    let tenant = bench.tenant().await;
    for body in ["a", "b", "c", "d' OR true --"] {
        bench.insert(tenant, body).await.unwrap();
    }
    let page = |after: &str| {
        Sql::<Note>::new("SELECT tenant_id, id, body FROM notes WHERE tenant_id = $1 AND body > ")
            .bind(after.to_owned())
            .push(" ORDER BY body LIMIT ")
            .bind(2_i64)
    };
    let mut bodies = Vec::new();
    for after in ["", "b", "d' OR true --"] {
        let mut tx = bench.db.begin_single(&ctx(tenant, LONG), Mode::Read).await.unwrap();
        let notes = tx.fetch_page(page(after)).await.unwrap();
        bodies.push(notes.into_iter().map(|note| note.body).collect::<Vec<_>>());
    }
    assert_eq!(bodies, [vec!["a", "b"], vec!["c", "d' OR true --"], vec![]]);
    let mut tx = bench.db.begin_single(&ctx(tenant, LONG), Mode::Read).await.unwrap();
    let everyone = tx
        .fetch_page(Sql::<Note>::new("SELECT tenant_id, id, body FROM notes LIMIT 1"))
        .await;
    assert!(matches!(everyone, Err(Error::Fault(_))));
}

#[tokio::test]
async fn an_event_is_written_with_its_change_for_the_own_tenant() {
    let bench = Bench::start("events", 2).await;
    let tenant = bench.tenant().await;
    let event = Uuid::now_v7();
    let mut tx = bench.db.begin_single(&ctx(tenant, LONG), Mode::Write).await.unwrap();
    tx.fetch_one(&INSERT_WITH_EVENT, &[&Uuid::now_v7(), &"x", &event])
        .await
        .unwrap();
    let superuser = bench.superuser().await;
    let row = superuser
        .query_one("SELECT id, tenant_id FROM rowhouse.outbox", &[])
        .await
        .unwrap();
    assert_eq!((row.get::<_, Uuid>(0), row.get::<_, Uuid>(1)), (event, tenant.uuid()));
}

#[tokio::test]
async fn an_unknown_tenant_has_no_transaction() {
    let bench = Bench::start("unknown", 1).await;
    let refused = bench.list(TenantId::generate()).await;
    assert_eq!(refused, Err(Error::TenantUnknown));
    assert!(!STATEMENTS.is_empty());
}

#[tokio::test]
async fn shutdown_ends_every_connection() {
    let bench = Bench::start("shutdown", 3).await;
    let tenant = bench.tenant().await;
    bench.list(tenant).await.unwrap();
    let mut open = bench.db.begin(&ctx(tenant, LONG), Mode::Read).await.unwrap();
    open.fetch_all(&LIST, &[]).await.unwrap();
    drop(open);
    let db = bench.db.clone();
    tokio::time::timeout(LONG, db.shutdown()).await.unwrap();
    let superuser = bench.superuser().await;
    bench.until_idle(&superuser).await;
}

/// As when the pooler is started anew, or what is in between forgets a connection that is long silent.
#[tokio::test]
async fn a_connection_that_ended_while_it_was_idle_is_given_to_nobody() {
    let bench = Bench::start("idle_end", 1).await;
    let superuser = bench.superuser().await;
    let pooler = Gate::before(&bench.databases.data_pooled_url()).await.unwrap();
    let by_way = config(pooler.url().to_owned(), Lanes::OFF);
    let db = TenantDb::connect(by_way, bench.directory.clone()).await.unwrap();
    for placement in [Placement::Schema, Placement::Database] {
        let tenant = bench.tenant_in(placement).await;
        for _ in 0..3 {
            let mut tx = db.begin_single(&ctx(tenant, LONG), Mode::Read).await.unwrap();
            assert_eq!(tx.fetch_all(&LIST, &[]).await, Ok(Vec::new()), "{placement:?}");
            // Nothing is under way on any of them.
            while pooler.cut(0) {}
            // The ends are there before the answer to this.
            superuser.batch_execute("SELECT 1; SELECT 2").await.unwrap();
        }
    }
    db.shutdown().await;
}

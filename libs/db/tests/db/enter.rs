//! Who gets into a home.

use rowhouse_db::{Error, Home, Mode};
use rowhouse_types::{HomeState, OperationId, TenantId};
use tokio_postgres::SimpleQueryMessage;
use tokio_postgres::error::SqlState;
use uuid::Uuid;

use crate::bench::{Bench, LONG, ctx, mutate, schema, server};
use crate::notes::{INSERT, LIST};

/// The real home, and one that the directory remembers wrongly.
async fn moved(bench: &Bench) -> (Home, Home) {
    let now = bench.prepare(TenantId::generate()).await;
    let remembered = Home {
        generation: now.generation + 7,
        ..now.clone()
    };
    (now, remembered)
}

#[tokio::test]
async fn a_stale_generation_is_looked_up_afresh_and_retried_once() {
    let bench = Bench::start("stale", 1).await;
    let (now, remembered) = moved(&bench).await;
    let tenant = now.tenant;
    bench.directory.put_stale(remembered, now);
    bench.insert(tenant, "once").await.unwrap();
    assert_eq!(bench.directory.fresh_asked(), 1);
    // The same where COMMIT does not travel with the first statement.
    let mut tx = bench.db.begin(&ctx(tenant, LONG), Mode::Write).await.unwrap();
    assert_eq!(tx.fetch_all(&LIST, &[]).await.unwrap().len(), 1, "written once");
    tx.fetch_one(&INSERT, &[&Uuid::now_v7(), &"twice"]).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(bench.directory.fresh_asked(), 2);
    assert_eq!(bench.list(tenant).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_generation_that_stays_stale_is_refused_and_nothing_behind_it_happens() {
    let bench = Bench::start("refused", 1).await;
    let (now, remembered) = moved(&bench).await;
    let tenant = now.tenant;
    bench.directory.put(remembered.clone());
    assert_eq!(bench.insert(tenant, "never").await, Err(Error::Stale));
    assert_eq!(bench.directory.fresh_asked(), 1);
    let mut tx = bench.db.begin(&ctx(tenant, LONG), Mode::Write).await.unwrap();
    assert_eq!(
        tx.fetch_one(&INSERT, &[&Uuid::now_v7(), &"never"]).await,
        Err(Error::Stale)
    );
    assert!(tx.commit().await.is_err());
    bench.directory.put(now);
    assert_eq!(bench.list(tenant).await.unwrap(), []);

    // The control: an enter that does not look at the generation lets the same write through.
    mutate(&bench, "home.generation OPERATOR(pg_catalog.<>) generation", "false").await;
    bench.directory.put(remembered);
    bench.insert(tenant, "through").await.unwrap();
}

#[tokio::test]
async fn a_version_that_is_not_served_is_refused() {
    let bench = Bench::start("version", 1).await;
    let tenant = bench.tenant().await;
    for (versions, served) in [(1..=1, false), (3..=4, false), (2..=2, true), (1..=9, true)] {
        let db = bench.serving(versions.clone()).await;
        let mut tx = db.begin_single(&ctx(tenant, LONG), Mode::Read).await.unwrap();
        let listed = tx.fetch_all(&LIST, &[]).await;
        let expected = if served { Ok(Vec::new()) } else { Err(Error::Stale) };
        assert_eq!(listed, expected, "{versions:?}");
        db.shutdown().await;
    }
}

#[tokio::test]
async fn a_frozen_home_is_refused_until_it_thaws() {
    let bench = Bench::start("frozen", 1).await;
    let tenant = bench.tenant().await;
    let frozen = bench
        .provisioner
        .freeze(tenant, &server(), OperationId::generate())
        .await
        .unwrap();
    assert_eq!(frozen.state, HomeState::Frozen);
    assert_eq!(bench.list(tenant).await, Err(Error::TenantSuspended));
    assert_eq!(bench.insert(tenant, "x").await, Err(Error::TenantSuspended));
    bench
        .provisioner
        .thaw(tenant, &server(), OperationId::generate())
        .await
        .unwrap();
    assert_eq!(bench.list(tenant).await, Ok(Vec::new()));
}

#[tokio::test]
async fn a_read_only_home_is_read_and_refuses_writes_until_it_thaws() {
    let bench = Bench::start("read_only", 1).await;
    let tenant = bench.tenant().await;
    bench.insert(tenant, "kept").await.unwrap();
    let turn = |writable: bool| {
        let (provisioner, operation) = (bench.provisioner.clone(), OperationId::generate());
        async move {
            match writable {
                true => provisioner.thaw(tenant, &server(), operation).await.unwrap().state,
                false => provisioner.restrict(tenant, &server(), operation).await.unwrap().state,
            }
        }
    };
    assert_eq!(turn(false).await, HomeState::ReadOnly);
    assert_eq!(bench.insert(tenant, "refused").await, Err(Error::TenantReadOnly));
    assert_eq!(bench.list(tenant).await.unwrap().len(), 1);
    // Of the modes, only `read` enters, and it cannot write.
    let app = bench.app().await;
    for (begin, mode, code) in [
        ("BEGIN READ ONLY", "write", "RH007"),
        ("BEGIN READ ONLY", "other", "RH007"),
        ("BEGIN", "read", "RH005"),
    ] {
        let enter = format!(
            "{begin}; SELECT rowhouse.enter('{}', 'crm', 1, '{mode}', 1, 2, 1000)",
            tenant.uuid()
        );
        let refused = app.batch_execute(&enter).await.unwrap_err();
        assert_eq!(refused.code().unwrap().code(), code, "{begin} {mode}");
        app.batch_execute("ROLLBACK").await.unwrap();
    }
    assert_eq!(turn(true).await, HomeState::Active);
    bench.insert(tenant, "again").await.unwrap();

    // The control: an enter that does not look at the mode lets the same write through.
    turn(false).await;
    mutate(&bench, "mode OPERATOR(pg_catalog.<>) 'read' THEN", "false THEN").await;
    bench.insert(tenant, "through").await.unwrap();
}

#[tokio::test]
async fn a_dropped_home_and_one_of_another_participant_are_absent() {
    let bench = Bench::start("absent", 1).await;
    let tenant = bench.tenant().await;
    bench.freeze(tenant).await;
    assert!(bench.provisioner.drop(tenant, &server()).await.unwrap());
    assert_eq!(bench.list(tenant).await, Err(Error::TenantNotReady));

    let other = bench.tenant().await;
    let app = bench.app().await;
    let refused = app
        .batch_execute(&format!(
            "BEGIN READ ONLY; SELECT rowhouse.enter('{}', 'worker', 1, 'read', 1, 2, 1000)",
            other.uuid()
        ))
        .await
        .unwrap_err();
    assert_eq!(refused.code().unwrap().code(), "RH001");
}

#[tokio::test]
async fn a_reader_who_might_write_is_refused() {
    let bench = Bench::start("mode", 1).await;
    let tenant = bench.tenant().await.uuid();
    let app = bench.app().await;
    let enter = format!("SELECT rowhouse.enter('{tenant}', 'crm', 1, 'read', 1, 2, 1000)");
    let refused = app.batch_execute(&format!("BEGIN; {enter}")).await.unwrap_err();
    assert_eq!(refused.code().unwrap().code(), "RH005");
    app.batch_execute(&format!("ROLLBACK; BEGIN READ ONLY; {enter}; COMMIT"))
        .await
        .unwrap();
}

#[tokio::test]
async fn before_entering_the_application_may_do_nothing_but_enter() {
    let bench = Bench::start("outside", 1).await;
    let tenant = bench.tenant().await;
    let app = bench.app().await;
    let home = schema(tenant);
    for sql in [
        format!("SELECT * FROM {home}.notes"),
        format!("INSERT INTO {home}.notes VALUES ('{0}', '{0}', 'x')", tenant.uuid()),
        "SELECT * FROM rowhouse.homes".to_owned(),
        "SELECT * FROM rowhouse.houses".to_owned(),
        "SELECT * FROM rowhouse.outbox".to_owned(),
        "CREATE TABLE rowhouse.x ()".to_owned(),
        "CREATE TABLE public.x ()".to_owned(),
        "CREATE SCHEMA x".to_owned(),
        "CREATE TEMPORARY TABLE x ()".to_owned(),
        "CREATE FUNCTION ext.x() RETURNS int LANGUAGE sql AS 'SELECT 1'".to_owned(),
        "SET ROLE rowhouse_owner".to_owned(),
    ] {
        let refused = app.batch_execute(&sql).await.unwrap_err();
        assert_eq!(refused.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{sql}");
    }
}

#[tokio::test]
async fn inside_a_home_nobody_enters_another_or_reads_the_registry() {
    let bench = Bench::start("inside", 1).await;
    let (one, other) = (bench.tenant().await, bench.tenant().await);
    let app = bench.app().await;
    for sql in [
        format!(
            "SELECT rowhouse.enter('{}', 'crm', 1, 'write', 1, 2, 1000)",
            other.uuid()
        ),
        format!(
            "SELECT rowhouse.enter_lane(1, '{}', 'crm', 1, 'write', 1, 2, 1000)",
            other.uuid()
        ),
        format!("SELECT rowhouse.home_of('{}', 'crm')", other.uuid()),
        "SELECT * FROM rowhouse.homes".to_owned(),
        "SELECT * FROM rowhouse.outbox".to_owned(),
        "DELETE FROM rowhouse.outbox".to_owned(),
        "UPDATE audit SET id = id".to_owned(),
        "DELETE FROM audit".to_owned(),
        "CREATE TABLE x ()".to_owned(),
        "CREATE TEMPORARY TABLE x ()".to_owned(),
        "ALTER TABLE notes DROP CONSTRAINT notes_house".to_owned(),
    ] {
        let enter = format!(
            "BEGIN; SELECT rowhouse.enter('{}', 'crm', 1, 'write', 1, 2, 1000)",
            one.uuid()
        );
        app.batch_execute(&enter).await.unwrap();
        let refused = app.batch_execute(&sql).await.unwrap_err();
        assert_eq!(refused.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{sql}");
        app.batch_execute("ROLLBACK").await.unwrap();
    }
}

#[tokio::test]
async fn nothing_of_a_transaction_stays_on_the_connection() {
    let bench = Bench::start("leftovers", 1).await;
    let tenant = bench.tenant().await;
    let app = bench.app().await;
    let look = "SELECT current_user || ' ' || current_setting('search_path') || ' ' ||
                    coalesce(current_setting('rowhouse.tenant_id', true), '') || ' ' || current_setting('statement_timeout')";
    // In one message: of two, the second may come to another connection of the pooler's.
    let look = async || {
        let answered = app.simple_query(look).await.unwrap();
        let rows = answered.into_iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        });
        rows.last().unwrap()
    };
    let before = look().await;
    bench.insert(tenant, "x").await.unwrap();
    let after = look().await;
    assert_eq!(before, after);
    assert!(after.starts_with("rowhouse_app "), "{after}");
}

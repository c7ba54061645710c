//! The services' own schemas.

use rowhouse_config::Secret;
use rowhouse_db::{ControlDb, migrate_control};
use rowhouse_devkit::cluster::{self, Kind};
use rowhouse_devkit::fixture::Databases;
use rowhouse_devkit::servers::Login;
use sqlx::migrate::Migrator;

use crate::bench::until;

static FIRST: Migrator = sqlx::migrate!("./tests/migrations/first");
static SECOND: Migrator = sqlx::migrate!("./tests/migrations/second");

#[tokio::test]
async fn a_schema_is_migrated_by_many_at_once_and_used_by_its_login_only() {
    let databases = Databases::empty_only(Kind::Control, "control").await.unwrap();
    let owner = Secret::new(databases.control_url(Login::Owner));
    let migrating = (0..4).map(|_| migrate_control(&owner, "tenant", &FIRST));
    for outcome in futures_util::future::join_all(migrating).await {
        outcome.unwrap();
    }
    migrate_control(&owner, "tenant", &SECOND).await.unwrap();
    let older = migrate_control(&owner, "tenant", &FIRST).await;
    assert!(older.is_err(), "a migration that was applied is missing from this code");
    migrate_control(&owner, "auth", &FIRST).await.unwrap();

    let url = Secret::new(databases.control_url(Login::ControlTenant));
    let db = ControlDb::connect(&url, 2).await.unwrap();
    db.ping().await.unwrap();
    let mut tx = db.begin().await.unwrap();
    sqlx::query("INSERT INTO things (id, more) VALUES (1, 'x')")
        .execute(&mut *tx)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    for foreign in [
        "SELECT 1 FROM auth.things",
        "CREATE TABLE mine ()",
        "DELETE FROM things",
        "DELETE FROM migrations",
    ] {
        let refused = sqlx::query(foreign).execute(db.pool()).await.unwrap_err();
        let code = refused.as_database_error().unwrap().code().unwrap().into_owned();
        assert_eq!(code, "42501", "{foreign}");
    }
    db.shutdown().await;
}

/// Of two that grant on one schema at once, PostgreSQL fails the second ("tuple concurrently updated"). So whoever grants
/// waits for the lock first.
#[tokio::test]
async fn a_grant_waits_for_another_that_is_not_yet_committed() {
    let databases = Databases::empty_only(Kind::Control, "control_grants").await.unwrap();
    let owner = Secret::new(databases.control_url(Login::Owner));
    migrate_control(&owner, "tenant", &FIRST).await.unwrap();
    let mut other = cluster::connect(&databases.control_url(Login::Owner)).await.unwrap();
    let first = other.transaction().await.unwrap();
    first
        .batch_execute(
            "SELECT pg_advisory_xact_lock(hashtextextended('rowhouse.schema', 0));
             GRANT USAGE ON SCHEMA tenant TO rowhouse_ctl_tenant",
        )
        .await
        .unwrap();
    let second = tokio::spawn(async move { migrate_control(&owner, "tenant", &FIRST).await });
    // It waits for the lock; without the guard it would wait for the row of the catalogue, and then fail.
    let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND pid IN
                     (SELECT pid FROM pg_stat_activity WHERE datname = current_database())";
    let watcher = cluster::connect(&databases.control_url(Login::Owner)).await.unwrap();
    until(|| async { watcher.query_one(waits, &[]).await.unwrap().get::<_, i64>(0) == 1 }).await;
    first.commit().await.unwrap();
    second.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_url_that_cannot_be_read_is_not_repeated() {
    let url = Secret::new("postgres://user:hidden@[".to_owned());
    let refused = ControlDb::connect(&url, 1).await.unwrap_err();
    assert!(!format!("{refused:?}").contains("hidden"), "{refused:?}");
}

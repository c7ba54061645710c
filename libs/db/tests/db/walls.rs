//! T05: one fault at a time, and the other walls hold. For each guard a control shows what it holds back.

mod database;
mod shared;
mod storm;

use rowhouse_db::Mode;
use rowhouse_types::{Placement, TenantId};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use uuid::Uuid;

use crate::bench::{Bench, LONG, ctx, mutate, schema};
use crate::notes::SLEEP;

const CHECK: &SqlState = &SqlState::CHECK_VIOLATION;
const DENIED: &SqlState = &SqlState::INSUFFICIENT_PRIVILEGE;

/// Two tenants with a note each, and a client of the application on PgBouncer.
struct Walls {
    bench: Bench,
    own: TenantId,
    foreign: TenantId,
    app: Client,
    superuser: Client,
}

// === impl Walls ===

impl Walls {
    async fn start(name: &str) -> Self {
        Self::start_in(name, Placement::Schema).await
    }

    async fn start_in(name: &str, placement: Placement) -> Self {
        let bench = Bench::start(name, 1).await;
        let (own, foreign) = (bench.tenant_in(placement).await, bench.tenant_in(placement).await);
        bench.insert(own, "own").await.unwrap();
        bench.insert(foreign, "foreign").await.unwrap();
        let (app, superuser) = if placement == Placement::Database {
            (bench.app_of(own).await, bench.superuser_of(own).await)
        } else {
            (bench.app().await, bench.superuser().await)
        };
        Self {
            app,
            superuser,
            bench,
            own,
            foreign,
        }
    }

    /// Enters the own home, then commits the fault.
    async fn enter(&self, fault: &str) {
        let begin = format!(
            "BEGIN; SET LOCAL ROLE NONE; SELECT rowhouse.enter('{}', 'crm', 1, 'write', 1, 2, 5000)",
            self.own.uuid()
        );
        self.app.batch_execute(&begin).await.unwrap();
        if !fault.is_empty() {
            self.app.batch_execute(fault).await.unwrap();
        }
    }

    async fn leave(&self) {
        self.app.batch_execute("ROLLBACK").await.unwrap();
    }

    /// What a store's statement reads with `tenant` as `$1`.
    async fn read(&self, tenant: TenantId) -> Result<Vec<String>, SqlState> {
        let sql = format!("SELECT body FROM notes WHERE tenant_id = '{}'", tenant.uuid());
        self.bodies(&sql).await
    }

    /// What a statement without the predicate would read.
    async fn read_all(&self) -> Result<Vec<String>, SqlState> {
        self.bodies("SELECT body FROM notes").await
    }

    async fn bodies(&self, sql: &str) -> Result<Vec<String>, SqlState> {
        match self.app.query(sql, &[]).await {
            Ok(rows) => Ok(rows.iter().map(|row| row.get(0)).collect()),
            Err(error) => Err(error.code().unwrap().clone()),
        }
    }

    async fn write(&self, tenant: TenantId) -> Result<(), SqlState> {
        let sql = format!(
            "INSERT INTO notes VALUES ('{}', '{}', 'written')",
            tenant.uuid(),
            Uuid::now_v7()
        );
        self.run(&sql).await
    }

    async fn write_event(&self, tenant: TenantId) -> Result<(), SqlState> {
        let sql = format!(
            "INSERT INTO rowhouse.outbox (id, tenant_id, kind, payload, request_id) VALUES ('{}', '{}', 'x', '{{}}', 'r')",
            Uuid::now_v7(),
            tenant.uuid()
        );
        self.run(&sql).await
    }

    async fn run(&self, sql: &str) -> Result<(), SqlState> {
        let ran = self.app.batch_execute(sql).await;
        ran.map_err(|error| error.code().unwrap().clone())
    }

    async fn without(&self, guard: &str) {
        self.superuser.batch_execute(guard).await.unwrap();
    }

    fn foreign_search_path(&self) -> String {
        format!("SET LOCAL search_path = {}, ext, pg_temp", schema(self.foreign))
    }
}

fn own() -> Result<Vec<String>, SqlState> {
    Ok(vec!["own".to_owned()])
}

fn foreign() -> Result<Vec<String>, SqlState> {
    Ok(vec!["foreign".to_owned()])
}

fn nothing() -> Result<Vec<String>, SqlState> {
    Ok(Vec::new())
}

#[tokio::test]
async fn without_a_fault_everything_works() {
    let walls = Walls::start("wall_none").await;
    walls.enter("").await;
    assert_eq!(walls.read(walls.own).await, own());
    assert_eq!(walls.write(walls.own).await, Ok(()));
    assert_eq!(walls.write_event(walls.own).await, Ok(()));
    walls.leave().await;
}

#[tokio::test]
async fn a_wrong_search_path_meets_the_predicate_and_the_check() {
    let walls = Walls::start("wall_path").await;
    let fault = walls.foreign_search_path();
    walls.enter(&fault).await;
    assert_eq!(walls.read(walls.own).await, nothing());
    assert_eq!(walls.write(walls.own).await, Err(CHECK.clone()));
    walls.leave().await;
    // The controls: without the predicate it reads, without the CHECK it writes into the neighbour's table.
    walls.enter(&fault).await;
    assert_eq!(walls.read_all().await, foreign());
    walls.leave().await;
    walls
        .without(&format!(
            "ALTER TABLE {}.notes DROP CONSTRAINT notes_house",
            schema(walls.foreign)
        ))
        .await;
    walls.enter(&fault).await;
    assert_eq!(walls.write(walls.own).await, Ok(()));
    walls.leave().await;
}

#[tokio::test]
async fn a_wrong_tenant_setting_meets_the_predicate_and_the_policy() {
    let walls = Walls::start("wall_setting").await;
    let fault = format!("SET LOCAL rowhouse.tenant_id = '{}'", walls.foreign.uuid());
    walls.enter(&fault).await;
    assert_eq!(walls.read(walls.own).await, own());
    assert_eq!(walls.write_event(walls.own).await, Err(DENIED.clone()));
    walls.leave().await;
    walls.enter("SET LOCAL rowhouse.tenant_id = ''").await;
    assert_eq!(walls.write_event(walls.own).await, Err(DENIED.clone()));
    walls.leave().await;
    walls
        .without("ALTER TABLE rowhouse.outbox DISABLE ROW LEVEL SECURITY")
        .await;
    walls.enter(&fault).await;
    assert_eq!(walls.write_event(walls.own).await, Ok(()), "the control");
    walls.leave().await;
}

#[tokio::test]
async fn a_wrong_bind_meets_the_search_path_the_check_and_the_policy() {
    let walls = Walls::start("wall_bind").await;
    walls.enter("").await;
    assert_eq!(walls.read(walls.foreign).await, nothing());
    assert_eq!(walls.write(walls.foreign).await, Err(CHECK.clone()));
    walls.leave().await;
    walls.enter("").await;
    assert_eq!(walls.write_event(walls.foreign).await, Err(DENIED.clone()));
    walls.leave().await;
    // The controls.
    walls.enter(&walls.foreign_search_path()).await;
    assert_eq!(walls.read(walls.foreign).await, foreign());
    walls.leave().await;
    walls
        .without(&format!(
            "ALTER TABLE {}.notes DROP CONSTRAINT notes_house",
            schema(walls.own)
        ))
        .await;
    walls
        .without("ALTER TABLE rowhouse.outbox DISABLE ROW LEVEL SECURITY")
        .await;
    walls.enter("").await;
    assert_eq!(walls.write(walls.foreign).await, Ok(()));
    assert_eq!(walls.write_event(walls.foreign).await, Ok(()));
    walls.leave().await;
}

#[tokio::test]
async fn without_the_role_there_is_no_right_to_anything() {
    let walls = Walls::start("wall_role").await;
    mutate(
        &walls.bench,
        "PERFORM pg_catalog.set_config('role', 'rowhouse_tenant', true);",
        "",
    )
    .await;
    without_rights(&walls, "").await;
}

#[tokio::test]
async fn reset_role_gives_no_right_to_anything() {
    let walls = Walls::start("wall_reset").await;
    for fault in ["RESET ROLE", "SET LOCAL ROLE NONE", "SET SESSION AUTHORIZATION DEFAULT"] {
        without_rights(&walls, fault).await;
        walls
            .without(&format!(
                "REVOKE SELECT, INSERT ON ALL TABLES IN SCHEMA {} FROM rowhouse_app",
                schema(walls.own)
            ))
            .await;
        walls
            .without(&format!(
                "REVOKE USAGE ON SCHEMA {} FROM rowhouse_app",
                schema(walls.own)
            ))
            .await;
    }
}

/// Neither reads nor writes; and the control: with rights of its own, the login would.
async fn without_rights(walls: &Walls, fault: &str) {
    for attempt in 0..3 {
        walls.enter(fault).await;
        let refused = match attempt {
            0 => walls.read(walls.own).await.map(drop),
            1 => walls.write(walls.own).await,
            _ => walls.write_event(walls.own).await,
        };
        // A schema that one may not use is passed over, so the table is not even found.
        let refused = refused.unwrap_err();
        assert!(
            [DENIED, &SqlState::UNDEFINED_TABLE].contains(&&refused),
            "{fault}: {refused:?}"
        );
        walls.leave().await;
    }
    let home = schema(walls.own);
    walls
        .without(&format!("GRANT USAGE ON SCHEMA {home} TO rowhouse_app"))
        .await;
    walls
        .without(&format!(
            "GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA {home} TO rowhouse_app"
        ))
        .await;
    walls.enter(fault).await;
    assert_eq!(walls.read(walls.own).await, own(), "the control");
    walls.leave().await;
}

/// What a mistake would leave on a pooled connection, for the next tenant that gets it.
#[tokio::test]
async fn what_a_session_left_behind_does_not_reach_the_next_transaction() {
    let walls = Walls::start("wall_session").await;
    let planted = format!(
        "SET search_path = {home}, ext; SET rowhouse.tenant_id = '{foreign}'; SET statement_timeout = 200;
         SET default_transaction_isolation = 'serializable'; SET ROLE rowhouse_tenant",
        home = schema(walls.foreign),
        foreign = walls.foreign.uuid()
    );
    let pid = "SELECT pg_backend_pid()::text";
    let before = walls.bodies(pid).await.unwrap();
    walls.run(&planted).await.unwrap();
    // The control: whoever does not enter reads the neighbour's rows. It must be the same backend.
    assert_eq!(walls.bodies("SELECT body FROM notes").await, foreign());
    // Entering without giving up the role first is refused, which is why BEGIN does so.
    let enter = format!(
        "BEGIN; SELECT rowhouse.enter('{}', 'crm', 1, 'write', 1, 2, 5000)",
        walls.own.uuid()
    );
    assert_eq!(walls.run(&enter).await, Err(DENIED.clone()));
    walls.leave().await;

    for _ in 0..3 {
        let bodies: Vec<String> = walls
            .bench
            .list(walls.own)
            .await
            .unwrap()
            .into_iter()
            .map(|note| note.body)
            .collect();
        assert_eq!(bodies, ["own"]);
    }
    walls.bench.insert(walls.own, "second").await.unwrap();
    let mut tx = walls
        .bench
        .db
        .begin_single(&ctx(walls.own, LONG), Mode::Read)
        .await
        .unwrap();
    tx.fetch_all(&SLEEP, &[&0.3]).await.unwrap();
    walls.enter("").await;
    assert_eq!(walls.write_event(walls.own).await, Ok(()));
    assert_eq!(walls.write_event(walls.foreign).await, Err(DENIED.clone()));
    walls.leave().await;
    assert_eq!(
        walls.bodies(pid).await.unwrap(),
        before,
        "the same backend all the time"
    );
}

#[tokio::test]
async fn a_planted_temporary_table_is_not_seen() {
    let walls = Walls::start("wall_temp").await;
    let plant = format!(
        "CREATE TEMPORARY TABLE notes (tenant_id uuid, id uuid, body text);
         INSERT INTO notes VALUES ('{0}', '{0}', 'planted'); GRANT ALL ON notes TO rowhouse_tenant",
        walls.own.uuid()
    );
    // The first wall: nobody may make one.
    assert_eq!(walls.run(&plant).await, Err(DENIED.clone()));
    // The second: with the first one taken away, it still stands behind the home.
    let database = walls.bench.databases.data_name();
    walls
        .without(&format!("GRANT TEMPORARY ON DATABASE {database} TO rowhouse_app"))
        .await;
    walls.run(&plant).await.unwrap();
    let listed = walls.bench.list(walls.own).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].body, "own");
    // The control: a search_path that does not name pg_temp has it in front.
    mutate(&walls.bench, "'%I, ext, pg_temp'", "'%I, ext'").await;
    let listed = walls.bench.list(walls.own).await.unwrap();
    assert_eq!(listed[0].body, "planted");
}

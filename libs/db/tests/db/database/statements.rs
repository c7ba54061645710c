//! Statements that stay prepared: straight to PostgreSQL, with one connection to the tenant's database; and `pooled`, through a
//! pooler that keeps them.

mod changes;
mod pooled;

use rowhouse_db::{
    AnyStatement, FromRow, Lanes, OwnDatabases, Row, Sql, Statement, TenantDb, TenantDbConfig, TenantTx, Type,
};

use super::*;
use crate::bench::config;
use crate::drops::{AtMost, write_several};
use crate::notes::{LIST, Note};

/// More polls than two statements and a COMMIT need.
const POLLS_MAX: usize = 60;

/// Trials to drop a statement without its connection being cut: most succeed, also on a slow machine.
const TRIALS_MAX: usize = 50;

/// What the session has prepared of one text, and how often that was run by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kept {
    prepared: i64,
    runs: i64,
}

impl FromRow for Kept {
    const COLUMNS: &'static [(&'static str, Type)] = &[("prepared", Type::INT8), ("runs", Type::INT8)];

    fn from_row(row: &Row) -> Result<Self, Error> {
        Ok(Self {
            prepared: row.get("prepared")?,
            runs: row.get("runs")?,
        })
    }
}

const KEPT: Statement<Kept> = Statement::new(
    "kept",
    "SELECT count(*) AS prepared, coalesce(sum(generic_plans + custom_plans), 0)::bigint AS runs
     FROM pg_prepared_statements WHERE statement = $2 AND $1::uuid IS NOT NULL",
    &[Type::TEXT],
);

/// A tenant in a database of its own, and who serves it.
struct Serving {
    bench: Bench,
    tenant: TenantId,
    db: TenantDb,
}

// === impl Serving ===

impl Serving {
    async fn start(name: &str) -> Self {
        let bench = Bench::start(name, 1).await;
        let tenant = bench.tenant_in(DATABASE).await;
        let db = connect(&bench, true).await;
        Self { bench, tenant, db }
    }

    async fn begin_single(&self, mode: Mode) -> TenantTx {
        self.db.begin_single(&ctx(self.tenant, LONG), mode).await.unwrap()
    }

    /// The bodies that a statement reads.
    async fn read(&self, statement: &Statement<Note>) -> Result<Vec<String>, Error> {
        let notes = self.begin_single(Mode::Read).await.fetch_all(statement, &[]).await?;
        Ok(notes.into_iter().map(|note| note.body).collect())
    }

    async fn insert(&self, body: &str) -> Result<Note, Error> {
        let mut tx = self.begin_single(Mode::Write).await;
        tx.fetch_one(&INSERT, &[&Uuid::now_v7(), &body]).await
    }

    async fn kept(&self, sql: &str) -> Kept {
        kept(&self.db, self.tenant, sql).await
    }

    async fn superuser(&self, sql: &str) {
        let superuser = self.bench.superuser_of(self.tenant).await;
        superuser.batch_execute(sql).await.unwrap();
    }
}

async fn connect(bench: &Bench, keeps_statements: bool) -> TenantDb {
    let config = TenantDbConfig {
        own_databases: OwnDatabases {
            connections_max: 1,
            keeps_statements,
            ..OwnDatabases::default()
        },
        ..config(bench.databases.data_url(Login::App), Lanes::OFF)
    };
    TenantDb::connect(config, bench.directory.clone()).await.unwrap()
}

async fn kept(db: &TenantDb, tenant: TenantId, sql: &str) -> Kept {
    let mut tx = db.begin_single(&ctx(tenant, LONG), Mode::Read).await.unwrap();
    tx.fetch_one(&KEPT, &[&sql]).await.unwrap()
}

const fn runs(runs: i64) -> Kept {
    Kept { prepared: 1, runs }
}

const NOTHING: Kept = Kept { prepared: 0, runs: 0 };

#[tokio::test]
async fn the_first_use_prepares_a_statement_and_later_ones_say_its_name() {
    let serving = Serving::start("kept_uses").await;
    let mut tx = serving.db.begin(&ctx(serving.tenant, LONG), Mode::Write).await.unwrap();
    for body in ["one", "three", "two"] {
        tx.fetch_one(&INSERT, &[&Uuid::now_v7(), &body]).await.unwrap();
    }
    tx.commit().await.unwrap();
    assert_eq!(serving.kept(INSERT.sql()).await, runs(2));
    for later in 0..3 {
        assert_eq!(serving.read(&LIST).await.unwrap(), ["one", "three", "two"]);
        assert_eq!(serving.kept(LIST.sql()).await, runs(later));
    }
}

#[tokio::test]
async fn nothing_is_kept_unless_that_is_asked_for() {
    let serving = Serving::start("kept_not").await;
    let db = connect(&serving.bench, false).await;
    for _ in 0..2 {
        let mut tx = db.begin_single(&ctx(serving.tenant, LONG), Mode::Read).await.unwrap();
        tx.fetch_all(&LIST, &[]).await.unwrap();
    }
    assert_eq!(kept(&db, serving.tenant, LIST.sql()).await, NOTHING);
}

/// A back end that serves many homes would have every statement for each of them to analyse again and again.
#[tokio::test]
async fn nothing_is_kept_where_a_back_end_serves_many_homes() {
    let serving = Serving::start("kept_shared").await;
    for placement in [Placement::Schema, Placement::Shared] {
        let tenant = serving.bench.tenant_in(placement).await;
        for _ in 0..2 {
            let mut tx = serving.db.begin_single(&ctx(tenant, LONG), Mode::Read).await.unwrap();
            tx.fetch_all(&LIST, &[]).await.unwrap();
        }
        assert_eq!(kept(&serving.db, tenant, LIST.sql()).await, NOTHING);
    }
}

#[tokio::test]
async fn a_statement_that_was_put_together_is_kept_by_its_text() {
    let serving = Serving::start("kept_dynamic").await;
    serving.insert("one").await.unwrap();
    for (later, other) in ["one", "x", "y"].into_iter().enumerate() {
        let mut tx = serving.begin_single(Mode::Read).await;
        let found = tx.fetch_page(others_than(other, 1)).await.unwrap();
        assert_eq!(
            found.len(),
            usize::from(later > 0),
            "what is bound counts, and not what was first bound"
        );
        let text = others_than(other, 1).text().to_owned();
        assert_eq!(serving.kept(&text).await, runs(i64::try_from(later).unwrap()));
    }
}

/// There may be thousands of forms. Those that stand in the program have places of their own.
#[tokio::test]
async fn of_statements_that_were_put_together_a_connection_keeps_a_few() {
    let serving = Serving::start("kept_forms").await;
    let mut prepared = 0;
    for conditions in 1..=20 {
        let mut tx = serving.begin_single(Mode::Read).await;
        tx.fetch_page(others_than("x", conditions)).await.unwrap();
        prepared += serving.kept(others_than("x", conditions).text()).await.prepared;
    }
    assert_eq!(prepared, 16);
    for later in 0..2 {
        serving.read(&LIST).await.unwrap();
        assert_eq!(serving.kept(LIST.sql()).await, runs(later));
    }
}

/// Notes with another body, which is said so many times.
fn others_than(body: &str, conditions: usize) -> Sql<Note> {
    let mut sql = Sql::new("SELECT tenant_id, id, body FROM notes WHERE tenant_id = $1");
    for _ in 0..conditions {
        sql = sql.push(" AND body <> ").bind(body.to_owned());
    }
    sql.push(" LIMIT 10")
}

#[tokio::test]
async fn a_first_use_that_enter_refused_leaves_no_name_behind() {
    let serving = Serving::start("kept_refused").await;
    serving.bench.freeze(serving.tenant).await;
    assert_eq!(serving.read(&LIST).await, Err(Error::TenantSuspended));
    let (provisioner, thawed_by) = (&serving.bench.provisioner, OperationId::generate());
    provisioner.thaw(serving.tenant, &server(), thawed_by).await.unwrap();
    for later in 0..2 {
        assert_eq!(serving.read(&LIST).await.unwrap(), Vec::<String>::new());
        assert_eq!(serving.kept(LIST.sql()).await, runs(later));
    }
}

#[tokio::test]
async fn a_statement_that_fails_is_kept_only_where_it_was_prepared_before() {
    let serving = Serving::start("kept_failed").await;
    serving.bench.insert(serving.tenant, "same").await.unwrap();
    let refused = serving.insert("same").await;
    assert!(matches!(refused, Err(Error::Constraint { .. })), "{refused:?}");
    assert_eq!(serving.kept(INSERT.sql()).await, NOTHING);
    serving.insert("one").await.unwrap();
    assert_eq!(serving.kept(INSERT.sql()).await, runs(0));
    let refused = serving.insert("same").await;
    assert!(matches!(refused, Err(Error::Constraint { .. })), "{refused:?}");
    serving.insert("two").await.unwrap();
    assert_eq!(serving.kept(INSERT.sql()).await, runs(2));
}

#[tokio::test]
async fn what_a_transaction_prepared_stays_when_it_is_rolled_back() {
    let serving = Serving::start("kept_rollback").await;
    let mut tx = serving.db.begin(&ctx(serving.tenant, LONG), Mode::Write).await.unwrap();
    tx.fetch_one(&INSERT, &[&Uuid::now_v7(), &"forgotten"]).await.unwrap();
    drop(tx);
    serving.insert("one").await.unwrap();
    assert_eq!(serving.kept(INSERT.sql()).await, runs(1));
    assert_eq!(serving.read(&LIST).await.unwrap(), ["one"]);
}

/// PostgreSQL has prepared it under a name that went with the future.
#[tokio::test]
async fn a_first_use_that_was_dropped_is_not_prepared_again() {
    let serving = Serving::start("kept_dropped").await;
    serving.insert("one").await.unwrap();
    for _ in 0..TRIALS_MAX {
        drop_unread(&serving).await;
        if serving.kept(LIST.sql()).await == NOTHING {
            // The connection was cut: on a slow machine even ROLLBACK takes too long.
            continue;
        }
        for _ in 0..2 {
            assert_eq!(serving.read(&LIST).await.unwrap(), ["one"]);
        }
        assert_eq!(serving.kept(LIST.sql()).await, runs(0));
        return;
    }
    panic!("its connection was cut each time");
}

/// Drops a use of [`LIST`] that PostgreSQL has answered, before the answer is read.
async fn drop_unread(serving: &Serving) {
    let own = serving.bench.superuser_of(serving.tenant).await;
    let hold = format!("BEGIN; LOCK TABLE {}.notes", schema(serving.tenant));
    own.batch_execute(&hold).await.unwrap();
    let mut reading = Box::pin(serving.read(&LIST));
    let held_up = "SELECT count(*) FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(pid))";
    tokio::select! {
        read = &mut reading => panic!("it has not waited: {read:?}"),
        () = until(|| async { count(&own, held_up).await == 1 }) => {}
    }
    own.batch_execute("ROLLBACK").await.unwrap();
    let busy = "SELECT count(*) FROM pg_stat_activity WHERE usename = current_database() AND state <> 'idle'";
    until(|| async { count(&own, busy).await == 0 }).await;
    drop(reading);
}

/// T02 for a first use and for a later one.
#[tokio::test]
async fn a_use_that_was_dropped_anywhere_does_not_confuse_the_next_one() {
    let serving = Serving::start("kept_drops").await;
    let (tenant, own) = (serving.tenant, serving.bench.superuser_of(serving.tenant).await);
    let notes = format!("SELECT count(*) FROM {}.notes", schema(tenant));
    for is_kept in [false, true] {
        let mut has_ended = false;
        for polls in 1..=POLLS_MAX {
            let db = connect(&serving.bench, true).await;
            kept(&db, tenant, "").await;
            if is_kept {
                write_several(db.clone(), tenant).await.unwrap();
            }
            let outcome = AtMost::new(write_several(db.clone(), tenant), polls).await;
            write_several(db.clone(), tenant).await.unwrap();
            assert_eq!(count(&own, &notes).await % 2, 0, "after {polls} polls");
            db.shutdown().await;
            has_ended = outcome.is_some();
            if has_ended {
                break;
            }
        }
        assert!(has_ended, "it never came to its end");
    }
    let events = count(&own, "SELECT count(*) FROM rowhouse.outbox").await;
    assert_eq!(events, count(&own, &notes).await);
}

#[tokio::test]
async fn a_new_connection_has_nothing_of_the_one_before() {
    let serving = Serving::start("kept_anew").await;
    for later in 0..2 {
        serving.read(&LIST).await.unwrap();
        assert_eq!(serving.kept(LIST.sql()).await, runs(later));
    }
    serving
        .superuser("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE usename = current_database()")
        .await;
    // Where the end has been noticed by now, nobody hears of it.
    let first = serving.read(&LIST).await;
    assert!(matches!(first, Ok(_) | Err(Error::Unavailable(_))), "{first:?}");
    for later in i64::from(first.is_ok())..2 {
        serving.read(&LIST).await.unwrap();
        assert_eq!(serving.kept(LIST.sql()).await, runs(later));
    }
}

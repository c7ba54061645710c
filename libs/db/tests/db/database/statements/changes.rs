//! What changes between two uses of a kept statement: the tables, the rights, the session, what PostgreSQL has kept.

use super::*;
use crate::notes::Number;

/// What no store says: its columns change with the table.
const STAR: Statement<Note> = Statement::new("note.star", "SELECT * FROM notes WHERE tenant_id = $1", &[]);
/// Calls a function that a test makes.
const SPOIL: Statement<Number> =
    Statement::new("spoil", "SELECT ext.spoil() AS number WHERE $1::uuid IS NOT NULL", &[]);
const PLANTED: Statement<Note> = Statement::new(
    "planted",
    "SELECT tenant_id, id, body FROM pg_temp.notes WHERE tenant_id = $1",
    &[],
);

#[tokio::test]
async fn a_migration_that_adds_a_column_does_not_disturb_a_kept_statement() {
    let serving = Serving::start("kept_column").await;
    for body in ["one", "two"] {
        serving.insert(body).await.unwrap();
        serving.read(&LIST).await.unwrap();
    }
    let add = format!(
        "ALTER TABLE {0}.notes ADD COLUMN more text NOT NULL DEFAULT ''; CREATE INDEX ON {0}.notes (tenant_id, more)",
        schema(serving.tenant)
    );
    serving.superuser(&add).await;
    serving.insert("zero").await.unwrap();
    assert_eq!(serving.read(&LIST).await.unwrap(), ["one", "two", "zero"]);
    assert_eq!(serving.kept(LIST.sql()).await, runs(2));
    assert_eq!(serving.kept(INSERT.sql()).await, runs(2));
}

#[tokio::test]
async fn a_statement_whose_columns_have_changed_fails_once_and_goes_without_a_name() {
    let serving = Serving::start("kept_star").await;
    for body in ["one", "two"] {
        serving.insert(body).await.unwrap();
        serving.read(&STAR).await.unwrap();
    }
    assert_eq!(serving.kept(STAR.sql()).await, runs(1));
    let add = format!("ALTER TABLE {}.notes ADD COLUMN more text", schema(serving.tenant));
    serving.superuser(&add).await;
    let refused = Err(Error::Fault("note.star: SQLSTATE 0A000".to_owned()));
    assert_eq!(serving.read(&STAR).await, refused);
    for _ in 0..2 {
        assert_eq!(serving.read(&STAR).await.unwrap(), ["one", "two"]);
    }
    assert_eq!(serving.kept(STAR.sql()).await, NOTHING);
}

/// As behind a pooler that does not keep statements after all: another process has prepared something under the next names.
#[tokio::test]
async fn a_name_that_is_taken_fails_one_call_and_no_other_statement_gets_one() {
    let serving = Serving::start("kept_taken").await;
    serving.insert("one").await.unwrap();
    serving
        .superuser(
            "CREATE FUNCTION ext.spoil() RETURNS integer LANGUAGE plpgsql AS
             $$ BEGIN
                 EXECUTE 'DEALLOCATE ALL';
                 FOR number IN 0 .. 999 LOOP EXECUTE 'PREPARE s' || number || ' AS SELECT 1'; END LOOP;
                 RETURN 1;
             END $$;
             GRANT EXECUTE ON FUNCTION ext.spoil() TO rowhouse_tenant",
        )
        .await;
    let mut tx = serving.begin_single(Mode::Write).await;
    let refused = Err(Error::Fault("spoil: SQLSTATE 42P05".to_owned()));
    assert_eq!(tx.fetch_one(&SPOIL, &[]).await, refused);
    for _ in 0..2 {
        assert_eq!(serving.read(&LIST).await.unwrap(), ["one"]);
    }
    assert_eq!(serving.kept(LIST.sql()).await, NOTHING);
}

/// The same: what was prepared is gone.
#[tokio::test]
async fn a_name_that_is_not_known_any_more_fails_once_and_no_other_is_said_again() {
    let serving = Serving::start("kept_lost").await;
    for body in ["one", "two"] {
        serving.insert(body).await.unwrap();
        serving.read(&LIST).await.unwrap();
    }
    serving
        .superuser(
            "CREATE FUNCTION ext.spoil() RETURNS integer LANGUAGE plpgsql AS
             $$ BEGIN EXECUTE 'DEALLOCATE ALL'; RETURN 1; END $$;
             GRANT EXECUTE ON FUNCTION ext.spoil() TO rowhouse_tenant",
        )
        .await;
    let mut tx = serving.begin_single(Mode::Write).await;
    assert_eq!(tx.fetch_one(&SPOIL, &[]).await, Ok(Number(1)));
    let refused = Err(Error::Fault("note.list: SQLSTATE 26000".to_owned()));
    assert_eq!(serving.read(&LIST).await, refused);
    for _ in 0..2 {
        assert_eq!(serving.read(&LIST).await.unwrap(), ["one", "two"]);
    }
    serving.insert("zero").await.unwrap();
    assert_eq!(serving.kept(LIST.sql()).await, NOTHING);
}

#[tokio::test]
async fn a_home_that_was_built_anew_is_the_one_that_is_read() {
    let serving = Serving::start("kept_rebuilt").await;
    serving.insert("before").await.unwrap();
    for _ in 0..2 {
        assert_eq!(serving.read(&LIST).await.unwrap(), ["before"]);
    }
    let rebuild = format!(
        "ALTER SCHEMA {home} RENAME TO before; CREATE SCHEMA {home}; GRANT USAGE ON SCHEMA {home} TO rowhouse_tenant;
         CREATE TABLE {home}.notes (LIKE before.notes INCLUDING ALL);
         GRANT SELECT, INSERT ON {home}.notes TO rowhouse_tenant;
         INSERT INTO {home}.notes VALUES ('{number}', '{number}', 'anew')",
        home = schema(serving.tenant),
        number = serving.tenant.uuid()
    );
    serving.superuser(&rebuild).await;
    assert_eq!(serving.read(&LIST).await.unwrap(), ["anew"]);
    assert_eq!(serving.kept(LIST.sql()).await, runs(2));
}

#[tokio::test]
async fn the_roles_rights_are_looked_at_at_each_use() {
    let serving = Serving::start("kept_rights").await;
    serving.insert("one").await.unwrap();
    for _ in 0..2 {
        serving.read(&LIST).await.unwrap();
    }
    let notes = format!("{}.notes", schema(serving.tenant));
    serving
        .superuser(&format!("REVOKE SELECT ON {notes} FROM rowhouse_tenant"))
        .await;
    let refused = Err(Error::Fault("note.list: SQLSTATE 42501".to_owned()));
    assert_eq!(serving.read(&LIST).await, refused);
    serving
        .superuser(&format!("GRANT SELECT ON {notes} TO rowhouse_tenant"))
        .await;
    assert_eq!(serving.read(&LIST).await.unwrap(), ["one"]);
    assert_eq!(serving.kept(LIST.sql()).await.prepared, 1);
}

/// T05: a temporary table of the same name, and a search_path that leads to it.
#[tokio::test]
async fn what_a_session_left_behind_does_not_reach_a_kept_statement() {
    let serving = Serving::start("kept_session").await;
    serving.insert("one").await.unwrap();
    for _ in 0..2 {
        serving.read(&LIST).await.unwrap();
    }
    let plant = format!(
        "GRANT TEMPORARY ON DATABASE {} TO rowhouse_tenant;
         CREATE FUNCTION ext.spoil() RETURNS integer LANGUAGE plpgsql AS $$ BEGIN
             CREATE TEMPORARY TABLE notes (tenant_id uuid, id uuid, body text);
             INSERT INTO pg_temp.notes VALUES ('{number}', '{number}', 'planted');
             PERFORM set_config('search_path', 'pg_temp', false);
             RETURN 1;
         END $$;
         GRANT EXECUTE ON FUNCTION ext.spoil() TO rowhouse_tenant",
        schema(serving.tenant),
        number = serving.tenant.uuid()
    );
    serving.superuser(&plant).await;
    let mut tx = serving.begin_single(Mode::Write).await;
    assert_eq!(tx.fetch_one(&SPOIL, &[]).await, Ok(Number(1)));
    assert_eq!(serving.read(&PLANTED).await.unwrap(), ["planted"], "it is there");
    assert_eq!(serving.read(&LIST).await.unwrap(), ["one"]);
    assert_eq!(serving.kept(LIST.sql()).await, runs(2));
}

/// What all of this rests on: PostgreSQL takes the search_path and the role of now, not those of when it was prepared.
#[tokio::test]
async fn a_prepared_statement_follows_the_search_path_and_the_role_of_now() {
    let serving = Serving::start("kept_path").await;
    serving.insert("one").await.unwrap();
    let other = format!(
        "CREATE SCHEMA other; GRANT USAGE ON SCHEMA other TO rowhouse_tenant; CREATE TABLE other.notes (LIKE {}.notes);
         GRANT SELECT ON other.notes TO rowhouse_tenant; INSERT INTO other.notes VALUES ('{number}', '{number}', 'other')",
        schema(serving.tenant),
        number = serving.tenant.uuid()
    );
    serving.superuser(&other).await;
    let (name, password) = serving.bench.own_login(serving.tenant).await;
    let url = serving.bench.databases.servers().url_of(&name, &password, &name);
    let client = cluster::connect(&url).await.unwrap();
    let tenant = serving.tenant.uuid();
    let enter = format!(
        "ROLLBACK; BEGIN; SET LOCAL ROLE NONE; SELECT rowhouse.enter('{tenant}', 'crm', 1, 'write', 1, 2, 5000)"
    );
    client.batch_execute(&enter).await.unwrap();
    let list = client.prepare(LIST.sql()).await.unwrap();
    let bodies = async || -> Result<Vec<String>, tokio_postgres::Error> {
        let rows = client.query(&list, &[&tenant]).await?;
        Ok(rows.iter().map(|row| row.get("body")).collect())
    };
    assert_eq!(bodies().await.unwrap(), ["one"]);
    for (fault, read) in [
        ("SET LOCAL search_path = other, ext, pg_temp", Some("other")),
        ("SET LOCAL search_path = rowhouse", None),
        ("SET LOCAL ROLE NONE", None),
        ("ROLLBACK", None),
    ] {
        client.batch_execute(&enter).await.unwrap();
        client.batch_execute(fault).await.unwrap();
        assert_eq!(bodies().await.ok(), read.map(|body| vec![body.to_owned()]), "{fault}");
    }
    client.batch_execute(&enter).await.unwrap();
    assert_eq!(bodies().await.unwrap(), ["one"]);
}

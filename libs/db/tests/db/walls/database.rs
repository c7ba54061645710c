//! T05 in placement `database`: the neighbours' rows are in another database, which nothing in a transaction can reach.

use rowhouse_types::Placement;
use tokio_postgres::error::SqlState;

use super::{CHECK, DENIED, Walls, nothing, own};
use crate::bench::schema;

const ABSENT: &SqlState = &SqlState::UNDEFINED_TABLE;
/// `rowhouse.enter`: there is no home here.
const NO_HOME: &str = "RH001";

async fn start(name: &str) -> Walls {
    Walls::start_in(name, Placement::Database).await
}

#[tokio::test]
async fn without_a_fault_a_tenant_is_alone() {
    let walls = start("own_none").await;
    walls.enter("").await;
    assert_eq!(walls.read(walls.own).await, own());
    assert_eq!(walls.read_all().await, own());
    assert_eq!(walls.write(walls.own).await, Ok(()));
    assert_eq!(walls.write_event(walls.own).await, Ok(()));
    walls.leave().await;
}

#[tokio::test]
async fn a_search_path_of_another_house_leads_nowhere() {
    let walls = start("own_path").await;
    for path in [
        walls.foreign_search_path(),
        "SET LOCAL search_path = pooled_01, ext, pg_temp".to_owned(),
    ] {
        for write in [false, true] {
            walls.enter(&path).await;
            let refused = if write {
                walls.write(walls.own).await
            } else {
                walls.read(walls.own).await.map(drop)
            };
            assert_eq!(refused, Err(ABSENT.clone()));
            walls.leave().await;
        }
    }
}

#[tokio::test]
async fn a_wrong_setting_meets_the_predicate_and_the_policy() {
    let walls = start("own_setting").await;
    let fault = format!("SET LOCAL rowhouse.tenant_id = '{}'", walls.foreign.uuid());
    walls.enter(&fault).await;
    assert_eq!(walls.read(walls.own).await, own());
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
async fn a_wrong_bind_meets_the_check_and_the_policy() {
    let walls = start("own_bind").await;
    walls.enter("").await;
    assert_eq!(walls.read(walls.foreign).await, nothing());
    assert_eq!(walls.write(walls.foreign).await, Err(CHECK.clone()));
    walls.leave().await;
    walls.enter("").await;
    assert_eq!(walls.write_event(walls.foreign).await, Err(DENIED.clone()));
    walls.leave().await;
    let check = format!("ALTER TABLE {}.notes DROP CONSTRAINT notes_house", schema(walls.own));
    walls.without(&check).await;
    walls.enter("").await;
    assert_eq!(walls.write(walls.foreign).await, Ok(()), "the control");
    walls.leave().await;
}

/// The connection leads to another database than the tenant's, the server's main one or a neighbour's, by a login that may
/// connect to it; the tenant's own may not (`database/logins.rs`).
#[tokio::test]
async fn a_wrong_database_meets_enter_and_the_check() {
    let mut walls = start("own_wrong").await;
    let enter = format!(
        "BEGIN; SELECT rowhouse.enter('{}', 'crm', 1, 'write', 1, 2, 5000)",
        walls.own.uuid()
    );
    let neighbours = schema(walls.foreign);
    for wrong in [walls.bench.app().await, walls.bench.app_of(walls.foreign).await] {
        walls.app = wrong;
        let refused = walls.run(&enter).await.unwrap_err();
        assert_eq!(refused.code(), NO_HOME);
        walls.leave().await;
    }
    // The second wall, with the first one taken away: a neighbour's registry that lets the tenant in.
    walls.superuser = walls.bench.superuser_of(walls.foreign).await;
    let let_in = format!(
        "INSERT INTO rowhouse.homes (tenant_id, participant, house_id, generation, state, operation_id)
         SELECT '{}', participant, house_id, 1, 'active', operation_id FROM rowhouse.homes",
        walls.own.uuid()
    );
    walls.without(&let_in).await;
    walls.enter("").await;
    assert_eq!(walls.read(walls.own).await, nothing());
    assert_eq!(walls.write(walls.own).await, Err(CHECK.clone()));
    walls.leave().await;
    let check = format!("ALTER TABLE {neighbours}.notes DROP CONSTRAINT notes_house");
    walls.without(&check).await;
    walls.enter("").await;
    assert_eq!(walls.write(walls.own).await, Ok(()), "the control");
    walls.leave().await;
}

#[tokio::test]
async fn without_the_role_there_is_no_right_to_anything() {
    let walls = start("own_role").await;
    for fault in ["RESET ROLE", "SET LOCAL ROLE NONE", "SET SESSION AUTHORIZATION DEFAULT"] {
        walls.enter(fault).await;
        assert!(walls.read_all().await.is_err(), "{fault}");
        walls.leave().await;
    }
    let home = schema(walls.own);
    let rights =
        format!("GRANT USAGE ON SCHEMA {home} TO {home}; GRANT SELECT ON ALL TABLES IN SCHEMA {home} TO {home}");
    walls.without(&rights).await;
    walls.enter("RESET ROLE").await;
    assert_eq!(walls.read_all().await, own(), "the control");
    walls.leave().await;
}

#[tokio::test]
async fn what_a_session_left_behind_does_not_reach_the_next_transaction() {
    let walls = start("own_session").await;
    let planted = format!(
        "SET search_path = rowhouse; SET rowhouse.tenant_id = '{}'; SET ROLE rowhouse_tenant",
        walls.foreign.uuid()
    );
    walls.run(&planted).await.unwrap();
    for _ in 0..3 {
        let listed = walls.bench.list(walls.own).await.unwrap();
        let bodies: Vec<&str> = listed.iter().map(|note| note.body.as_str()).collect();
        assert_eq!(bodies, ["own"]);
    }
}

#[tokio::test]
async fn a_planted_temporary_table_is_not_seen() {
    let walls = start("own_temp").await;
    let plant = format!(
        "CREATE TEMPORARY TABLE notes (tenant_id uuid, id uuid, body text);
         INSERT INTO notes VALUES ('{0}', '{0}', 'planted'); GRANT ALL ON notes TO rowhouse_tenant",
        walls.own.uuid()
    );
    assert_eq!(walls.run(&plant).await, Err(DENIED.clone()));
    // With the first wall taken away it still stands behind the home.
    let grant = format!("GRANT TEMPORARY ON DATABASE {0} TO {0}", schema(walls.own));
    walls.without(&grant).await;
    walls.run(&plant).await.unwrap();
    assert_eq!(
        walls.bodies("SELECT body FROM notes").await,
        Ok(vec!["planted".to_owned()]),
        "the control"
    );
    let listed = walls.bench.list(walls.own).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].body, "own");
}

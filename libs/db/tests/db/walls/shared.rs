//! T05 in placement `shared`, where the neighbours' rows stand in the same tables.

use rowhouse_types::{OperationId, Placement, TenantId};

use super::{CHECK, DENIED, Walls, foreign, nothing, own};
use crate::bench::{Bench, mutate, schema_of, server};

async fn start(name: &str) -> Walls {
    Walls::start_in(name, Placement::Shared).await
}

async fn without_policy(walls: &Walls) {
    let home = schema_of(&walls.superuser, walls.own).await;
    walls
        .without(&format!("ALTER TABLE {home}.notes DISABLE ROW LEVEL SECURITY"))
        .await;
}

#[tokio::test]
async fn without_a_fault_a_tenant_sees_its_own_rows_even_without_the_predicate() {
    let walls = start("shared_none").await;
    walls.enter("").await;
    assert_eq!(walls.read(walls.own).await, own());
    assert_eq!(walls.read_all().await, own());
    assert_eq!(walls.write(walls.own).await, Ok(()));
    assert_eq!(walls.write_event(walls.own).await, Ok(()));
    walls.leave().await;
    // The control: without the policy the predicate is the only wall.
    without_policy(&walls).await;
    walls.enter("").await;
    assert_eq!(walls.read(walls.own).await, own());
    assert_eq!(walls.read_all().await.unwrap().len(), 2);
    walls.leave().await;
}

#[tokio::test]
async fn a_wrong_setting_meets_the_predicate_and_the_policy() {
    let walls = start("shared_setting").await;
    let fault = format!("SET LOCAL rowhouse.tenant_id = '{}'", walls.foreign.uuid());
    for (fault, all) in [
        (fault.as_str(), foreign()),
        ("SET LOCAL rowhouse.tenant_id = ''", nothing()),
    ] {
        walls.enter(fault).await;
        assert_eq!(walls.read(walls.own).await, nothing());
        // The control: with one source for both, the neighbour's rows would be read.
        assert_eq!(walls.read_all().await, all);
        assert_eq!(walls.write(walls.own).await, Err(DENIED.clone()));
        walls.leave().await;
    }
    without_policy(&walls).await;
    walls.enter(&fault).await;
    assert_eq!(walls.write(walls.own).await, Ok(()), "the control");
    walls.leave().await;
}

#[tokio::test]
async fn a_wrong_bind_meets_the_policy() {
    let walls = start("shared_bind").await;
    walls.enter("").await;
    assert_eq!(walls.read(walls.foreign).await, nothing());
    assert_eq!(walls.write(walls.foreign).await, Err(DENIED.clone()));
    walls.leave().await;
    without_policy(&walls).await;
    walls.enter("").await;
    assert_eq!(walls.read(walls.foreign).await, foreign(), "the control");
    assert_eq!(walls.write(walls.foreign).await, Ok(()), "the control");
    walls.leave().await;
}

#[tokio::test]
async fn a_search_path_of_another_house_meets_the_predicate_and_its_walls() {
    let walls = start("shared_path").await;
    let neighbour = walls.bench.tenant().await;
    walls.bench.insert(neighbour, "foreign").await.unwrap();
    let home = schema_of(&walls.superuser, neighbour).await;
    walls
        .enter(&format!("SET LOCAL search_path = {home}, ext, pg_temp"))
        .await;
    assert_eq!(walls.read(walls.own).await, nothing());
    assert_eq!(walls.write(walls.own).await, Err(CHECK.clone()));
    walls.leave().await;
    // And the other way round: a tenant with a house of its own that reads in the shared one.
    let home = schema_of(&walls.superuser, walls.own).await;
    let begin = format!(
        "BEGIN; SET LOCAL ROLE NONE; SELECT rowhouse.enter('{}', 'crm', 1, 'write', 1, 2, 5000);
         SET LOCAL search_path = {home}, ext, pg_temp",
        neighbour.uuid()
    );
    walls.run(&begin).await.unwrap();
    assert_eq!(walls.read_all().await, nothing());
    assert_eq!(walls.write(walls.own).await, Err(DENIED.clone()));
    walls.leave().await;
}

#[tokio::test]
async fn without_the_role_there_is_no_right_to_the_shared_tables() {
    let walls = start("shared_role").await;
    for fault in ["RESET ROLE", "SET LOCAL ROLE NONE", "SET SESSION AUTHORIZATION DEFAULT"] {
        walls.enter(fault).await;
        assert!(walls.read_all().await.is_err(), "{fault}");
        walls.leave().await;
    }
    mutate(
        &walls.bench,
        "PERFORM pg_catalog.set_config('role', 'rowhouse_tenant', true);",
        "",
    )
    .await;
    walls.enter("").await;
    assert!(walls.read_all().await.is_err());
    walls.leave().await;
}

/// What a mistake would leave on a pooled connection, for the next tenant that gets it.
#[tokio::test]
async fn what_a_session_left_behind_does_not_reach_the_next_transaction() {
    let walls = start("shared_session").await;
    let home = schema_of(&walls.superuser, walls.own).await;
    walls
        .run(&format!(
            "SET search_path = {home}, ext; SET rowhouse.tenant_id = '{}'; SET ROLE rowhouse_tenant",
            walls.foreign.uuid()
        ))
        .await
        .unwrap();
    assert_eq!(walls.bodies("SELECT body FROM notes").await, foreign(), "the control");
    for _ in 0..3 {
        let listed = walls.bench.list(walls.own).await.unwrap();
        let bodies: Vec<&str> = listed.iter().map(|note| note.body.as_str()).collect();
        assert_eq!(bodies, ["own"]);
    }
}

#[tokio::test]
async fn a_planted_temporary_table_is_not_seen() {
    let walls = start("shared_temp").await;
    let planted = |tenant: TenantId| format!("INSERT INTO notes VALUES ('{0}', '{0}', 'planted')", tenant.uuid());
    let plant = format!(
        "CREATE TEMPORARY TABLE notes (tenant_id uuid, id uuid, body text); GRANT ALL ON notes TO rowhouse_tenant; {}; {}",
        planted(walls.own),
        planted(walls.foreign)
    );
    // The first wall: nobody may make one.
    assert_eq!(walls.run(&plant).await, Err(DENIED.clone()));
    // The second: with the first one taken away, it still stands behind the shared tables, and nothing is written into it.
    let database = walls.bench.databases.data_name();
    walls
        .without(&format!("GRANT TEMPORARY ON DATABASE {database} TO rowhouse_app"))
        .await;
    walls.run(&plant).await.unwrap();
    for (tenant, body) in [(walls.own, "own"), (walls.foreign, "foreign")] {
        assert_eq!(bodies(&walls, tenant).await, [body]);
        walls.bench.insert(tenant, "second").await.unwrap();
        assert_eq!(bodies(&walls, tenant).await, [body, "second"]);
    }
    assert_eq!(
        walls.bodies("SELECT body FROM pg_temp.notes").await.unwrap(),
        ["planted", "planted"],
        "the same connection all the time, and nothing more in it"
    );
    // The control: a search_path that does not name pg_temp has it in front, with no policy to hold anything back.
    mutate(&walls.bench, "'%I, ext, pg_temp'", "'%I, ext'").await;
    assert_eq!(bodies(&walls, walls.own).await, ["planted"]);
    walls.enter("").await;
    assert_eq!(walls.read_all().await.unwrap().len(), 2);
    walls.leave().await;
}

/// What a tenant's reader sees.
async fn bodies(walls: &Walls, tenant: TenantId) -> Vec<String> {
    let listed = walls.bench.list(tenant).await.unwrap();
    listed.into_iter().map(|note| note.body).collect()
}

/// Nobody enters a shared house as a tenant that is frozen; its neighbours do not notice.
#[tokio::test]
async fn one_tenant_of_a_shared_house_is_frozen_alone() {
    let bench = Bench::start("shared_frozen", 2).await;
    let one = bench.tenant_in(Placement::Shared).await;
    let other = bench.tenant_in(Placement::Shared).await;
    bench.insert(one, "kept").await.unwrap();
    bench.freeze(one).await;
    bench.list(one).await.unwrap_err();
    bench.insert(other, "written").await.unwrap();
    assert_eq!(bench.list(other).await.unwrap().len(), 1);
    let thawed = bench.provisioner.thaw(one, &server(), OperationId::generate()).await;
    thawed.unwrap();
    assert_eq!(bench.list(one).await.unwrap().len(), 1);
}

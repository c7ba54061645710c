//! What the directory says of homes' versions, beside what the participant says of its houses.

use std::collections::BTreeSet;

use tokio_util::sync::CancellationToken;

use super::*;

/// Homes by the version that the directory says.
async fn told(bench: &Bench) -> Vec<(i32, i64)> {
    let sql = "SELECT version, count(*) FROM tenant.homes GROUP BY version ORDER BY version";
    sqlx::query_as(sql).fetch_all(&bench.superuser).await.unwrap()
}

async fn look(bench: &Bench) {
    let mut silent = BTreeSet::new();
    bench.versions().look(&mut silent).await.unwrap();
    assert_eq!(silent, BTreeSet::new());
}

/// Gives every house the version, as whoever is not the tenant service does.
fn bring_all(bench: &Bench, version: i32) {
    for house in &mut bench.fakes.effects().houses {
        house.version = version;
    }
}

#[tokio::test]
async fn the_directory_learns_at_once_of_homes_that_no_run_has_brought_on() {
    let (bench, _) = bench("versions_start").await;
    bring_all(&bench, NEWEST);
    assert_eq!(told(&bench).await, [(1, 10)]);
    let (versions, stop) = (bench.versions(), CancellationToken::new());
    let watching = async {
        while told(&bench).await != [(NEWEST, 10)] {}
        stop.cancel();
    };
    // Well before a second look.
    let both = async { tokio::join!(versions.run(stop.clone()), watching) };
    let bound = Duration::from_secs(30);
    timeout(bound, both).await.expect("it was never told");
}

#[tokio::test]
async fn a_home_that_is_behind_keeps_its_version_and_no_other_does() {
    let (bench, tenants) = bench("versions_behind").await;
    bring_all(&bench, NEWEST);
    bench.fakes.effects().houses[4].version = 2;
    look(&bench).await;
    assert_eq!(told(&bench).await, [(2, 1), (NEWEST, 9)]);
    let of = sqlx::query_scalar("SELECT version FROM tenant.homes WHERE tenant_id = $1").bind(tenants[4].uuid());
    let version: i32 = of.fetch_one(&bench.superuser).await.unwrap();
    assert_eq!(version, 2);

    bench.fakes.effects().houses[4].version = NEWEST;
    look(&bench).await;
    assert_eq!(told(&bench).await, [(NEWEST, 10)]);
}

#[tokio::test]
async fn the_directory_never_goes_back_to_an_older_version() {
    let (bench, _) = bench("versions_back").await;
    let newer = sqlx::query("UPDATE tenant.homes SET version = 2");
    newer.execute(&bench.superuser).await.unwrap();
    look(&bench).await;
    assert_eq!(told(&bench).await, [(2, 10)]);
}

/// It may have come to the participant after the houses were counted, and be as old as whoever built it.
#[tokio::test]
async fn a_home_that_is_recorded_after_the_question_is_left_for_the_next_look() {
    let (bench, tenants) = bench("versions_recorded").await;
    bring_all(&bench, NEWEST);
    let recorded = async |at: &'static str| {
        let sql = format!("UPDATE tenant.homes SET updated_at = {at} WHERE tenant_id = $1");
        let update = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(tenants[0].uuid());
        update.execute(&bench.superuser).await.unwrap();
    };
    recorded("now() + interval '1 hour'").await;
    look(&bench).await;
    assert_eq!(told(&bench).await, [(1, 1), (NEWEST, 9)]);
    recorded("now()").await;
    look(&bench).await;
    assert_eq!(told(&bench).await, [(NEWEST, 10)]);
}

fn fleet(versions: [i32; 2], older: Option<Vec<TenantId>>) -> Fleet {
    let houses = versions.map(|version| Version {
        version,
        deferred_version: 0,
        houses: 1,
        homes: 1,
    });
    Fleet {
        newest: NEWEST,
        deferred: Vec::new(),
        versions: houses.into(),
        older,
        faults: Vec::new(),
    }
}

#[test]
fn where_it_is_not_said_whose_homes_are_older_all_may_be() {
    let nobody: &[TenantId] = &[];
    assert_eq!(fleet([1, 3], None).at_least(), [(1, nobody)]);
    let older = [TenantId::generate()];
    let known = fleet([1, 3], Some(older.into()));
    assert_eq!(known.at_least(), [(3, older.as_slice()), (1, nobody)]);
    let empty = Fleet {
        versions: Vec::new(),
        ..known
    };
    assert!(empty.at_least().is_empty());
}

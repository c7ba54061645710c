//! Houses told with their versions: page by page, in every placement, in one query a page.

use rowhouse_db::{HouseEntry, HousePage, HouseQuery, Provisioner};
use rowhouse_devkit::log::Log;
use rowhouse_types::{OperationId, Placement, TenantId};
use tracing::Level;

use crate::bench::{Bench, provisioner, schema, schema_of, server};
use crate::fleet::{COLOURED, older_homes};
use crate::notes::{NEWEST, OLDER};

/// More than any test has.
const PAGES_MAX: usize = 20;

fn query(houses_max: u32) -> HouseQuery {
    HouseQuery {
        houses_max,
        ..HouseQuery::default()
    }
}

async fn list(migrator: &Provisioner, query: &HouseQuery) -> HousePage {
    migrator.list_houses(&server(), query).await.unwrap()
}

/// Every page of a list.
async fn pages(migrator: &Provisioner, mut query: HouseQuery) -> Vec<Vec<HouseEntry>> {
    let mut pages = Vec::new();
    loop {
        let page = list(migrator, &query).await;
        pages.push(page.houses);
        assert!(pages.len() < PAGES_MAX, "there is no end to them");
        query.after = page.next;
        if query.after.is_none() {
            return pages;
        }
    }
}

/// A tenant's own house at the version that notes have, none of whose steps is deferred.
fn own(tenant: TenantId, placement: Placement, version: i32) -> HouseEntry {
    HouseEntry {
        house: schema(tenant),
        placement,
        tenant: Some(tenant),
        is_spare: false,
        homes: 1,
        version,
        deferred_version: 0,
        is_behind: version < 2,
    }
}

/// Five houses: two schemas and a database of version 1, a schema and a shared house of two homes of version 2.
async fn five(bench: &Bench) -> Vec<HouseEntry> {
    let mut houses = Vec::new();
    for placement in [Placement::Schema, Placement::Schema, Placement::Database] {
        let tenant = older_homes(bench, placement, 1).await[0];
        houses.push(own(tenant, placement, 1));
    }
    houses.push(own(bench.tenant().await, Placement::Schema, 2));
    let shared = [
        bench.tenant_in(Placement::Shared).await,
        bench.tenant_in(Placement::Shared).await,
    ];
    houses.push(HouseEntry {
        house: schema_of(&bench.superuser().await, shared[0]).await,
        tenant: None,
        homes: 2,
        ..own(shared[0], Placement::Shared, 2)
    });
    houses.sort_by(|one, other| one.house.cmp(&other.house));
    houses
}

#[tokio::test]
async fn houses_of_every_placement_are_told_once_with_their_versions() {
    let bench = Bench::start("houses_pages", 1).await;
    let expected = five(&bench).await;
    let migrator = provisioner(&bench.databases, NEWEST).await;
    let told = pages(&migrator, query(2)).await;
    let sizes: Vec<usize> = told.iter().map(Vec::len).collect();
    assert_eq!((told.concat(), sizes), (expected.clone(), vec![2, 2, 1]));
    let all = list(&migrator, &query(5)).await;
    assert_eq!(
        (all.newest, all.houses, all.next),
        (2, expected, None),
        "a page that is just full is the last"
    );
    // What is behind depends on the code that is asked.
    let older = provisioner(&bench.databases, OLDER).await;
    let behind_only = HouseQuery {
        behind_only: true,
        ..query(5)
    };
    let none = list(&older, &behind_only).await;
    assert_eq!((none.newest, none.houses.len(), none.next), (1, 0, None));
}

#[tokio::test]
async fn of_those_that_are_behind_none_is_left_out_and_no_other_is_told() {
    let bench = Bench::start("houses_behind", 1).await;
    let mut expected = five(&bench).await;
    expected.retain(|house| house.version < 2);
    let migrator = provisioner(&bench.databases, NEWEST).await;
    let behind_only = HouseQuery {
        behind_only: true,
        ..query(2)
    };
    let told = pages(&migrator, behind_only.clone()).await;
    assert_eq!((told.concat(), told.len()), (expected, 2));
    migrator.migrate_all().await.unwrap();
    assert!(pages(&migrator, behind_only).await.concat().is_empty());
}

/// Tables that are new and an index that is missing: a run has something to do there.
#[tokio::test]
async fn a_house_whose_deferred_steps_are_left_is_behind() {
    let bench = Bench::start("houses_deferred", 1).await;
    let tenants = older_homes(&bench, Placement::Schema, 2).await;
    let migrator = provisioner(&bench.databases, COLOURED).await;
    migrator.migrate_all().await.unwrap();
    let cut_short = format!(
        "UPDATE rowhouse.houses SET deferred_version = 0 WHERE schema_name = '{}'",
        schema(tenants[1])
    );
    bench.superuser().await.batch_execute(&cut_short).await.unwrap();
    let behind_only = HouseQuery {
        behind_only: true,
        ..query(100)
    };
    let told = list(&migrator, &behind_only).await.houses;
    let left = HouseEntry {
        is_behind: true,
        ..own(tenants[1], Placement::Schema, 2)
    };
    assert_eq!(told, [left]);
    let of = HouseQuery {
        tenant: Some(tenants[0]),
        ..query(1)
    };
    let done = list(&migrator, &of).await.houses;
    assert_eq!((done[0].deferred_version, done[0].is_behind), (2, false));
}

#[tokio::test]
async fn a_tenants_house_is_found_in_every_placement_and_a_spare_says_that_it_is_one() {
    let (bench, at) = (Bench::start("houses_tenant", 1).await, server());
    let of = async |tenant| {
        let query = HouseQuery {
            tenant: Some(tenant),
            ..query(2)
        };
        list(&bench.provisioner, &query).await.houses
    };
    for placement in [Placement::Schema, Placement::Shared, Placement::Database] {
        let (tenant, _other) = (bench.tenant_in(placement).await, bench.tenant_in(placement).await);
        let found = of(tenant).await;
        assert_eq!((found.len(), found[0].placement), (1, placement));
        let is_own = placement != Placement::Shared;
        assert_eq!(found[0].tenant, is_own.then_some(tenant));
        if is_own {
            let ahead = TenantId::generate();
            let spare = bench.provisioner.prepare_spare(ahead, &at, placement);
            spare.await.unwrap();
            let spare = HouseEntry {
                is_spare: true,
                ..own(ahead, placement, 2)
            };
            assert_eq!(of(ahead).await, [spare]);
            let claim = bench
                .provisioner
                .prepare(ahead, &at, placement, OperationId::generate());
            claim.await.unwrap();
            assert_eq!(of(ahead).await, [own(ahead, placement, 2)]);
        }
    }
    assert!(of(TenantId::generate()).await.is_empty());
}

#[tokio::test]
async fn a_page_costs_one_query_however_many_houses_there_are() {
    let bench = Bench::start("houses_queries", 1).await;
    // The log hears this thread alone, on which all of this runs.
    let statements = Log::listen("sqlx::query", Level::TRACE);
    let told = async || {
        drop(statements.take());
        let houses = list(&bench.provisioner, &query(100)).await.houses;
        (houses.len(), statements.take().len())
    };
    assert_eq!(told().await, (0, 1));
    for placement in [Placement::Schema, Placement::Database] {
        for _ in 0..3 {
            bench.tenant_in(placement).await;
        }
    }
    bench.tenant_in(Placement::Shared).await;
    assert_eq!(told().await, (7, 1));
    // The control: what is asked of a single house is heard.
    drop(statements.take());
    bench.tenant().await;
    assert!(statements.take().len() > 1);
}

//! Houses listed over two data servers: page by page, by filter, while one of the servers is away.

use rowhouse_context::Ctx;
use rowhouse_types::ServerName;
use tokio::time::Instant;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::servers::bench;
use super::*;
use crate::migration::houses::{HouseFilter, HousePage, HouseQuery};

/// More than any test has.
const PAGES_MAX: usize = 20;

/// Of half of it a server that answers needs little.
const HASTY: Duration = Duration::from_secs(6);

fn server(name: &str) -> ServerName {
    name.parse().unwrap()
}

fn query(size: u32, token: &str, filter: HouseFilter) -> HouseQuery {
    HouseQuery {
        participant: ServiceName::Crm,
        filter,
        size,
        token: token.to_owned(),
    }
}

async fn list(bench: &Bench, ctx: &Ctx, query: &HouseQuery) -> HousePage {
    bench.migrations.list_houses(ctx, query).await.unwrap()
}

/// Another call of the same caller.
fn again(ctx: &Ctx, left: Duration) -> Ctx {
    let principal = ctx.principal().clone();
    Ctx::new(RequestId::generate(), principal, None, Instant::now() + left)
}

/// Every page of a list.
async fn pages(bench: &Bench, size: u32, filter: &HouseFilter) -> Vec<HousePage> {
    let (ctx, mut pages, mut token) = (ctx(LONG), Vec::new(), String::new());
    loop {
        let page = list(bench, &ctx, &query(size, &token, filter.clone())).await;
        token.clone_from(&page.next_page_token);
        pages.push(page);
        assert!(pages.len() < PAGES_MAX, "there is no end to them");
        if token.is_empty() {
            return pages;
        }
    }
}

fn named<'a>(pages: impl IntoIterator<Item = &'a HousePage>) -> Vec<(String, String)> {
    let houses = pages.into_iter().flat_map(|page| &page.houses);
    houses
        .map(|house| (house.server.clone(), house.house.clone()))
        .collect()
}

/// The houses of the participant that are so, by data server and name.
fn expected(bench: &Bench, is_so: impl Fn(&FakeHouse) -> bool) -> Vec<(String, String)> {
    let effects = bench.fakes.effects();
    let wanted = effects.houses.iter().filter(|house| is_so(house));
    let mut named: Vec<_> = wanted.map(|house| (house.server.to_owned(), house.name())).collect();
    named.sort();
    named
}

fn status<T: std::fmt::Debug>(outcome: Result<T>) -> Status {
    Failure::from(outcome.unwrap_err()).into()
}

#[tokio::test]
async fn every_house_is_told_once_and_each_server_asked_once_for_a_page() {
    let bench = bench("houses_pages").await;
    let pages = pages(&bench, 4, &HouseFilter::default()).await;
    let sizes: Vec<usize> = pages.iter().map(|page| page.houses.len()).collect();
    assert_eq!(sizes, [4, 4, 4, 3], "the third page goes on from data1 to data2");
    assert_eq!(named(&pages), expected(&bench, |_| true));
    assert_eq!(bench.fakes.called("list_houses"), 5);
    let told = |page: &HousePage| (page.newest, page.unreachable.is_empty());
    assert!(pages.iter().all(|page| told(page) == (Some(NEWEST), true)));
    let first = &pages[0].houses[0];
    assert_eq!(
        (first.placement, first.homes, first.version, first.is_behind),
        (Some(Placement::Schema), 1, 1, true)
    );
    // A page that is full where a server ends goes on with the next.
    let filter = HouseFilter::default();
    let first = list(&bench, &ctx(LONG), &query(10, "", filter)).await;
    assert!(first.houses.len() == 10 && !first.next_page_token.is_empty());
}

#[tokio::test]
async fn houses_are_filtered_by_what_is_left_to_do_by_server_and_by_tenant() {
    let bench = bench("houses_filter").await;
    for house in [1, 4, 12] {
        bench.fakes.effects().houses[house].bring_on();
    }
    let filter = HouseFilter {
        behind_only: true,
        ..HouseFilter::default()
    };
    let behind = expected(&bench, |house| house.version < NEWEST);
    assert_eq!(behind.len(), 12);
    assert_eq!(named(&pages(&bench, 5, &filter).await), behind);
    let filter = HouseFilter {
        server: Some(server("data2")),
        ..filter
    };
    let there = expected(&bench, |house| house.version < NEWEST && house.server == "data2");
    assert_eq!(named(&pages(&bench, 3, &filter).await), there);

    // The directory says where a tenant is: another server is not asked, and cannot be missed.
    bench.fakes.plan_on("data2", Mishap::Fails);
    let of = |tenant| HouseFilter {
        tenant: Some(tenant),
        ..HouseFilter::default()
    };
    let tenant: TenantId = bench.fakes.effects().houses[4].tenant.parse().unwrap();
    let found = pages(&bench, 1, &of(tenant)).await;
    assert_eq!(
        named(&found),
        expected(&bench, |house| house.tenant == tenant.to_string())
    );
    assert_eq!((found.len(), found[0].houses[0].version), (1, NEWEST));
    let elsewhere = HouseFilter {
        server: Some(server("data2")),
        ..of(tenant)
    };
    let nobody = of(TenantId::generate());
    let before = bench.fakes.called("list_houses");
    for filter in [elsewhere, nobody] {
        let none = list(&bench, &ctx(LONG), &query(1, "", filter)).await;
        assert_eq!(none, HousePage::default());
    }
    assert_eq!(bench.fakes.called("list_houses"), before);
}

#[tokio::test]
async fn a_token_is_for_its_caller_and_filter() {
    let bench = bench("houses_token").await;
    let caller = ctx(LONG);
    let behind = HouseFilter {
        behind_only: true,
        ..HouseFilter::default()
    };
    let first = list(&bench, &caller, &query(2, "", behind.clone())).await;
    let token = first.next_page_token.clone();
    let mut tampered = token.clone();
    let other = if tampered.starts_with('A') { "B" } else { "A" };
    tampered.replace_range(..1, other);
    let on_data1 = HouseFilter {
        server: Some(server("data1")),
        ..behind.clone()
    };
    let stranger = ctx(LONG);
    for (ctx, token, filter) in [
        (&caller, token.as_str(), HouseFilter::default()),
        (&caller, token.as_str(), on_data1),
        (&caller, tampered.as_str(), behind.clone()),
        (&caller, "x", behind.clone()),
        (&stranger, token.as_str(), behind.clone()),
    ] {
        let refused = bench.migrations.list_houses(ctx, &query(2, token, filter)).await;
        let refused = status(refused);
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert_eq!(
            refused.get_error_details().error_info().unwrap().reason,
            "PAGE_TOKEN_INVALID"
        );
    }
    // The control; and the size may change.
    let second = list(&bench, &caller, &query(3, &token, behind)).await;
    assert_eq!(named([&first, &second]), expected(&bench, |_| true)[..5]);
}

#[tokio::test]
async fn a_server_that_is_away_is_named_and_the_others_are_told() {
    let bench = bench("houses_away").await;
    bench.fakes.plan_on("data1", Mishap::Fails);
    let page = list(&bench, &ctx(LONG), &query(100, "", HouseFilter::default())).await;
    assert_eq!(page.unreachable, [server("data1")]);
    assert_eq!(named([&page]), expected(&bench, |house| house.server == "data2"));
    assert_eq!((page.newest, page.next_page_token.as_str()), (Some(NEWEST), ""));

    // Of one alone there is nothing to tell but that.
    let alone = HouseFilter {
        server: Some(server("data1")),
        ..HouseFilter::default()
    };
    let refused = status(bench.migrations.list_houses(&ctx(LONG), &query(100, "", alone)).await);
    assert_eq!(refused.code(), Code::Unavailable);
    let details = refused.get_error_details();
    assert_eq!(details.resource_info().unwrap().resource_name, "data1");

    for (participant, name, code) in [
        (ServiceName::Crm, "data9", Code::NotFound),
        (ServiceName::Worker, "data1", Code::InvalidArgument),
    ] {
        let filter = HouseFilter {
            server: Some(server(name)),
            ..HouseFilter::default()
        };
        let query = HouseQuery {
            participant,
            ..query(1, "", filter)
        };
        let refused = status(bench.migrations.list_houses(&ctx(LONG), &query).await);
        assert_eq!(refused.code(), code, "{name}");
    }
}

#[tokio::test]
async fn a_server_that_hangs_takes_half_of_the_time_and_the_next_page_goes_on_behind_it() {
    let bench = bench("houses_hang").await;
    bench.fakes.plan_on("data1", Mishap::HangsBefore);
    let hasty = ctx(HASTY);
    let first = list(&bench, &hasty, &query(100, "", HouseFilter::default())).await;
    assert_eq!((first.unreachable.len(), first.houses.len()), (1, 0));
    assert!(!first.next_page_token.is_empty() && hasty.time_left() > Duration::ZERO);
    let query = query(100, &first.next_page_token, HouseFilter::default());
    let second = list(&bench, &again(&hasty, LONG), &query).await;
    assert_eq!(named([&second]), expected(&bench, |house| house.server == "data2"));
    assert!(second.unreachable.is_empty() && second.next_page_token.is_empty());
}

/// It has had what was left of the time, which may be next to nothing.
#[tokio::test]
async fn a_server_that_is_not_the_first_of_a_page_is_not_said_to_hang_before_it_is() {
    let bench = bench("houses_late").await;
    bench.fakes.plan_on("data2", Mishap::HangsBefore);
    let hasty = ctx(HASTY);
    let first = list(&bench, &hasty, &query(100, "", HouseFilter::default())).await;
    assert_eq!(named([&first]), expected(&bench, |house| house.server == "data1"));
    assert_eq!((first.unreachable.len(), first.next_page_token.is_empty()), (0, false));
    // The control: as the first it has half of the time.
    let behind = query(100, &first.next_page_token, HouseFilter::default());
    let hung = list(&bench, &again(&hasty, HASTY), &behind).await;
    assert_eq!(hung.unreachable, [server("data2")]);
    assert!(hung.houses.is_empty() && hung.next_page_token.is_empty());
    bench.fakes.heal();
    let second = list(&bench, &again(&hasty, LONG), &behind).await;
    assert_eq!(named([&first, &second]), expected(&bench, |_| true));
    assert!(second.unreachable.is_empty() && second.next_page_token.is_empty());
}

//! What operators may do with data servers, and where new tenants are placed, on a real database.

use rowhouse_status::{Failure, Reason as Why};
use rowhouse_types::{IdempotencyKey, Placement};

use super::{Capacity, Change, Labels, Server, State, Traits};
use crate::error::{Error, Result};
use crate::operation::tests::{Bench, LONG, Mishap, ctx, entry, new_tenant, server};
use crate::tenant::{NewTenant, Reason, Tenant};

fn why<T: std::fmt::Debug>(answer: Result<T>) -> Why {
    Failure::from(answer.unwrap_err()).reason()
}

fn reason() -> Reason {
    Reason::parse_required("test").unwrap()
}

fn labelled(name: &str, region: &str) -> Traits {
    Traits {
        labels: region_is(region),
        ..server(name, 5_000)
    }
}

fn region_is(region: &str) -> Labels {
    Labels::parse([("region".to_owned(), region.to_owned())]).unwrap()
}

async fn create(bench: &Bench, new: NewTenant) -> Result<Tenant> {
    bench.tenants.create(&ctx(LONG), new).await
}

async fn register(bench: &Bench, traits: Traits) -> Server {
    bench.servers.register(&ctx(LONG), traits).await.unwrap()
}

async fn drain(bench: &Bench, name: &str) {
    let drained = bench.servers.drain(&ctx(LONG), &name.parse().unwrap(), &reason()).await;
    assert_eq!(drained.unwrap().state, State::Draining);
}

#[tokio::test]
async fn a_name_is_registered_once_and_a_repeated_call_answers_the_same() {
    let bench = Bench::start("servers_register").await;
    let first = register(&bench, labelled("data2", "eu")).await;
    assert_eq!((first.state, first.tenants), (State::Active, 0));
    assert_eq!(register(&bench, labelled("data2", "eu")).await, first);
    let other = bench.servers.register(&ctx(LONG), labelled("data2", "us")).await;
    assert_eq!(why(other), Why::ResourceAlreadyExists);
    assert_eq!(bench.servers.get(&first.traits.name).await.unwrap(), first);
    assert_eq!(
        why(bench.servers.get(&"data3".parse().unwrap()).await),
        Why::ResourceNotFound
    );
    let entries = "SELECT count(*) FROM tenant.audit WHERE action = 'server.register' AND target = 'data2'";
    assert_eq!(bench.count(entries).await, 1);
}

#[tokio::test]
async fn a_server_that_a_participant_cannot_use_is_not_registered() {
    let bench = Bench::start("servers_not_ready").await;
    bench.fakes.plan("check_server", Mishap::Fails);
    let refused = bench.servers.register(&ctx(LONG), server("data2", 10)).await;
    assert_eq!(why(refused), Why::DependencyUnavailable);
    assert_eq!(bench.count("SELECT count(*) FROM tenant.servers").await, 1);
    bench.fakes.heal();
    register(&bench, server("data2", 10)).await;
}

#[tokio::test]
async fn a_tenant_is_placed_where_the_largest_share_is_free() {
    let bench = Bench::start("servers_share").await;
    // data1 takes 5,000 and has none; after one tenant each, data2's share is the larger one taken.
    register(&bench, server("data2", 10)).await;
    let mut placed = Vec::new();
    for number in 0..4 {
        let tenant = create(&bench, new_tenant(&format!("tenant-{number}"))).await.unwrap();
        placed.push(tenant.server.to_string());
    }
    assert_eq!(placed, ["data1", "data2", "data1", "data1"]);
    assert_eq!(bench.servers.get(&"data1".parse().unwrap()).await.unwrap().tenants, 3);
}

#[tokio::test]
async fn a_tenant_goes_where_its_labels_and_its_placement_fit() {
    let bench = Bench::start("servers_labels").await;
    register(&bench, labelled("data2", "eu")).await;
    let only_shared = Traits {
        placements: vec![Placement::Shared],
        ..labelled("data3", "eu")
    };
    register(&bench, only_shared).await;
    let in_region = |slug: &str, region: &str| {
        let mut new = new_tenant(slug);
        new.server.labels = region_is(region);
        new
    };
    for number in 0..3 {
        let tenant = create(&bench, in_region(&format!("eu-{number}"), "eu")).await.unwrap();
        assert_eq!(tenant.server.as_str(), "data2");
    }
    let mut shared = in_region("eu-shared", "eu");
    shared.server.placement = Placement::Shared;
    assert_eq!(create(&bench, shared).await.unwrap().server.as_str(), "data3");
    assert_eq!(why(create(&bench, in_region("us-1", "us")).await), Why::NoServerFits);
    assert_eq!(
        bench
            .count("SELECT count(*) FROM tenant.tenants WHERE slug = 'us-1'")
            .await,
        0
    );
}

#[tokio::test]
async fn simultaneous_sign_ups_never_overfill_a_server() {
    let bench = Bench::start("servers_full").await;
    register(&bench, server("data2", 5)).await;
    drain(&bench, "data1").await;
    let calls = (0..12).map(|number| {
        let (tenants, new) = (bench.tenants.clone(), new_tenant(&format!("tenant-{number}")));
        tokio::spawn(async move { tenants.create(&ctx(LONG), new).await })
    });
    let mut placed = 0;
    for call in calls.collect::<Vec<_>>() {
        match call.await.unwrap() {
            Ok(tenant) => {
                assert_eq!(tenant.server.as_str(), "data2");
                placed += 1;
            }
            Err(error) => assert_eq!(Failure::from(error).reason(), Why::ServersFull),
        }
    }
    assert_eq!(placed, 5);
    assert_eq!(bench.count("SELECT count(*) FROM tenant.tenants").await, 5);
    assert_eq!(bench.count("SELECT count(*) FROM tenant.operations").await, 5);

    // The control: without the trigger's condition they would have been placed all the same.
    let trigger = "DROP TRIGGER tenants_admission ON tenant.tenants";
    sqlx::query(trigger).execute(&bench.superuser).await.unwrap();
    sqlx::query("UPDATE tenant.servers SET tenants = 4 WHERE name = 'data2'")
        .execute(&bench.superuser)
        .await
        .unwrap();
    for slug in ["more-1", "more-2"] {
        create(&bench, new_tenant(slug)).await.unwrap();
    }
    assert_eq!(bench.count("SELECT count(*) FROM tenant.tenants").await, 7);
}

#[tokio::test]
async fn a_repeated_call_finds_its_tenant_on_servers_that_are_full_by_now() {
    let bench = Bench::start("servers_repeated").await;
    register(&bench, server("data2", 1)).await;
    drain(&bench, "data1").await;
    let caller = ctx(LONG);
    let mut new = new_tenant("acme");
    new.request = Some(IdempotencyKey::generate());
    let first = bench.tenants.create(&caller, new.clone()).await.unwrap();
    assert_eq!(bench.tenants.create(&caller, new.clone()).await.unwrap().id, first.id);
    new.slug = "another".parse().unwrap();
    assert_eq!(
        why(bench.tenants.create(&caller, new.clone()).await),
        Why::RequestIdReused
    );
    new.request = Some(IdempotencyKey::generate());
    assert_eq!(why(bench.tenants.create(&caller, new).await), Why::ServersFull);
}

#[tokio::test]
async fn what_is_drained_between_choice_and_admission_is_chosen_no_more() {
    let bench = Bench::start("servers_race").await;
    register(&bench, server("data2", 10)).await;
    // A drain that is not committed yet: the choice still sees data1, the admission waits for the drain and refuses.
    let mut draining = bench.superuser.begin().await.unwrap();
    sqlx::query("UPDATE tenant.servers SET state = 'draining' WHERE name = 'data1'")
        .execute(&mut *draining)
        .await
        .unwrap();
    let call = {
        let tenants = bench.tenants.clone();
        tokio::spawn(async move { tenants.create(&ctx(LONG), new_tenant("acme")).await })
    };
    let waits = "SELECT count(*) FROM pg_stat_activity
                 WHERE datname = current_database() AND wait_event_type = 'Lock'";
    while bench.count(waits).await == 0 {
        tokio::task::yield_now().await;
    }
    draining.commit().await.unwrap();
    assert_eq!(call.await.unwrap().unwrap().server.as_str(), "data2");
}

#[tokio::test]
async fn a_drained_server_takes_nobody_until_it_is_activated() {
    let bench = Bench::start("servers_drain").await;
    let name = "data1".parse().unwrap();
    let operators = [ctx(LONG), ctx(LONG)];
    for operator in &operators {
        // The second finds it draining.
        let drained = bench.servers.drain(operator, &name, &reason()).await;
        assert_eq!(drained.unwrap().state, State::Draining);
    }
    assert_eq!(why(create(&bench, new_tenant("acme")).await), Why::NoServerFits);
    let back = Reason::parse_required("mended").unwrap();
    let active = bench.servers.activate(&operators[1], &name, &back).await.unwrap();
    assert_eq!(active.state, State::Active);
    create(&bench, new_tenant("acme")).await.unwrap();
    let expected = [
        entry(&operators[0], "server.drain", "done", Some("test")),
        entry(&operators[1], "server.activate", "done", Some("mended")),
    ];
    let audited = bench.audited(None, &name).await;
    assert_eq!(audited, expected, "a drain of what drains is no change");
}

#[tokio::test]
async fn a_change_names_what_it_changes_and_stale_etags_are_refused() {
    let bench = Bench::start("servers_update").await;
    let before = register(&bench, labelled("data2", "eu")).await;
    let change = |etag| Change {
        name: before.traits.name.clone(),
        address: None,
        labels: None,
        placements: None,
        tenants_max: Some(Capacity::parse(7).unwrap()),
        etag,
    };
    let after = bench
        .servers
        .update(&ctx(LONG), change(Some(before.etag)))
        .await
        .unwrap();
    assert_eq!(after.traits.tenants_max.tenants(), 7);
    assert_eq!(
        (&after.traits.labels, after.state),
        (&before.traits.labels, before.state)
    );
    let stale = bench.servers.update(&ctx(LONG), change(Some(before.etag))).await;
    assert_eq!(why(stale), Why::EtagMismatch);
    let unknown = Change {
        name: "data9".parse().unwrap(),
        ..change(None)
    };
    assert!(matches!(
        bench.servers.update(&ctx(LONG), unknown).await,
        Err(Error::ServerUnknown { .. })
    ));
}

#[tokio::test]
async fn lists_are_paged_by_name() {
    let bench = Bench::start("servers_list").await;
    for name in ["zeta", "data3", "data2"] {
        register(&bench, server(name, 10)).await;
    }
    let caller = ctx(LONG);
    let (mut names, mut token) = (Vec::new(), String::new());
    loop {
        let page = bench.servers.list(&caller, 3, &token).await.unwrap();
        names.extend(page.items.iter().map(|server| server.traits.name.to_string()));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
        assert_eq!(
            why(bench.servers.list(&ctx(LONG), 3, &token).await.map(drop)),
            Why::PageTokenInvalid
        );
    }
    assert_eq!(names, ["data1", "data2", "data3", "zeta"]);
}

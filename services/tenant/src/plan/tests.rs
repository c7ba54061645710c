//! Plans on a real database.

mod orders;

use rowhouse_context::ServiceName;
use rowhouse_db::paging::{Page, PageTokens};
use rowhouse_devkit::log::Log;
use rowhouse_status::{Failure, Reason as Why};
use rowhouse_types::{IdempotencyKey, Limits, TenantId};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::Level;

use super::actions::Plans;
use super::spread::{HOME_MAX, Spread};
use super::{Change, DisplayName, NewPlan, Plan, PlanName, TenantPlan, store};
use crate::directory;
use crate::error::Result;
use crate::operation::tests::{Bench, LONG, Mishap, ctx, entry, new_tenant};
use crate::tenant::{Reason, State, Tenant};

fn plans(bench: &Bench) -> (Plans, Spread) {
    let spread = Spread::new(bench.pool.clone(), bench.peers.clone());
    let plans = Plans::new(bench.pool.clone(), PageTokens::new(&[9; 32]), spread.clone());
    (plans, spread)
}

fn name(text: &str) -> PlanName {
    text.parse().unwrap()
}

fn new_plan(plan: &str, limits: Limits) -> NewPlan {
    NewPlan {
        name: name(plan),
        display_name: DisplayName::parse_required("A plan").unwrap(),
        limits,
    }
}

fn timeout_of(statement_timeout_ms: u32) -> Limits {
    Limits {
        statement_timeout_ms: Some(statement_timeout_ms),
        ..Limits::default()
    }
}

fn seats(seats: u32) -> Limits {
    Limits {
        seats: Some(seats),
        ..Limits::default()
    }
}

fn why<T: std::fmt::Debug>(answer: Result<T>) -> Why {
    Failure::from(answer.unwrap_err()).reason()
}

async fn assign(plans: &Plans, tenant: TenantId, plan: &str, overrides: Limits) -> Result<TenantPlan> {
    let reason = Reason::parse_required("test").unwrap();
    plans.assign(&ctx(LONG), tenant, &name(plan), overrides, &reason).await
}

async fn create(plans: &Plans, plan: &str, limits: Limits) -> Plan {
    plans.create(&ctx(LONG), new_plan(plan, limits)).await.unwrap()
}

async fn tenant(bench: &Bench) -> Tenant {
    bench.tenants.create(&ctx(LONG), new_tenant("acme")).await.unwrap()
}

/// What the participant was last told.
fn told(bench: &Bench, tenant: TenantId) -> Option<Option<i32>> {
    bench.fakes.effects().timeouts.get(&tenant.to_string()).copied()
}

#[tokio::test]
async fn a_plan_is_created_once_changed_and_deleted_when_nobody_has_it() {
    let bench = Bench::start("plans").await;
    let (plans, _) = plans(&bench);
    let small = create(&plans, "small", seats(3)).await;
    assert_eq!(create(&plans, "small", seats(3)).await, small);
    let other = plans.create(&ctx(LONG), new_plan("small", seats(4))).await;
    assert_eq!(why(other), Why::ResourceAlreadyExists);

    let change = |etag| Change {
        name: name("small"),
        display_name: None,
        limits: Some(seats(5)),
        etag,
    };
    let changed = plans.update(&ctx(LONG), change(Some(small.etag))).await.unwrap();
    assert_eq!((changed.limits, &changed.display_name), (seats(5), &small.display_name));
    assert_eq!(
        why(plans.update(&ctx(LONG), change(Some(small.etag))).await),
        Why::EtagMismatch
    );

    let tenant = tenant(&bench).await;
    let assigned = assign(&plans, tenant.id, "small", Limits::default());
    assert_eq!(assigned.await.unwrap().limits, seats(5));
    assert_eq!(
        why(plans.delete(&ctx(LONG), &name("small"), None).await),
        Why::StateForbids
    );
    let back = assign(&plans, tenant.id, "standard", Limits::default());
    back.await.unwrap();
    assert_eq!(
        why(plans.delete(&ctx(LONG), &name("small"), Some(small.etag)).await),
        Why::EtagMismatch
    );
    plans
        .delete(&ctx(LONG), &name("small"), Some(changed.etag))
        .await
        .unwrap();
    assert_eq!(why(plans.get(&name("small")).await), Why::ResourceNotFound);
    let entries = "SELECT count(*) FROM tenant.audit WHERE action LIKE 'plan.%' AND target = 'small'";
    assert_eq!(bench.count(entries).await, 3);
}

#[tokio::test]
async fn overrides_hold_instead_of_the_plan_and_end_with_the_next_assignment() {
    let bench = Bench::start("plan_overrides").await;
    let (plans, _) = plans(&bench);
    let tenant = tenant(&bench).await;
    let before = plans.of_tenant(tenant.id).await.unwrap();
    assert_eq!((before.plan.as_str(), before.limits), ("standard", Limits::default()));

    create(&plans, "small", seats(3)).await;
    let operators = [ctx(LONG), ctx(LONG)];
    let whys = ["a favour", "no more favours"];
    let overrides = [(seats(9), seats(9)), (Limits::default(), seats(3))];
    for ((operator, why), (overrides, limits)) in operators.iter().zip(whys).zip(overrides) {
        let why = Reason::parse_required(why).unwrap();
        let assigned = plans.assign(operator, tenant.id, &name("small"), overrides, &why).await;
        assert_eq!(assigned.unwrap().limits, limits);
    }

    let unknown = assign(&plans, tenant.id, "none", Limits::default());
    assert_eq!(why(unknown.await), Why::FieldInvalid);
    let nobody = assign(&plans, TenantId::generate(), "small", Limits::default());
    assert_eq!(why(nobody.await), Why::ResourceNotFound);
    let assigned = operators.iter().zip(whys);
    let assigned = assigned.map(|(operator, why)| entry(operator, "tenant.plan", "done", Some(why)));
    let assigned: Vec<_> = assigned.collect();
    for log in [Some(tenant.id), None] {
        let audited = bench.audited(log, tenant.id).await;
        assert_eq!(audited[2..], assigned, "after its creation, {log:?}");
    }
}

#[tokio::test]
async fn a_statement_timeout_is_told_to_the_participants_and_taken_back() {
    let bench = Bench::start("plan_timeout").await;
    let (plans, spread) = plans(&bench);
    let tenant = tenant(&bench).await;
    create(&plans, "strict", timeout_of(500)).await;
    assign(&plans, tenant.id, "strict", Limits::default()).await.unwrap();
    assert_eq!(told(&bench, tenant.id), Some(Some(500)));
    assign(&plans, tenant.id, "strict", timeout_of(900)).await.unwrap();
    assert_eq!(told(&bench, tenant.id), Some(Some(900)));
    assign(&plans, tenant.id, "standard", Limits::default()).await.unwrap();
    assert_eq!(told(&bench, tenant.id), Some(None));
    let calls = bench.fakes.effects().calls["set_limits"];
    spread.to_tenant(&ctx(LONG), tenant.id).await;
    assert_eq!(
        bench.fakes.effects().calls["set_limits"],
        calls,
        "what is kept is not told again"
    );
}

#[tokio::test]
async fn what_a_participant_missed_and_what_a_plan_changed_is_told_in_the_background() {
    let bench = Bench::start("plan_spread").await;
    let (plans, spread) = plans(&bench);
    let tenant = tenant(&bench).await;
    create(&plans, "strict", timeout_of(500)).await;
    bench.fakes.plan("set_limits", Mishap::Fails);
    let assigned = assign(&plans, tenant.id, "strict", Limits::default());
    assigned.await.expect("the plan is recorded all the same");
    assert_eq!(told(&bench, tenant.id), None);
    bench.fakes.heal();

    let stop = CancellationToken::new();
    let running = tokio::spawn({
        let (spread, stop) = (spread.clone(), stop.clone());
        async move { spread.run(stop).await }
    });
    let until_told = async |timeout_ms| {
        while told(&bench, tenant.id) != Some(Some(timeout_ms)) {
            tokio::task::yield_now().await;
        }
    };
    until_told(500).await;
    let change = Change {
        name: name("strict"),
        display_name: None,
        limits: Some(timeout_of(700)),
        etag: None,
    };
    plans.update(&ctx(LONG), change).await.unwrap();
    until_told(700).await;
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn lists_are_paged_by_name() {
    let bench = Bench::start("plan_list").await;
    let (plans, _) = plans(&bench);
    for plan in ["zeta", "alpha"] {
        create(&plans, plan, Limits::default()).await;
    }
    let caller = ctx(LONG);
    let page = plans.list(&caller, 2, "").await.unwrap();
    let names = |page: &Page<Plan>| page.items.iter().map(|plan| plan.name.to_string()).collect::<Vec<_>>();
    assert_eq!(names(&page), ["alpha", "standard"]);
    let rest = plans.list(&caller, 2, &page.next_page_token).await.unwrap();
    assert_eq!(
        (names(&rest), rest.next_page_token.as_str()),
        (vec!["zeta".to_owned()], "")
    );
    let stolen = plans.list(&ctx(LONG), 2, &page.next_page_token).await;
    assert_eq!(why(stolen.map(drop)), Why::PageTokenInvalid);
}

#[tokio::test]
async fn a_tenant_is_created_on_the_plan_that_is_named() {
    let bench = Bench::start("plan_at_creation").await;
    let (plans, _) = plans(&bench);
    let bounded = Limits {
        concurrent_transactions: Some(3),
        ..timeout_of(700)
    };
    create(&plans, "gold", bounded).await;
    let request = Some(IdempotencyKey::generate());
    let on_gold = |slug: &str| crate::tenant::NewTenant {
        plan: name("gold"),
        request,
        ..new_tenant(slug)
    };
    let created = bench.tenants.create(&ctx(LONG), on_gold("acme")).await.unwrap();
    assert_eq!(plans.of_tenant(created.id).await.unwrap().plan, name("gold"));
    assert_eq!(told(&bench, created.id), Some(Some(700)));
    let home = directory::store::find(&bench.pool, created.id, ServiceName::Crm)
        .await
        .unwrap();
    assert_eq!(home.transactions_max, Some(3));

    // An override holds instead, and nothing is said where the plan says nothing.
    let overrides = Limits {
        concurrent_transactions: Some(5),
        ..Limits::default()
    };
    assign(&plans, created.id, "gold", overrides).await.unwrap();
    let most = async || {
        let home = directory::store::find(&bench.pool, created.id, ServiceName::Crm).await;
        home.unwrap().transactions_max
    };
    assert_eq!(most().await, Some(5));
    assign(&plans, created.id, "standard", Limits::default()).await.unwrap();
    assert_eq!(most().await, None);

    let unknown = crate::tenant::NewTenant {
        plan: name("platinum"),
        ..new_tenant("other")
    };
    let refused = bench.tenants.create(&ctx(LONG), unknown).await.unwrap_err();
    let failure = Failure::from(refused);
    assert_eq!(
        (failure.reason(), failure.violations()[0].field.as_str()),
        (Why::FieldInvalid, "plan")
    );
    let named = "SELECT count(*) FROM tenant.tenants WHERE slug = 'other'";
    assert_eq!(bench.count(named).await, 0);
}

#[tokio::test]
async fn nothing_is_looked_up_to_be_told_where_the_plan_of_a_new_tenant_has_no_timeout() {
    let bench = Bench::start("plan_silent").await;
    let (plans, _) = plans(&bench);
    create(&plans, "gold", timeout_of(700)).await;
    let log = Log::listen("sqlx::query", Level::TRACE);
    // How `take` begins.
    let taken = || {
        let entries = log.take();
        let summaries = entries.iter().filter_map(|entry| entry.field("summary"));
        let taken = summaries.filter(|summary| summary.starts_with("UPDATE tenant.homes SET limits_order_id"));
        taken.count()
    };
    tenant(&bench).await;
    assert_eq!(taken(), 0);
    // The control: a home is told, and then asked for once more.
    let on_gold = crate::tenant::NewTenant {
        plan: name("gold"),
        ..new_tenant("other")
    };
    bench.tenants.create(&ctx(LONG), on_gold).await.unwrap();
    assert_eq!(taken(), 2);
}

#[tokio::test]
async fn a_plan_that_is_given_while_its_tenant_is_provisioned_is_told_when_that_is_done() {
    let bench = Bench::start("plan_meanwhile").await;
    let (plans, _) = plans(&bench);
    create(&plans, "gold", timeout_of(700)).await;
    bench.fakes.plan("prepare", Mishap::HangsBefore);
    let process = bench.process().await;
    let _call = process.create("acme");
    bench.fakes.hanging().await;
    let id: uuid::Uuid = sqlx::query_scalar("SELECT tenant_id FROM tenant.tenants")
        .fetch_one(&bench.superuser)
        .await
        .unwrap();
    let id = TenantId::from_uuid(id);
    assign(&plans, id, "gold", Limits::default()).await.unwrap();
    assert_eq!(told(&bench, id), None, "it has no home yet");
    process.kill();
    bench.fakes.heal();
    bench.let_time_pass().await;
    assert_eq!(bench.settled("acme").await.id, id);
    assert_eq!(told(&bench, id), Some(Some(700)));
}

/// Who changes the plan finds no home to tell before the last record is there, so that record waits for the change.
#[tokio::test]
async fn a_timeout_that_its_plan_is_given_during_the_last_record_is_told_when_that_is_done() {
    let bench = Bench::start("plan_changing").await;
    let (plans, _) = plans(&bench);
    create(&plans, "gold", seats(5)).await;
    bench.fakes.plan("prepare", Mishap::HangsBefore);
    let process = bench.process().await;
    let _call = process.create("acme");
    bench.fakes.hanging().await;
    let id: uuid::Uuid = sqlx::query_scalar("SELECT tenant_id FROM tenant.tenants")
        .fetch_one(&bench.superuser)
        .await
        .unwrap();
    let id = TenantId::from_uuid(id);
    assign(&plans, id, "gold", Limits::default()).await.unwrap();
    process.kill();
    bench.fakes.heal();
    bench.let_time_pass().await;

    // As `update` does.
    let mut changing = bench.pool.begin().await.unwrap();
    store::lock(&mut changing, &name("gold")).await.unwrap();
    let change = Change {
        name: name("gold"),
        display_name: None,
        limits: Some(timeout_of(700)),
        etag: None,
    };
    store::update(&mut changing, &change).await.unwrap();
    let waiting = "SELECT count(*) FROM pg_stat_activity
                   WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let changed = async {
        let met = async {
            while bench.count(waiting).await == 0 {
                tokio::task::yield_now().await;
            }
        };
        timeout(LONG, met).await.expect("the record waits");
        changing.commit().await.unwrap();
    };
    let (tenant, ()) = tokio::join!(bench.settled("acme"), changed);
    assert_eq!((tenant.id, told(&bench, id)), (id, Some(Some(700))));
}

#[tokio::test]
async fn a_tenant_is_created_although_its_timeout_cannot_be_told() {
    let bench = Bench::start("plan_untold").await;
    let (plans, spread) = plans(&bench);
    create(&plans, "gold", timeout_of(700)).await;
    bench.fakes.plan("set_limits", Mishap::Fails);
    let on_gold = crate::tenant::NewTenant {
        plan: name("gold"),
        ..new_tenant("acme")
    };
    let created = bench.tenants.create(&ctx(LONG), on_gold).await.unwrap();
    assert_eq!(told(&bench, created.id), None);
    bench.fakes.heal();
    // It is due still.
    spread.to_tenant(&ctx(LONG), created.id).await;
    assert_eq!(told(&bench, created.id), Some(Some(700)));
}

#[tokio::test]
async fn the_creation_of_a_tenant_does_not_wait_for_a_participant_that_hangs() {
    let bench = Bench::start("plan_hangs").await;
    let (plans, spread) = plans(&bench);
    create(&plans, "gold", timeout_of(700)).await;
    bench.fakes.plan("set_limits", Mishap::HangsBefore);
    let on_gold = crate::tenant::NewTenant {
        plan: name("gold"),
        ..new_tenant("acme")
    };
    let asked = Instant::now();
    let created = bench.tenants.create(&ctx(LONG), on_gold).await.unwrap();
    assert!(asked.elapsed() < HOME_MAX, "{:?}", asked.elapsed());
    assert_eq!((created.state, told(&bench, created.id)), (State::Active, None));
    bench.fakes.heal();
    // It is due still, and nobody holds it.
    spread.to_tenant(&ctx(LONG), created.id).await;
    assert_eq!(told(&bench, created.id), Some(Some(700)));
}

//! What the log says of changes whose requests have no field for why.

use rowhouse_context::Ctx;
use rowhouse_db::paging::PageTokens;
use rowhouse_types::Limits;

use crate::operation::tests::{Audited, Bench, LONG, ctx, entry, new_tenant, server as traits};
use crate::plan::actions::Plans;
use crate::plan::spread::Spread;
use crate::plan::{self, NewPlan, PlanName};
use crate::server;
use crate::tenant::{self, DisplayName};

const WHY: &str = "ticket 4711";

/// Changes a tenant, a server and a plan by every RPC whose request has no field for why.
async fn change_everything(bench: &Bench, ctx: &Ctx) {
    let display_name = DisplayName::parse_required("Another").unwrap();
    let tenant = bench.tenants.create(ctx, new_tenant("acme")).await.unwrap();
    let change = tenant::Change {
        id: tenant.id,
        display_name: display_name.clone(),
        etag: None,
    };
    bench.tenants.update(ctx, change).await.unwrap();

    let server = bench.servers.register(ctx, traits("data2", 10)).await.unwrap();
    let change = server::Change {
        name: server.traits.name,
        address: None,
        labels: None,
        placements: None,
        tenants_max: Some(server::Capacity::parse(7).unwrap()),
        etag: None,
    };
    bench.servers.update(ctx, change).await.unwrap();

    let spread = Spread::new(bench.pool.clone(), bench.peers.clone());
    let plans = Plans::new(bench.pool.clone(), PageTokens::new(&[9; 32]), spread);
    let name: PlanName = "small".parse().unwrap();
    let new = NewPlan {
        name: name.clone(),
        display_name,
        limits: Limits::default(),
    };
    plans.create(ctx, new).await.unwrap();
    let change = plan::Change {
        name: name.clone(),
        display_name: None,
        limits: Some(Limits::default()),
        etag: None,
    };
    plans.update(ctx, change).await.unwrap();
    plans.delete(ctx, &name, None).await.unwrap();
}

#[tokio::test]
async fn a_change_without_a_field_for_why_is_audited_with_the_reason_of_its_metadata() {
    let bench = Bench::start("metadata_reason").await;
    let ctx = ctx(LONG).with_origin(Some(WHY.to_owned()), None);
    change_everything(&bench, &ctx).await;
    let audited: Vec<Audited> = sqlx::query_as(
        "SELECT action, outcome, actor, reason FROM tenant.audit WHERE tenant_id IS NULL ORDER BY audit_id",
    )
    .fetch_all(&bench.superuser)
    .await
    .unwrap();
    let expected = [
        ("tenant.create", "accepted"),
        ("tenant.create", "done"),
        ("tenant.update", "done"),
        ("server.register", "done"),
        ("server.update", "done"),
        ("plan.create", "done"),
        ("plan.update", "done"),
        ("plan.delete", "done"),
    ]
    .map(|(action, outcome)| entry(&ctx, action, outcome, Some(WHY)));
    assert_eq!(audited, expected);
}

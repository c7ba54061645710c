//! The bound of a tenant's plan on its members' calls.

use rowhouse_cache::Cache;
use rowhouse_client::{LimitsClient, Quotas};
use rowhouse_config::Secret;
use rowhouse_context::ServiceName;
use rowhouse_proto::crm::v1::GetContactRequest;
use rowhouse_types::Limits;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::stack::Listener;
use crate::tests::control::{self, Without};
use crate::tests::wire::{Call, Client, Stacked};
use crate::tests::world::{GET, World};

/// Far more calls than pass at one a second, with the credit before the plan is known.
const CALLS: usize = 40;

fn bounded() -> World {
    let mut world = World::new();
    let limits = Limits {
        requests_per_second: Some(1),
        ..Limits::default()
    };
    let nowhere = Cache::connect(&Secret::new("redis://127.0.0.1:1".to_owned()), "none").unwrap();
    let limits = LimitsClient::fixed(limits, nowhere.clone());
    world.quotas = Some(Quotas::new(ServiceName::Crm, limits, nowhere));
    world
}

fn get(token: &str) -> Call {
    let message = GetContactRequest { id: "any".to_owned() };
    Call::new(GET).bearer(token).message(&message)
}

/// How many of [`CALLS`] are refused for the plan.
async fn refused(stack: impl Stacked, call: &Call) -> usize {
    let client = Client::of(stack).await;
    let mut refused = 0;
    for _ in 0..CALLS {
        let answer = client.call(call).await;
        if answer.code == Code::ResourceExhausted {
            answer.assert("over quota", Code::ResourceExhausted, "QUOTA_EXCEEDED");
            let details = answer.status.get_error_details();
            assert_eq!(
                details.quota_failure().unwrap().violations[0].description,
                "requests_per_second: at most 1"
            );
            assert!(details.retry_info().unwrap().retry_delay.is_some());
            refused += 1;
        }
    }
    refused
}

#[tokio::test]
async fn a_members_calls_beyond_the_plan_are_refused_and_an_operators_are_not() {
    let world = bounded();
    assert!(refused(world.public(), &get(&world.member())).await > CALLS / 2);
    let looking = get(&world.operator())
        .with("x-tenant-id", world.tenant.to_string())
        .with("x-reason", "looking");
    assert_eq!(refused(world.public(), &looking).await, 0);
    // The control: without the layer nobody is bounded.
    let without = control::stack(&world, Listener::Public, Without::Quota);
    assert_eq!(refused(without, &get(&world.member())).await, 0);
}

//! The bound on calls at once.

use axum::body::Body;
use rowhouse_proto::crm::v1::GetContactRequest;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::stack::Listener;
use crate::tests::control::{self, Without};
use crate::tests::wire::{Call, Client};
use crate::tests::world::{GET, HEALTH, World};

fn get(world: &World, id: &str) -> Call {
    let message = GetContactRequest { id: id.to_owned() };
    Call::new(GET).bearer(&world.member()).message(&message)
}

fn one_place() -> World {
    let mut world = World::new();
    world.limits.concurrency_max = 1;
    world
}

#[tokio::test]
async fn calls_beyond_the_bound_are_refused_with_advice_and_health_is_not() {
    let world = one_place();
    let client = Client::of(world.public()).await;
    let waiting = async { client.call(&get(&world, "wait")).await };
    let meanwhile = async {
        world.handler.begun.notified().await;
        let answer = client.call(&get(&world, "any")).await;
        answer.assert("second", Code::ResourceExhausted, "OVERLOADED");
        let delay = answer.status.get_error_details().retry_info().unwrap().retry_delay;
        assert!(delay.is_some_and(|delay| !delay.is_zero()));
        client.call(&Call::new(HEALTH)).await.assert("health", Code::Ok, "");
        world.handler.go_on.notify_one();
    };
    let (first, ()) = tokio::join!(waiting, meanwhile);
    first.assert("first", Code::Ok, "");
    client.call(&get(&world, "any")).await.assert("third", Code::Ok, "");
}

/// Who is not known learns of the load, and costs nothing: no signature is verified.
#[tokio::test]
async fn load_is_shed_before_anything_is_checked() {
    let world = one_place();
    let client = Client::of(world.public()).await;
    let waiting = async { client.call(&get(&world, "wait")).await };
    let meanwhile = async {
        world.handler.begun.notified().await;
        let asked = world.asked().len();
        let answer = client.call(&get(&world, "any")).await;
        answer.assert("second", Code::ResourceExhausted, "OVERLOADED");
        assert_eq!(world.asked().len(), asked);
        world.handler.go_on.notify_one();
    };
    tokio::join!(waiting, meanwhile);
}

#[tokio::test]
async fn a_client_that_goes_away_does_not_make_room_for_work_that_goes_on() {
    let world = one_place();
    let stack = world.public();
    let gone = Client::of(stack.clone()).await;
    let client = Client::of(stack).await;
    let call = get(&world, "wait");
    tokio::select! {
        _ = gone.send(call.request(Body::from(call.body.clone()))) => panic!("the handler waits"),
        () = world.handler.begun.notified() => {}
    }
    drop(gone);
    let answer = client.call(&get(&world, "any")).await;
    answer.assert("while it goes on", Code::ResourceExhausted, "OVERLOADED");
    world.handler.go_on.notify_one();
    world.tasks.close();
    world.tasks.wait().await;
    client
        .call(&get(&world, "any"))
        .await
        .assert("afterwards", Code::Ok, "");
}

/// The control: without the layer, everybody is let in.
#[tokio::test]
async fn without_load_shedding_there_is_no_bound() {
    let world = one_place();
    let client = Client::of(control::stack(&world, Listener::Public, Without::LoadShed)).await;
    let waiting = async { client.call(&get(&world, "wait")).await };
    let meanwhile = async {
        world.handler.begun.notified().await;
        client.call(&get(&world, "any")).await.assert("second", Code::Ok, "");
        world.handler.go_on.notify_one();
    };
    tokio::join!(waiting, meanwhile);
}

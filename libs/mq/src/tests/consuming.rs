//! From the queue to the handler.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_message_comes_again_after_a_delay() {
    let mut world = World::new("again").await;
    world.relay();
    let seen = world.consumer(|delivery| match delivery.attempt {
        1 => Err(HandlerError::Retry("not yet".to_owned())),
        _ if delivery.kind == KIND && delivery.request_id.as_str() == "request-1" => Ok(()),
        _ => Err(HandlerError::Park(format!("changed on its way: {delivery:?}"))),
    });
    let id = world.append(KIND).await;
    world
        .until_count("it is handled", "SELECT count(*) FROM test.effects", 1)
        .await;
    assert_eq!(seen.attempts(id), [1, 2]);
    assert_eq!(
        world.count("SELECT count(*) FROM test.attempts").await,
        0,
        "the count is cleared with success"
    );
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn poison_is_parked_within_its_attempts_and_innocents_are_not() {
    let mut world = World::new("poison").await;
    world.relay();
    let poison = world.append(KIND).await;
    let seen = world.consumer(move |delivery| {
        assert!(delivery.id != poison, "this one brings its handler down");
        Ok(())
    });
    for _ in 0..99 {
        world.append(KIND).await;
    }
    world
        .until_count("the innocents are handled", "SELECT count(*) FROM test.effects", 99)
        .await;
    world
        .until_count(
            "the poison is parked",
            "SELECT count(*) FROM test.attempts WHERE parked_at IS NOT NULL AND last_error = 'the handler panicked'",
            1,
        )
        .await;
    assert_eq!(seen.attempts(poison), [1, 2, 3]);
    let parked = parked(&world).await;
    assert_eq!(parked, [poison.to_string()]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_never_be_handled_is_parked_at_once() {
    let mut world = World::new("park").await;
    world.relay();
    let seen = world.consumer(|_| Err(HandlerError::Park("never".to_owned())));
    let id = world.append(KIND).await;
    world
        .until_count(
            "it is parked",
            "SELECT count(*) FROM test.attempts WHERE parked_at IS NOT NULL",
            1,
        )
        .await;
    assert_eq!(seen.attempts(id), [1]);
    assert_eq!(parked(&world).await, [id.to_string()]);
    world.end().await;
}

/// The relay publishes again what it could not delete: the same id, one effect.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_comes_twice_has_one_effect() {
    let mut world = World::new("twice").await;
    world.relay();
    let seen = world.consumer(|_| Ok(()));
    let event = event(KIND);
    for round in 0..3_u32 {
        let mut connection = world.pool.acquire().await.unwrap();
        outbox::append(&mut connection, "test", &event).await.unwrap();
        drop(connection);
        world.wake.notify();
        world
            .until_count("it is published", "SELECT count(*) FROM test.outbox", 0)
            .await;
        world
            .until_count("it is handled", "SELECT count(*) FROM test.effects", 1)
            .await;
        assert!(round < 3);
    }
    let other = world.append(KIND).await;
    until("a later one is handled", async || !seen.attempts(other).is_empty()).await;
    assert_eq!(seen.attempts(event.id), [1]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_a_message_of_the_suite_is_parked() {
    let mut world = World::new("foreign").await;
    world.consumer(|_| Ok(()));
    let channel = world.broker.channel(Purpose::Publish).await.unwrap();
    topology::declare_queue(&channel, &QUEUE).await.unwrap();
    channel
        .basic_publish(
            "".into(),
            QUEUE.name.into(),
            lapin::options::BasicPublishOptions::default(),
            b"{not json",
            lapin::BasicProperties::default(),
        )
        .await
        .unwrap();
    until("it is parked", async || !parked(&world).await.is_empty()).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_is_deleted_is_declared_anew() {
    let mut world = World::new("deleted").await;
    world.relay();
    world.consumer(|_| Ok(()));
    world.append(KIND).await;
    world
        .until_count("the first is handled", "SELECT count(*) FROM test.effects", 1)
        .await;
    let channel = world.broker.channel(Purpose::Publish).await.unwrap();
    channel
        .queue_delete(QUEUE.name.into(), lapin::options::QueueDeleteOptions::default())
        .await
        .unwrap();
    world.append(KIND).await;
    world
        .until_count("the second is handled", "SELECT count(*) FROM test.effects", 2)
        .await;
    world.end().await;
}

/// Ids of the parked messages; they are taken out.
async fn parked(world: &World) -> Vec<String> {
    let channel = world.broker.channel(Purpose::Consume).await.unwrap();
    let name = topology::parking_queue(QUEUE.name);
    let mut ids = Vec::new();
    let mut waited = 0;
    while waited < 50 {
        match channel
            .basic_get(name.as_str().into(), BasicGetOptions { no_ack: true })
            .await
            .unwrap()
        {
            Some(message) => ids.push(
                message
                    .properties
                    .message_id()
                    .as_ref()
                    .map(ToString::to_string)
                    .unwrap_or_default(),
            ),
            None if ids.is_empty() => {
                waited += 1;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            None => break,
        }
    }
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_old_is_forgotten_except_what_is_parked() {
    let world = World::new("prune").await;
    let rows = "
        INSERT INTO test.processed SELECT 'q', gen_random_uuid(), now() - at * interval '1 hour' FROM generate_series(1, 4) at;
        INSERT INTO test.attempts SELECT 'q', gen_random_uuid(), 'k', 1, NULL, NULL, now() - at * interval '1 hour'
        FROM generate_series(1, 4) at;
        INSERT INTO test.attempts SELECT 'q', gen_random_uuid(), 'k', 3, 'e', now(), now() - interval '9 hours';";
    sqlx::raw_sql(rows).execute(&world.pool).await.unwrap();
    let ledger = Ledger::new(world.pool.clone(), "test");
    let age = Duration::from_secs(2 * 3_600 + 1_800);
    assert_eq!(ledger.prune(age).await.unwrap(), 2);
    assert_eq!(world.count("SELECT count(*) FROM test.processed").await, 2);
    assert_eq!(
        world
            .count("SELECT count(*) FROM test.attempts WHERE parked_at IS NULL")
            .await,
        2
    );
    assert_eq!(world.count("SELECT count(*) FROM test.attempts").await, 3);
    world.end().await;
}

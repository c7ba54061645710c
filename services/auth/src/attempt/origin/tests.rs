//! How long a network is refused, and who reads what is known of it.

use futures_util::FutureExt as _;
use futures_util::future::join_all;

use super::*;
use crate::tests::bench::Bench;
use crate::tests::statements::Statements;

/// Long enough for nobody to wait until it is over.
const HOUR: Duration = Duration::from_secs(60 * 60);

#[tokio::test]
async fn a_network_is_refused_until_its_time_is_over() {
    let origins = ClosedOrigins::new();
    let (key, known) = (vec![1], vec![2]);
    for (origin, seconds, refused) in [(b"now", 60, true), (b"old", 0, false)] {
        let until = Instant::now() + Duration::from_secs(seconds);
        let known = RwLock::new(HashSet::from([known.clone()]));
        origins
            .closed
            .insert((Kind::ApiKey, origin.to_vec()), Arc::new(Closed { until, known }))
            .await;
        assert_eq!(origins.admit(Kind::ApiKey, origin, &key).await.is_err(), refused);
    }
    origins.admit(Kind::ApiKey, b"now", &known).await.unwrap();
    origins.admit(Kind::ApiKey, b"another", &key).await.unwrap();
    // Each kind is apart.
    origins.admit(Kind::Link, b"now", &key).await.unwrap();
}

#[tokio::test]
async fn who_closes_a_network_keeps_those_of_others_not_waiting() {
    let origins = ClosedOrigins::new();
    let closing = origins.closing(b"office").await;
    assert!(origins.closing(b"home").now_or_never().is_some());
    // The control: those of the same network wait.
    assert!(origins.closing(b"office").now_or_never().is_none());
    drop(closing);
    assert!(origins.closing(b"office").now_or_never().is_some());
}

/// How often the database is asked for the keys that are known from a network, while these are closed all at once.
async fn reads(bench: &Bench, origins: &[&str]) -> usize {
    let statements = Statements::listen();
    // Each gets as far as it can before any of them has an answer from the database.
    let calls = origins
        .iter()
        .map(|origin| close(&bench.state, Kind::ApiKey, origin.as_bytes().to_vec(), HOUR));
    for closed in join_all(calls).await {
        closed.unwrap();
    }
    let all = statements.take();
    let reads = all
        .iter()
        .filter(|statement| statement.starts_with("SELECT key_hash FROM auth.api_keys"));
    reads.count()
}

#[tokio::test]
async fn of_many_keys_at_once_one_reads_what_is_known_of_their_network() {
    let bench = Bench::start("robot_flood_once").await;
    assert_eq!(reads(&bench, &["office"; 8]).await, 1);
    assert_eq!(reads(&bench, &["office"; 8]).await, 0, "and it is remembered");
    let refused = bench.state.closed_origins.admit(Kind::ApiKey, b"office", &[1]).await;
    assert!(matches!(refused, Err(Error::TooManyAttempts { .. })), "{refused:?}");
    // The control: of each network there is something to be read, and that is seen.
    assert_eq!(reads(&bench, &["first", "second", "third"]).await, 3);
}

//! The cache against a real Redis, and against none.

mod naive;

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use redis::AsyncCommands as _;
use rowhouse_config::Secret;
use rowhouse_devkit::fixture;
use rowhouse_devkit::torture::{Dice, Torture};
use rowhouse_types::TenantId;

use super::{Cache, OPERATION_MAX};
use crate::Key;

const TTL: Duration = Duration::from_secs(60);

fn cache(prefix: &str) -> Cache {
    let url = fixture::servers().unwrap().redis_url();
    Cache::connect(&Secret::new(url), prefix).unwrap()
}

async fn raw() -> redis::aio::MultiplexedConnection {
    let client = redis::Client::open(fixture::servers().unwrap().redis_url()).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

/// One that waits for its answers however long they take.
async fn raw_unbounded() -> redis::aio::MultiplexedConnection {
    let client = redis::Client::open(fixture::servers().unwrap().redis_url()).unwrap();
    let patient = redis::AsyncConnectionConfig::new().set_response_timeout(None);
    client
        .get_multiplexed_async_connection_with_config(&patient)
        .await
        .unwrap()
}

/// How much slower than its bound an operation may be seen: the machine runs other tests too.
const SLACK: Duration = Duration::from_millis(300);

#[tokio::test]
async fn a_value_is_kept_until_it_is_deleted_or_its_life_ends() {
    let cache = cache(&fixture::redis_prefix("kept"));
    let key = Key::tenant(TenantId::generate(), "rights", "user");
    assert_eq!(cache.get::<String>(&key).await, None);
    cache.set(&key, &"value", TTL).await;
    assert_eq!(cache.get::<String>(&key).await.as_deref(), Some("value"));
    cache.delete(&key).await;
    assert_eq!(cache.get::<String>(&key).await, None);

    cache.set(&key, &"value", TTL).await;
    let left: i64 = raw().await.pttl(key.full(&cache.inner.prefix)).await.unwrap();
    assert!((1..=60_000).contains(&left), "{left}");
}

#[tokio::test]
async fn a_value_planted_under_another_key_is_a_miss() {
    let prefix = fixture::redis_prefix("planted");
    let cache = cache(&prefix);
    let (mine, other) = (
        Key::tenant(TenantId::generate(), "rights", "user"),
        Key::tenant(TenantId::generate(), "rights", "user"),
    );
    cache.set(&other, &"theirs", TTL).await;
    let stolen: Vec<u8> = raw().await.get(other.full(&prefix)).await.unwrap();
    let _: () = raw().await.set(mine.full(&prefix), stolen).await.unwrap();
    assert_eq!(cache.get::<String>(&mine).await, None);
    assert_eq!(cache.get::<String>(&other).await.as_deref(), Some("theirs"));
}

#[tokio::test]
async fn a_value_of_another_type_is_a_miss_and_is_overwritten() {
    let prefix = fixture::redis_prefix("type");
    let cache = cache(&prefix);
    let key = Key::platform("keys", "jwks");
    let _: () = raw().await.lpush(key.full(&prefix), "a list").await.unwrap();
    for _ in 0..10 {
        assert_eq!(cache.get::<String>(&key).await, None);
    }
    cache.set(&key, &1, TTL).await;
    assert_eq!(
        cache.get::<i32>(&key).await,
        Some(1),
        "refusals of Redis do not count as its absence"
    );
    assert_eq!(cache.get::<String>(&key).await, None, "another shape is a miss too");
}

#[tokio::test]
async fn an_absent_redis_is_a_miss_at_once() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let cache = Cache::connect(&Secret::new(format!("redis://{closed}/")), "absent").unwrap();
    let key = Key::platform("keys", "jwks");
    let begun = Instant::now();
    for _ in 0..1_000 {
        cache.set(&key, &1, TTL).await;
        assert_eq!(cache.get::<i32>(&key).await, None);
    }
    assert!(begun.elapsed() < OPERATION_MAX * 3 + SLACK, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_redis_that_hangs_costs_a_bounded_wait_and_then_none() {
    // It accepts connections and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("redis://{}/", silent.local_addr().unwrap());
    let cache = Cache::connect(&Secret::new(url), "silent").unwrap();
    let key = Key::platform("keys", "jwks");
    let begun = Instant::now();
    for _ in 0..100 {
        assert_eq!(cache.get::<i32>(&key).await, None);
    }
    // Three waits, and one more for each second that passes meanwhile.
    assert!(begun.elapsed() < OPERATION_MAX * 4 + SLACK, "{:?}", begun.elapsed());
}

/// Tenants whose canaries are read and written, and whose permits are taken.
const CANARIES: usize = 50;
/// Times that each of them does something, in a round.
const TURNS: usize = 90;
/// Of a bucket that never comes to its end in a round.
const PERMITS: u32 = 1_000_000;

/// An operation, and what its answer may be.
enum Operation {
    /// Its owner's name, or nothing.
    Get(Key),
    /// Its owner's name.
    Set(Key),
    /// So many, which no other tenant asks for.
    TakePermits(Key, u32),
    /// A tenant that has so many keys, planted where no bound cuts an answer short, and does nothing else.
    Purge(TenantId, u64),
}

impl Operation {
    /// What tenant number `at` does now. Most read.
    ///
    /// `raw`: a client that waits for every answer.
    async fn choose(
        dice: &mut Dice,
        (cache, raw): (&Cache, &mut redis::aio::MultiplexedConnection),
        keys: &[Key],
        at: usize,
    ) -> Self {
        let key = &keys[at];
        match dice.below(20) {
            0 => {
                let (gone, count) = (TenantId::generate(), dice.below(3) + 1);
                for number in 0..count {
                    let key = Key::tenant(gone, "canary", &number.to_string());
                    let _: () = raw.set(key.full(&cache.inner.prefix), "gone").await.unwrap();
                }
                Self::Purge(gone, u64::try_from(count).unwrap())
            }
            1..4 => Self::Set(key.clone()),
            4..7 => {
                let bucket = Key::tenant(key.owner().unwrap(), "permits", "requests");
                Self::TakePermits(bucket, u32::try_from(at).unwrap() + 1)
            }
            _ => Self::Get(key.clone()),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Get(_) => "get",
            Self::Set(_) => "set",
            Self::TakePermits(..) => "take_permits",
            Self::Purge(..) => "purge",
        }
    }

    /// Whether it had an answer, which is its own then.
    async fn run(&self, cache: &Cache) -> bool {
        match self {
            Self::Get(key) => {
                let value = cache.get::<String>(key).await;
                assert!(value.as_ref().is_none_or(|value| *value == canary(key)), "{value:?}");
                value.is_some()
            }
            Self::Set(key) => {
                cache.set(key, &canary(key), TTL).await;
                true
            }
            Self::TakePermits(bucket, wanted) => {
                let granted = cache.take_permits(bucket, PERMITS, PERMITS, *wanted).await;
                assert!(
                    granted.is_none_or(|granted| granted == *wanted),
                    "{granted:?} of {wanted}"
                );
                granted.is_some()
            }
            Self::Purge(gone, count) => {
                let removed = cache.purge(*gone).await;
                assert!(
                    removed.is_none_or(|removed| removed == *count),
                    "{removed:?} of {count}"
                );
                removed.is_some()
            }
        }
    }
}

fn canary(key: &Key) -> String {
    key.owner().unwrap().to_string()
}

/// T07. Its control is in [`naive`].
#[tokio::test]
async fn answers_never_cross_when_operations_are_dropped() {
    let mut torture = Torture::begin("T07", "dropped operations");
    while let Some(dice) = torture.round() {
        dropped_operations(&mut torture, dice).await;
    }
}

async fn dropped_operations(torture: &mut Torture, mut dice: Dice) {
    let (cache, mut raw) = (cache(&fixture::redis_prefix("dropped")), raw_unbounded().await);
    let keys: Vec<Key> = (0..CANARIES)
        .map(|_| Key::tenant(TenantId::generate(), "canary", "x"))
        .collect();
    for key in &keys {
        cache.set(key, &canary(key), TTL).await;
    }
    let (mut answers, mut dropped) = (BTreeMap::new(), BTreeMap::new());
    for _ in 0..TURNS {
        let mut running = Vec::new();
        for at in 0..keys.len() {
            let operation = Operation::choose(&mut dice, (&cache, &mut raw), &keys, at).await;
            // The moments are spread over the time that one takes.
            let patience = if dice.percent(30) {
                Duration::from_micros(dice.below(900) as u64)
            } else {
                TTL
            };
            running.push((operation, patience));
        }
        let running = running.into_iter().map(|(operation, patience)| {
            let cache = cache.clone();
            tokio::spawn(async move {
                let ran = tokio::time::timeout(patience, operation.run(&cache)).await;
                (operation.name(), ran)
            })
        });
        for operation in running.collect::<Vec<_>>() {
            let (name, ran) = operation.await.unwrap();
            let counted = if ran.is_ok() { &mut answers } else { &mut dropped };
            *counted.entry(name).or_insert(0) += usize::from(ran.unwrap_or(true));
        }
    }
    // Who was purged was another.
    for key in &keys {
        let kept = async {
            loop {
                // Where an answer takes too long there is none; a foreign one is never right.
                if let Some(value) = cache.get::<String>(key).await {
                    return value;
                }
                tokio::task::yield_now().await;
            }
        };
        assert_eq!(tokio::time::timeout(TTL, kept).await, Ok(canary(key)));
    }
    for operation in ["get", "set", "take_permits", "purge"] {
        let counts = [&answers, &dropped].map(|counted| counted.get(operation).copied().unwrap_or(0));
        assert!(counts.iter().all(|count| *count > 0), "{operation}: {counts:?}");
    }
    assert!(answers["get"] > 1_000, "{answers:?}");
    let told = answers.iter().filter(|(name, _)| **name != "set");
    torture.trials(told.map(|(_, count)| count).sum());
    for (name, count) in dropped {
        torture.count(name, count);
    }
}

#[tokio::test]
async fn permits_are_shared_bounded_and_each_tenants_own() {
    let prefix = fixture::redis_prefix("permits");
    let (one, two) = (cache(&prefix), cache(&prefix));
    let key = Key::tenant(TenantId::generate(), "permits", "requests");
    // One permit in 16 minutes, so that none comes while the test runs.
    let take = async |cache: &Cache, wanted| {
        let script = &cache.inner.permits;
        let full = key.full(&prefix);
        let mut call = script.key(&full);
        call.arg(0.001).arg(10).arg(wanted);
        call.invoke_async::<u32>(&mut raw().await).await.unwrap()
    };
    assert_eq!(
        (take(&one, 7).await, take(&two, 7).await, take(&one, 7).await),
        (7, 3, 0)
    );
    let other = Key::tenant(TenantId::generate(), "permits", "requests");
    assert_eq!(two.take_permits(&other, 1, 10, 4).await, Some(4));
    let left: i64 = raw().await.pttl(other.full(&prefix)).await.unwrap();
    assert!((1..=11_000).contains(&left), "{left}");
}

#[tokio::test]
async fn a_bucket_fills_at_its_rate() {
    let prefix = fixture::redis_prefix("permits_rate");
    let cache = cache(&prefix);
    let key = Key::tenant(TenantId::generate(), "permits", "requests");
    assert_eq!(cache.take_permits(&key, 10, 10, 10).await, Some(10));
    // As if it had been asked half a second earlier.
    let at_ms: i64 = raw().await.hget(key.full(&prefix), "at_ms").await.unwrap();
    let _: () = raw().await.hset(key.full(&prefix), "at_ms", at_ms - 500).await.unwrap();
    let granted = cache.take_permits(&key, 10, 10, 10).await.unwrap();
    assert!(granted >= 5, "{granted}");
}

#[tokio::test]
async fn permits_are_nobodys_where_redis_is_away_or_holds_something_else() {
    let nowhere = Cache::connect(&Secret::new("redis://127.0.0.1:1".to_owned()), "p").unwrap();
    let key = Key::tenant(TenantId::generate(), "permits", "requests");
    assert_eq!(nowhere.take_permits(&key, 1, 1, 1).await, None);
    let prefix = fixture::redis_prefix("permits_type");
    let _: () = raw().await.set(key.full(&prefix), "a text").await.unwrap();
    assert_eq!(cache(&prefix).take_permits(&key, 1, 1, 1).await, None);
}

#[tokio::test]
async fn a_purge_takes_every_key_of_one_tenant_and_no_other() {
    // A prefix with signs that a glob reads: unescaped, it would match nothing, or the neighbour's.
    let prefix = format!("{}[a]*", fixture::redis_prefix("purge"));
    let (here, beside) = (cache(&prefix), cache(&prefix.replace("[a]*", "a-other")));
    let (gone, stays) = (TenantId::generate(), TenantId::generate());
    // More than one step over the keys looks at.
    for number in 0..600 {
        here.set(&Key::tenant(gone, "rights", &number.to_string()), &number, TTL)
            .await;
    }
    let kept = [
        (&here, Key::tenant(stays, "rights", &format!("{gone}:rights:0"))),
        (&here, Key::platform("keys", "jwks")),
        (&beside, Key::tenant(gone, "rights", "0")),
    ];
    for (cache, key) in &kept {
        cache.set(key, &"kept", TTL).await;
    }
    assert_eq!(here.purge(gone).await, Some(600));
    assert_eq!(here.get::<i32>(&Key::tenant(gone, "rights", "0")).await, None);
    for (cache, key) in &kept {
        assert_eq!(cache.get::<String>(key).await.as_deref(), Some("kept"), "{key:?}");
    }
    assert_eq!(here.purge(gone).await, Some(0), "again");
    let nowhere = Cache::connect(&Secret::new("redis://127.0.0.1:1".to_owned()), "none").unwrap();
    assert_eq!(
        nowhere.purge(gone).await,
        None,
        "without Redis nothing is said to be removed"
    );
}

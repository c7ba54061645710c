//! A change is acknowledged only when nobody can honour the old rights, whatever the order of events.

use std::sync::Arc;
use std::time::Duration;

use rowhouse_types::UserId;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::error::Error;
use crate::rights::actions::renew_lease;
use crate::rights::{LEASE, Renewal, Subject, Version, bump, clock, store};
use crate::state::State;
use crate::tests::bench::{Bench, LONG, anonymous, within};

/// Verifying processes of the torture.
const HOLDERS: usize = 6;

/// Changes of the torture.
const CHANGES: usize = 40;

async fn change(state: &State) -> Version {
    let mut tx = state.begin().await.unwrap();
    let version = bump(&mut tx, &[Subject::User(UserId::generate())]).await.unwrap();
    tx.commit().await.unwrap();
    version
}

fn renewal(confirmed: Version) -> Renewal {
    Renewal {
        instance: Uuid::now_v7(),
        service: "crm",
        confirmed,
        wait: Duration::ZERO,
    }
}

async fn renew(state: &State, renewal: &Renewal) -> Version {
    renew_lease(&anonymous(), state, renewal).await.unwrap().version
}

/// What every live lease has confirmed.
async fn floor(bench: &Bench) -> Version {
    store::floor(&mut bench.state.connection().await.unwrap())
        .await
        .unwrap()
}

#[tokio::test]
async fn without_leases_nobody_is_waited_for() {
    let bench = Bench::start("ack_none").await;
    let version = change(&bench.state).await;
    bench.state.clock.acknowledge(&anonymous(), version).await.unwrap();
}

#[tokio::test]
async fn a_live_lease_is_waited_for_until_it_confirms() {
    let bench = Bench::start("ack_confirm").await;
    let mut holder = renewal(Version(0));
    holder.confirmed = renew(&bench.state, &holder).await;
    renew(&bench.state, &holder).await;
    let version = change(&bench.state).await;
    // So long that only the confirmation can end the wait.
    bench
        .execute("UPDATE auth.leases SET expires_at = now() + interval '1 hour'")
        .await;
    assert!(floor(&bench).await < version, "it must not be acknowledged yet");
    let state = bench.state.clone();
    let waiting = tokio::spawn(async move { state.clock.acknowledge(&anonymous(), version).await });
    holder.confirmed = version;
    renew(&bench.state, &holder).await;
    waiting.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_confirmation_in_another_process_is_seen() {
    let bench = Bench::start("ack_replica").await;
    let replica = bench.replica().await;
    let mut holder = renewal(Version(1));
    renew(&replica, &holder).await;
    let version = change(&bench.state).await;
    bench
        .execute("UPDATE auth.leases SET expires_at = now() + interval '1 hour'")
        .await;
    let state = bench.state.clone();
    let waiting = tokio::spawn(async move { state.clock.acknowledge(&anonymous(), version).await });
    holder.confirmed = version;
    renew(&replica, &holder).await;
    waiting.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_lease_that_runs_out_is_not_waited_for_any_longer() {
    let bench = Bench::start("ack_expired").await;
    renew(&bench.state, &renewal(Version(1))).await;
    let version = change(&bench.state).await;
    let began = Instant::now();
    bench.state.clock.acknowledge(&anonymous(), version).await.unwrap();
    assert!(began.elapsed() <= LEASE + LONG / 4, "{:?}", began.elapsed());
    let live = "SELECT count(*) FROM auth.leases WHERE expires_at > clock_timestamp()";
    assert_eq!(bench.count(live).await, 0, "it was waited for as long as it lasted");
}

#[tokio::test]
async fn who_cannot_wait_is_told_so_and_the_change_stands() {
    let bench = Bench::start("ack_deadline").await;
    renew(&bench.state, &renewal(Version(1))).await;
    bench
        .execute("UPDATE auth.leases SET expires_at = now() + interval '1 hour'")
        .await;
    let version = change(&bench.state).await;
    let hurried = within(rowhouse_context::Principal::Anonymous, None, Duration::from_millis(50));
    let told = bench.state.clock.acknowledge(&hurried, version).await;
    assert!(matches!(told, Err(Error::DeadlineExceeded)));
    assert_eq!(bench.count("SELECT version FROM auth.rights_clock").await, version.0);
}

#[tokio::test]
async fn a_renewal_waits_for_a_change_that_is_being_made_and_then_tells_it() {
    let bench = Bench::start("order_change_first").await;
    let mut tx = bench.state.begin().await.unwrap();
    let version = bump(&mut tx, &[Subject::User(UserId::generate())]).await.unwrap();
    let state = bench.state.clone();
    let renewing = tokio::spawn(async move { renew(&state, &renewal(Version(1))).await });
    bench.until_somebody_waits().await;
    assert_eq!(
        bench.count("SELECT count(*) FROM auth.leases").await,
        0,
        "no lease came into being meanwhile"
    );
    tx.commit().await.unwrap();
    assert_eq!(renewing.await.unwrap(), version);
}

/// The control: without FOR SHARE the renewal does not wait, and a lease comes into being on the old version behind the
/// back of the change.
#[tokio::test]
async fn without_the_row_lock_a_renewal_slips_through() {
    let bench = Bench::start("order_control").await;
    let mut tx = bench.state.begin().await.unwrap();
    let version = bump(&mut tx, &[Subject::User(UserId::generate())]).await.unwrap();
    let extend = crate::rights::STATEMENTS
        .iter()
        .find(|sql| sql.contains("FOR SHARE"))
        .unwrap();
    let unguarded = extend.replace(" FOR SHARE", "");
    let told: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(unguarded))
        .bind(Uuid::now_v7())
        .bind("crm")
        .bind(1_i64)
        .bind(LEASE.as_secs_f64())
        .fetch_one(&bench.superuser)
        .await
        .unwrap();
    assert!(told < version.0, "the renewal knows nothing of the change");
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn a_change_waits_for_a_renewal_that_is_being_made_and_then_sees_its_lease() {
    let bench = Bench::start("order_renewal_first").await;
    let mut tx = bench.state.begin().await.unwrap();
    store::extend(&mut tx, &renewal(Version(1))).await.unwrap();
    let state = bench.state.clone();
    let changing = tokio::spawn(async move { change(&state).await });
    bench.until_somebody_waits().await;
    tx.commit().await.unwrap();
    let version = changing.await.unwrap();
    assert!(floor(&bench).await < version, "the lease is seen");
}

/// What one holder believes, as a verifying process would: until when it may trust its cache, and which version that
/// cache is of.
#[derive(Debug)]
struct Belief {
    until: Instant,
    version: Version,
}

async fn hold(state: Arc<State>, belief: Arc<std::sync::Mutex<Belief>>, stop: CancellationToken) {
    let mut holder = renewal(Version(0));
    holder.wait = Duration::from_millis(50);
    while !stop.is_cancelled() {
        let asked = Instant::now();
        let news = renew_lease(&anonymous(), &state, &holder).await.unwrap();
        let mut belief = belief.lock().unwrap();
        belief.version = news.version;
        belief.until = asked + LEASE;
        holder.confirmed = news.version;
    }
}

#[tokio::test]
async fn at_every_acknowledgement_no_holder_trusts_an_older_version() {
    let bench = Bench::start("protocol_torture").await;
    let replicas = [bench.state.clone(), bench.replica().await];
    let stop = CancellationToken::new();
    let watching: Vec<_> = replicas
        .iter()
        .map(|state| tokio::spawn(clock::watch(state.clone(), stop.clone())))
        .collect();
    let mut beliefs = Vec::new();
    let mut holding = Vec::new();
    for n in 0..HOLDERS {
        let belief = Arc::new(std::sync::Mutex::new(Belief {
            until: Instant::now(),
            version: Version(0),
        }));
        beliefs.push(belief.clone());
        holding.push(tokio::spawn(hold(
            replicas[n % replicas.len()].clone(),
            belief,
            stop.clone(),
        )));
    }
    for n in 0..CHANGES {
        let state = &replicas[n % replicas.len()];
        let version = change(state).await;
        state.clock.acknowledge(&anonymous(), version).await.unwrap();
        let acknowledged = Instant::now();
        for belief in &beliefs {
            let belief = belief.lock().unwrap();
            let trusts_older = belief.version < version && belief.until > acknowledged;
            assert!(!trusts_older, "{version:?} was acknowledged, but {belief:?}");
        }
    }
    stop.cancel();
    for task in holding.into_iter().chain(watching) {
        task.await.unwrap();
    }
}

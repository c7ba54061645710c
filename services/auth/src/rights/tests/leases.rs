//! Leases, long polls, and what is told of changes.

use std::sync::Arc;
use std::time::Duration;

use rowhouse_types::{SessionId, TenantId, UserId};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::housekeeping;
use crate::rights::actions::renew_lease;
use crate::rights::{CHANGES_MAX, News, Renewal, Subject, Version, WAIT_MAX, bump, clock};
use crate::state::State;
use crate::tests::bench::{Bench, PASSWORD, anonymous};

fn renewal(confirmed: Version, wait: Duration) -> Renewal {
    Renewal {
        instance: Uuid::now_v7(),
        service: "crm",
        confirmed,
        wait,
    }
}

async fn renew(state: &State, confirmed: Version) -> News {
    renew_lease(&anonymous(), state, &renewal(confirmed, Duration::ZERO))
        .await
        .unwrap()
}

async fn change(state: &State, subjects: &[Subject]) -> Version {
    let mut tx = state.begin().await.unwrap();
    let version = bump(&mut tx, subjects).await.unwrap();
    tx.commit().await.unwrap();
    version
}

/// Begins a long poll and returns once its lease is in the database, so that it is really waiting.
async fn poll(bench: &Bench, state: Arc<State>, confirmed: Version) -> JoinHandle<News> {
    // Longer than any test, so that only news can end it.
    let renewal = renewal(confirmed, Duration::from_secs(60));
    let leases = format!(
        "SELECT count(*) FROM auth.leases WHERE instance_id = '{}'",
        renewal.instance
    );
    let polling = tokio::spawn(async move { renew_lease(&anonymous(), &state, &renewal).await.unwrap() });
    while bench.count(&leases).await == 0 {
        tokio::task::yield_now().await;
    }
    polling
}

#[tokio::test]
async fn a_new_instance_is_told_at_once_to_drop_everything() {
    let bench = Bench::start("lease_new").await;
    let news = renew_lease(&anonymous(), &bench.state, &renewal(Version(0), WAIT_MAX))
        .await
        .unwrap();
    assert_eq!(
        news,
        News {
            version: Version(1),
            subjects: Vec::new(),
            drop_all: true
        }
    );
}

#[tokio::test]
async fn changes_are_told_by_subject_each_once() {
    let bench = Bench::start("lease_subjects").await;
    let (user, session) = (UserId::generate(), SessionId::generate());
    let tenant = TenantId::generate();
    let before = renew(&bench.state, Version(0)).await.version;
    for subjects in [
        [Subject::User(user), Subject::Session(session)],
        [Subject::User(user), Subject::Tenant(tenant)],
    ] {
        change(&bench.state, &subjects).await;
    }
    let news = renew(&bench.state, before).await;
    let mut expected = [user.to_string(), session.to_string(), tenant.to_string()];
    expected.sort();
    assert_eq!((news.version, news.drop_all), (Version(before.0 + 2), false));
    assert_eq!(news.subjects, expected);
    let quiet = renew(&bench.state, news.version).await;
    assert_eq!(
        quiet,
        News {
            version: news.version,
            subjects: Vec::new(),
            drop_all: false
        }
    );
}

#[tokio::test]
async fn who_is_too_far_behind_or_ahead_drops_everything() {
    let bench = Bench::start("lease_behind").await;
    let first = change(&bench.state, &[Subject::User(UserId::generate())]).await;
    change(&bench.state, &[Subject::User(UserId::generate())]).await;
    bench.execute("DELETE FROM auth.right_changes WHERE version = 3").await;
    assert!(renew(&bench.state, first).await.drop_all, "a change is no longer known");
    assert!(
        renew(&bench.state, Version(99)).await.drop_all,
        "the clock was set back"
    );
    bench
        .execute(&format!(
            "INSERT INTO auth.right_changes SELECT n, ARRAY['x'] FROM generate_series(4, {}) AS n; \
             UPDATE auth.rights_clock SET version = {}",
            CHANGES_MAX + 4,
            CHANGES_MAX + 4
        ))
        .await;
    let told = renew(&bench.state, Version(4)).await;
    assert!(!told.drop_all && told.subjects == ["x"], "as many as are told");
    assert!(renew(&bench.state, Version(3)).await.drop_all, "one more");
}

#[tokio::test]
async fn a_long_poll_wakes_on_a_change_in_its_process() {
    let bench = Bench::start("lease_poll").await;
    let now = renew(&bench.state, Version(0)).await.version;
    let polling = poll(&bench, bench.state.clone(), now).await;
    let user = UserId::generate();
    let version = change(&bench.state, &[Subject::User(user)]).await;
    bench.state.clock.publish(version);
    let news = polling.await.unwrap();
    assert_eq!((news.version, news.subjects), (version, vec![user.to_string()]));
}

#[tokio::test]
async fn a_long_poll_wakes_on_a_change_in_another_process() {
    let bench = Bench::start("lease_replica").await;
    let replica = bench.replica().await;
    let stop = CancellationToken::new();
    let watching = tokio::spawn(clock::watch(replica.clone(), stop.clone()));
    let now = renew(&bench.state, Version(0)).await.version;
    let polling = poll(&bench, replica, now).await;
    let version = change(&bench.state, &[Subject::User(UserId::generate())]).await;
    assert_eq!(polling.await.unwrap().version, version);
    stop.cancel();
    watching.await.unwrap();
}

#[tokio::test]
async fn nobody_confirms_what_is_not_there_yet_or_takes_a_confirmation_back() {
    let bench = Bench::start("lease_confirm").await;
    let mut renewal = renewal(Version(50), Duration::ZERO);
    renew_lease(&anonymous(), &bench.state, &renewal).await.unwrap();
    let confirmed = "SELECT confirmed_version FROM auth.leases";
    assert_eq!(bench.count(confirmed).await, 1);
    let version = change(&bench.state, &[Subject::User(UserId::generate())]).await;
    for confirms in [version, Version(0)] {
        renewal.confirmed = confirms;
        renew_lease(&anonymous(), &bench.state, &renewal).await.unwrap();
        assert_eq!(bench.count(confirmed).await, version.0);
    }
}

#[tokio::test]
async fn old_rows_go_and_young_ones_stay() {
    let bench = Bench::start("lease_tidy").await;
    for _ in 0..3 {
        change(&bench.state, &[Subject::User(UserId::generate())]).await;
        renew(&bench.state, Version(1)).await;
    }
    bench
        .execute(
            "UPDATE auth.right_changes SET created_at = now() - interval '2 hours' WHERE version = 2; \
             UPDATE auth.rights_clock SET version = 20000; \
             UPDATE auth.leases SET expires_at = now() - interval '2 minutes' \
             WHERE instance_id = (SELECT min(instance_id::text)::uuid FROM auth.leases)",
        )
        .await;
    housekeeping::tidy(&bench.state).await.unwrap();
    assert_eq!(bench.count("SELECT count(*) FROM auth.right_changes").await, 2);
    assert_eq!(bench.count("SELECT count(*) FROM auth.leases").await, 2);
}

#[tokio::test]
async fn a_backlog_of_changes_goes_a_part_at_a_time() {
    let bench = Bench::start("lease_backlog").await;
    bench
        .execute(
            "INSERT INTO auth.right_changes (version, subjects, created_at) \
             SELECT 20000 + number, '{}', now() - interval '2 hours' FROM generate_series(1, 10001) AS number; \
             UPDATE auth.rights_clock SET version = 50000",
        )
        .await;
    let old = "SELECT count(*) FROM auth.right_changes WHERE version > 20000";
    for left in [1, 0] {
        housekeeping::tidy(&bench.state).await.unwrap();
        assert_eq!(bench.count(old).await, left);
    }
}

#[tokio::test]
async fn expired_sessions_and_requests_go_with_all_that_hangs_on_them() {
    let bench = Bench::start("tidy_sessions").await;
    let house = bench.house("acme").await;
    for _ in 0..2 {
        bench.login(&house.email, PASSWORD, None).await.unwrap();
    }
    bench
        .execute(
            "UPDATE auth.sessions SET expires_at = now() - interval '2 days' \
             WHERE id = (SELECT min(id::text)::uuid FROM auth.sessions); \
             INSERT INTO auth.requests SELECT id, 'm', id, '', id, now() - interval '1 s' FROM auth.tenants; \
             INSERT INTO auth.requests SELECT id, 'n', id, '', id, now() + interval '1 s' FROM auth.tenants",
        )
        .await;
    housekeeping::tidy(&bench.state).await.unwrap();
    for table in ["sessions", "refresh_tokens", "requests"] {
        assert_eq!(
            bench.count(&format!("SELECT count(*) FROM auth.{table}")).await,
            1,
            "{table}"
        );
    }
}

//! Families of refresh tokens (T12), one rule at a time: no forks, no benign log-outs, nothing stolen stays alive.

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::join_all;
use rowhouse_context::Principal;

use crate::error::Error;
use crate::rights::{Query, Standing};
use crate::session::refresh::refresh;
use crate::session::{IDLE_DAYS, Pair, RefreshToken};
use crate::tenant::Access;
use crate::tests::bench::{Bench, House, PASSWORD, anonymous};

/// Refreshes at once with one token.
const RACERS: usize = 20;

/// Moves the past of all tokens back by more than the grace.
const GRACE_IS_OVER: &str = "UPDATE auth.refresh_tokens SET used_at = used_at - interval '31 s'";

async fn start(name: &str) -> (Bench, House, Pair) {
    let bench = Bench::start(name).await;
    let house = bench.house("acme").await;
    let pair = bench.login(&house.email, PASSWORD, None).await.unwrap();
    (bench, house, pair)
}

async fn use_up(bench: &Bench, token: &RefreshToken) -> Result<Pair, Error> {
    refresh(&anonymous(), &bench.state, token).await
}

async fn standing(bench: &Bench, pair: &Pair) -> Standing {
    let session = pair.session;
    let principal = Principal::Member {
        user: session.user,
        session: session.id,
        tenant: session.tenant.unwrap(),
    };
    bench.rights(Query::of(&principal, None).unwrap()).await.standing
}

async fn live_tokens(bench: &Bench) -> i64 {
    bench
        .count("SELECT count(*) FROM auth.refresh_tokens WHERE used_at IS NULL AND revoked_at IS NULL")
        .await
}

/// When the session ends, and when the token does by which it goes on.
async fn ends(bench: &Bench, pair: &Pair) -> (DateTime<Utc>, DateTime<Utc>) {
    let ends = "SELECT session.expires_at, token.expires_at FROM auth.sessions AS session \
        JOIN auth.refresh_tokens AS token ON token.session_id = session.id \
        WHERE session.id = $1 AND token.used_at IS NULL AND token.revoked_at IS NULL";
    let ends = sqlx::query_as(ends).bind(pair.session.id.uuid());
    ends.fetch_one(&bench.superuser).await.unwrap()
}

/// By the clock that the ends are told by.
async fn now(bench: &Bench) -> DateTime<Utc> {
    let now = sqlx::query_scalar("SELECT clock_timestamp()");
    now.fetch_one(&bench.superuser).await.unwrap()
}

#[tokio::test]
async fn a_family_goes_on_from_token_to_token() {
    let (bench, _, mut pair) = start("refresh_chain").await;
    for _ in 0..3 {
        let next = use_up(&bench, &pair.refresh_token).await.unwrap();
        assert_eq!(next.session, pair.session);
        assert_ne!(next.refresh_token.expose(), pair.refresh_token.expose());
        pair = next;
    }
    assert_eq!(
        (live_tokens(&bench).await, standing(&bench, &pair).await),
        (1, Standing::Good)
    );
}

#[tokio::test]
async fn of_parallel_refreshes_one_result_stays_good_and_nobody_is_logged_out() {
    let (bench, _, pair) = start("refresh_race").await;
    let calls = (0..RACERS).map(|_| {
        let (state, token) = (bench.state.clone(), pair.refresh_token.clone());
        tokio::spawn(async move { refresh(&anonymous(), &state, &token).await })
    });
    let answers = join_all(calls.collect::<Vec<_>>()).await;
    let pairs: Vec<Pair> = answers.into_iter().map(|answer| answer.unwrap().unwrap()).collect();
    assert_eq!(pairs.len(), RACERS, "each was a retry within the grace");
    assert_eq!(live_tokens(&bench).await, 1, "no fork");
    assert_eq!(standing(&bench, &pair).await, Standing::Good);

    let live: Vec<u8> =
        sqlx::query_scalar("SELECT token_hash FROM auth.refresh_tokens WHERE used_at IS NULL AND revoked_at IS NULL")
            .fetch_one(&bench.superuser)
            .await
            .unwrap();
    let good = pairs.iter().find(|pair| pair.refresh_token.hash() == live).unwrap();
    assert!(use_up(&bench, &good.refresh_token).await.is_ok(), "the family goes on");
}

#[tokio::test]
async fn an_answer_that_was_lost_is_given_again() {
    let (bench, _, pair) = start("refresh_lost").await;
    let lost = use_up(&bench, &pair.refresh_token).await.unwrap();
    let again = use_up(&bench, &pair.refresh_token).await.unwrap();
    assert_ne!(lost.refresh_token.expose(), again.refresh_token.expose());
    assert_eq!(
        (live_tokens(&bench).await, standing(&bench, &pair).await),
        (1, Standing::Good)
    );
    assert!(use_up(&bench, &again.refresh_token).await.is_ok());
}

#[tokio::test]
async fn a_lost_answer_that_comes_up_after_all_ends_the_family() {
    let (bench, _, pair) = start("refresh_revoked").await;
    let lost = use_up(&bench, &pair.refresh_token).await.unwrap();
    let again = use_up(&bench, &pair.refresh_token).await.unwrap();
    assert!(matches!(
        use_up(&bench, &lost.refresh_token).await,
        Err(Error::RefreshTokenInvalid)
    ));
    assert_eq!(standing(&bench, &pair).await, Standing::Revoked);
    assert!(matches!(
        use_up(&bench, &again.refresh_token).await,
        Err(Error::RefreshTokenInvalid)
    ));
}

#[tokio::test]
async fn a_token_whose_successor_was_used_ends_the_family_when_replayed() {
    let (bench, _, pair) = start("refresh_replay").await;
    let second = use_up(&bench, &pair.refresh_token).await.unwrap();
    let third = use_up(&bench, &second.refresh_token).await.unwrap();
    assert!(matches!(
        use_up(&bench, &pair.refresh_token).await,
        Err(Error::RefreshTokenInvalid)
    ));
    assert_eq!(standing(&bench, &pair).await, Standing::Revoked);
    assert!(matches!(
        use_up(&bench, &third.refresh_token).await,
        Err(Error::RefreshTokenInvalid)
    ));
    let ended = "SELECT count(*) FROM auth.audit WHERE action = 'session.end' AND after->>'reason' = 'refresh_reuse'";
    assert_eq!(bench.count(ended).await, 1);
}

#[tokio::test]
async fn after_the_grace_a_used_token_ends_the_family() {
    let (bench, _, pair) = start("refresh_grace").await;
    let second = use_up(&bench, &pair.refresh_token).await.unwrap();
    bench.execute(GRACE_IS_OVER).await;
    assert!(matches!(
        use_up(&bench, &pair.refresh_token).await,
        Err(Error::RefreshTokenInvalid)
    ));
    assert!(matches!(
        use_up(&bench, &second.refresh_token).await,
        Err(Error::RefreshTokenInvalid)
    ));
    assert_eq!(standing(&bench, &pair).await, Standing::Revoked);
}

#[tokio::test]
async fn a_token_lasts_as_long_as_one_may_be_idle_and_never_beyond_its_session() {
    let (bench, _, pair) = start("refresh_ends").await;
    let (session_ends, _) = ends(&bench, &pair).await;
    let idle = TimeDelta::days(i64::from(IDLE_DAYS));
    let before = now(&bench).await;
    let second = use_up(&bench, &pair.refresh_token).await.unwrap();
    let after = now(&bench).await;
    let (session, token) = ends(&bench, &pair).await;
    assert_eq!(session, session_ends, "a refresh does not move it");
    assert!((before + idle..=after + idle).contains(&token), "{token}");
    assert!(token < session, "the control: the session has longer to live");

    bench
        .execute("UPDATE auth.sessions SET expires_at = now() + interval '1 day'")
        .await;
    let (session_ends, _) = ends(&bench, &pair).await;
    use_up(&bench, &second.refresh_token).await.unwrap();
    assert_eq!(ends(&bench, &pair).await, (session_ends, session_ends));
    // An answer that was lost and is given again, too.
    use_up(&bench, &second.refresh_token).await.unwrap();
    assert_eq!(ends(&bench, &pair).await, (session_ends, session_ends));
}

#[tokio::test]
async fn an_old_token_is_refused_and_ends_nothing() {
    let (bench, _, pair) = start("refresh_old").await;
    bench
        .execute("UPDATE auth.refresh_tokens SET expires_at = now() - interval '1 s'")
        .await;
    assert!(matches!(
        use_up(&bench, &pair.refresh_token).await,
        Err(Error::RefreshTokenInvalid)
    ));
    assert_eq!(standing(&bench, &pair).await, Standing::Good);
    let unknown = RefreshToken::generate().unwrap();
    assert!(matches!(
        use_up(&bench, &unknown).await,
        Err(Error::RefreshTokenInvalid)
    ));
}

#[tokio::test]
async fn what_the_person_may_not_use_now_is_not_used_up() {
    let (bench, house, pair) = start("refresh_suspended").await;
    bench.set_access(house.tenant, Access::Suspended).await;
    assert!(matches!(
        use_up(&bench, &pair.refresh_token).await,
        Err(Error::TenantSuspended)
    ));
    bench.set_access(house.tenant, Access::Allowed).await;
    assert!(use_up(&bench, &pair.refresh_token).await.is_ok());
}

/// The control: the table itself refuses a fork, whatever the code does.
#[tokio::test]
async fn the_table_holds_one_live_token_per_session() {
    let (bench, _, pair) = start("refresh_table").await;
    let fork = format!(
        "INSERT INTO auth.refresh_tokens (token_hash, session_id, expires_at) VALUES ('\\x00', '{}', now())",
        pair.session.id.uuid()
    );
    let refused = sqlx::raw_sql(sqlx::AssertSqlSafe(fork))
        .execute(&bench.superuser)
        .await
        .unwrap_err();
    assert_eq!(
        refused.as_database_error().unwrap().constraint(),
        Some("refresh_tokens_one_live")
    );
}

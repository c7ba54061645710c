//! What is forgotten of sessions, and when: a little at a time, and never what would show that a token was stolen.

use sqlx::AssertSqlSafe;

use crate::error::Error;
use crate::rights::Standing;
use crate::session::refresh::refresh;
use crate::session::{Pair, RefreshToken, prune};
use crate::tests::bench::{Bench, PASSWORD, anonymous};
use crate::{account_mail, housekeeping};

const SESSIONS: &str = "SELECT count(*) FROM auth.sessions";
const TOKENS: &str = "SELECT count(*) FROM auth.refresh_tokens";

/// A session that was refreshed twice, so that it has three tokens; its first token, and the pair of the last.
async fn start(name: &str) -> (Bench, RefreshToken, Pair) {
    let bench = Bench::start(name).await;
    let house = bench.house("acme").await;
    let mut pair = bench.login(&house.email, PASSWORD, None).await.unwrap();
    let first = pair.refresh_token.clone();
    for _ in 0..2 {
        pair = refresh(&anonymous(), &bench.state, &pair.refresh_token).await.unwrap();
    }
    (bench, first, pair)
}

async fn left(bench: &Bench) -> (i64, i64) {
    (bench.count(SESSIONS).await, bench.count(TOKENS).await)
}

#[tokio::test]
async fn the_tokens_of_a_session_that_is_over_go_before_it_and_a_few_at_a_time() {
    let (bench, ..) = start("prune_few").await;
    bench
        .execute("UPDATE auth.sessions SET expires_at = now() - interval '2 days'")
        .await;
    let mut conn = bench.state.connection().await.unwrap();
    prune(&mut conn, 2).await.unwrap();
    assert_eq!(left(&bench).await, (1, 1));
    prune(&mut conn, 2).await.unwrap();
    assert_eq!(left(&bench).await, (0, 0));
}

#[tokio::test]
async fn a_round_goes_on_while_there_are_more_tokens_than_go_at_once() {
    let (bench, ..) = start("prune_many").await;
    bench
        .execute(
            "INSERT INTO auth.refresh_tokens (token_hash, session_id, expires_at, revoked_at)
             SELECT sha256(n::text::bytea), id, now(), now() FROM auth.sessions, generate_series(1, 10000) AS n;
             UPDATE auth.sessions SET expires_at = now() - interval '2 days'",
        )
        .await;
    housekeeping::tidy(&bench.state).await.unwrap();
    assert_eq!(left(&bench).await, (0, 0));
}

#[tokio::test]
async fn a_token_that_another_replica_is_removing_is_not_waited_for() {
    let (bench, ..) = start("prune_beside").await;
    bench
        .execute("UPDATE auth.sessions SET expires_at = now() - interval '2 days'")
        .await;
    let mut another = bench.superuser.begin().await.unwrap();
    sqlx::raw_sql("SELECT token_hash FROM auth.refresh_tokens WHERE used_at IS NULL FOR UPDATE")
        .execute(&mut *another)
        .await
        .unwrap();
    let mut conn = bench.state.connection().await.unwrap();
    tokio::select! {
        pruned = prune(&mut conn, 10) => assert!(!pruned.unwrap(), "there are no more"),
        () = bench.until_somebody_waits() => panic!("it waits for the other"),
    }
    another.rollback().await.unwrap();
    assert_eq!(left(&bench).await, (1, 1));
}

#[tokio::test]
async fn a_session_or_a_mail_that_somebody_is_ending_is_not_waited_for() {
    let (bench, ..) = start("prune_ending").await;
    account_mail::request_reset(&anonymous(), &bench.state, &"admin@acme.example".parse().unwrap())
        .await
        .unwrap();
    bench
        .execute(
            "DELETE FROM auth.refresh_tokens;
             UPDATE auth.sessions SET expires_at = now() - interval '2 days';
             UPDATE auth.account_mails SET expires_at = now() - interval '2 days'",
        )
        .await;
    let mut ending = bench.superuser.begin().await.unwrap();
    for table in ["sessions", "account_mails"] {
        let held = format!("SELECT FROM auth.{table} FOR NO KEY UPDATE");
        sqlx::raw_sql(AssertSqlSafe(held)).execute(&mut *ending).await.unwrap();
    }
    tokio::select! {
        tidied = housekeeping::tidy(&bench.state) => tidied.unwrap(),
        () = bench.until_somebody_waits() => panic!("it waits for who is ending them"),
    }
    ending.rollback().await.unwrap();
    housekeeping::tidy(&bench.state).await.unwrap();
    assert_eq!(left(&bench).await, (0, 0));
    assert_eq!(bench.count("SELECT count(*) FROM auth.account_mails").await, 0);
}

#[tokio::test]
async fn the_tokens_of_a_session_that_was_ended_go_and_it_stays() {
    let (bench, ..) = start("prune_ended").await;
    let ended =
        |ago: &str| format!("UPDATE auth.sessions SET revoked_at = now() - interval '{ago}', revoke_reason = 'logout'");
    bench.execute(&ended("1 hour")).await;
    housekeeping::tidy(&bench.state).await.unwrap();
    assert_eq!(left(&bench).await, (1, 3));
    bench.execute(&ended("24 hours 30 minutes")).await;
    housekeeping::tidy(&bench.state).await.unwrap();
    assert_eq!(left(&bench).await, (1, 0));
}

/// Each round would read all that were ended in another day, to find no tokens.
#[tokio::test]
async fn tokens_that_were_missed_in_the_25th_hour_are_not_looked_for_and_go_with_their_session() {
    let (bench, ..) = start("prune_missed").await;
    bench
        .execute("UPDATE auth.sessions SET revoked_at = now() - interval '26 hours', revoke_reason = 'logout'")
        .await;
    housekeeping::tidy(&bench.state).await.unwrap();
    assert_eq!(left(&bench).await, (1, 3));
    bench
        .execute("UPDATE auth.sessions SET expires_at = now() - interval '25 hours'")
        .await;
    housekeeping::tidy(&bench.state).await.unwrap();
    assert_eq!(left(&bench).await, (0, 0));
}

#[tokio::test]
async fn a_token_that_was_used_long_ago_ends_its_family_all_the_same() {
    let (bench, first, last) = start("prune_family").await;
    bench
        .execute(
            "UPDATE auth.refresh_tokens SET used_at = used_at - interval '40 days', expires_at = now() - interval '26 days'
             WHERE used_at IS NOT NULL",
        )
        .await;
    housekeeping::tidy(&bench.state).await.unwrap();
    assert_eq!(left(&bench).await, (1, 3));
    assert_eq!(bench.standing(&last).await, Standing::Good);
    let stolen = refresh(&anonymous(), &bench.state, &first).await.map(drop);
    assert!(matches!(stolen, Err(Error::RefreshTokenInvalid)), "{stolen:?}");
    assert_eq!(bench.standing(&last).await, Standing::Revoked);
}

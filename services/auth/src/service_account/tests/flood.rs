//! Keys that are not good are counted by the address that presents them, and good ones are let in all the same.

use std::sync::Arc;

use futures_util::future::join_all;

use super::*;
use crate::state::State;

const OFFICE: &str = "192.0.2.1";
const ELSEWHERE: &str = "198.51.100.7";

/// Presents a key from an address.
async fn present(state: &Arc<State>, address: &str, key: &ApiKey) -> Result<(), Error> {
    let call = ctx(Principal::Anonymous, None).with_origin(None, Some(address.to_owned()));
    keys::exchange(&call, state, key).await.map(drop)
}

async fn invented(state: &Arc<State>, address: &str) -> Result<(), Error> {
    present(state, address, &ApiKey::generate().unwrap()).await
}

fn waits(answer: &Result<(), Error>) -> bool {
    matches!(answer, Err(Error::TooManyAttempts { .. }))
}

/// Presents invented keys until no more are looked for; how many were, of 120 at most.
async fn flood(bench: &Bench, forgets: bool) -> usize {
    for looked_for in 0..120 {
        match invented(&bench.state, OFFICE).await {
            Err(Error::ApiKeyInvalid) => {}
            Err(Error::TooManyAttempts { .. }) => return looked_for,
            other => panic!("{other:?}"),
        }
        if forgets {
            bench.execute("DELETE FROM auth.attempts").await;
        }
    }
    120
}

/// A process that refuses an address for an hour, as after a long flood.
async fn flooded(bench: &Bench, address: &str) -> Arc<State> {
    let state = bench.replica().await;
    assert!(matches!(invented(&state, address).await, Err(Error::ApiKeyInvalid)));
    bench
        .execute("UPDATE auth.attempts SET level = 130, at = now(), blocked_until = now() + interval '1 hour'")
        .await;
    assert!(waits(&invented(&state, address).await));
    state
}

#[tokio::test]
async fn after_many_invented_keys_from_an_address_no_more_are_looked_for() {
    let bench = Bench::start("robot_flood").await;
    let looked_for = flood(&bench, false).await;
    // One is looked for after the free ones; a few leak away meanwhile.
    assert!((101..=105).contains(&looked_for), "{looked_for}");
    let state = flooded(&bench, ELSEWHERE).await;
    // Where they would be looked for, they would not be found.
    bench.execute("ALTER TABLE auth.api_keys RENAME TO hidden").await;
    let answer = invented(&state, ELSEWHERE).await;
    assert!(waits(&answer), "{answer:?}");
    assert!(matches!(invented(&state, "203.0.113.9").await, Err(Error::Fault(_))));
}

/// The control: where counts are forgotten, every key is looked for.
#[tokio::test]
async fn where_bad_keys_are_forgotten_all_are_looked_for() {
    let bench = Bench::start("robot_flood_control").await;
    assert_eq!(flood(&bench, true).await, 120);
}

#[tokio::test]
async fn a_neighbour_in_the_network_is_counted_too_and_another_network_is_not() {
    let bench = Bench::start("robot_flood_six").await;
    let state = flooded(&bench, "2001:db8:1:2::9").await;
    assert!(waits(&invented(&state, "2001:db8:1:2:3:4:5:6").await));
    let other = invented(&state, "2001:db8:1:3::9").await;
    assert!(matches!(other, Err(Error::ApiKeyInvalid)), "{other:?}");
}

#[tokio::test]
async fn nobodys_inventions_stop_a_program_where_it_has_been_or_anywhere_else() {
    let (bench, _, admin) = start("robot_flood_owner").await;
    let (account, _, known) = robot(&bench, &admin, Role::User).await;
    let (listed, gone) = keys::create(&admin, &bench.state, &key_of(account.id, 1))
        .await
        .unwrap();
    let (_, newcomer) = keys::create(&admin, &bench.state, &key_of(account.id, 1))
        .await
        .unwrap();
    for key in [&known, &gone] {
        present(&bench.state, OFFICE, key).await.unwrap();
    }
    keys::revoke(&admin, &bench.state, listed.id).await.unwrap();
    // A process that has just begun knows as much.
    for state in [flooded(&bench, OFFICE).await, bench.replica().await] {
        drop(invented(&state, OFFICE).await);
        present(&state, OFFICE, &known).await.unwrap();
        assert!(
            waits(&invented(&state, OFFICE).await),
            "a good key opens nothing for others"
        );
        assert!(
            waits(&present(&state, OFFICE, &gone).await),
            "one that was revoked is known nowhere"
        );
        // It cannot be told from an invented one there, and is good elsewhere.
        assert!(waits(&present(&state, OFFICE, &newcomer).await));
        present(&state, ELSEWHERE, &newcomer).await.unwrap();
    }
}

#[tokio::test]
async fn log_ins_and_keys_of_an_address_do_not_count_against_each_other() {
    let (bench, house, _) = start("robot_flood_apart").await;
    let state = flooded(&bench, OFFICE).await;
    let attempt = session::Attempt {
        email: house.email.parse().unwrap(),
        password: OfferedPassword::parse(PASSWORD).unwrap(),
        tenant: None,
        second_factor: None,
        device: None,
    };
    let call = ctx(Principal::Anonymous, None).with_origin(None, Some(OFFICE.to_owned()));
    session::actions::login(&call, &state, &attempt).await.unwrap();
}

/// A process to which the database says that it is a minute ago.
async fn behind(bench: &Bench) -> Arc<State> {
    bench
        .execute(
            "CREATE FUNCTION auth.now() RETURNS timestamptz LANGUAGE sql STABLE
                 AS $$ SELECT pg_catalog.now() - interval '1 minute' $$;
             GRANT EXECUTE ON FUNCTION auth.now() TO PUBLIC",
        )
        .await;
    let state = bench.replica().await;
    // All that there can be, at once: one that were opened later would know better.
    let most = state.db.pool().options().get_max_connections();
    for connection in join_all((0..most).map(|_| state.connection())).await {
        let mut connection = connection.unwrap();
        sqlx::raw_sql("SET search_path = auth, pg_catalog")
            .execute(&mut *connection)
            .await
            .unwrap();
    }
    state
}

#[tokio::test]
async fn a_good_key_of_which_nothing_is_left_is_no_invented_one_and_was_not_used() {
    let (bench, _, admin) = start("robot_flood_over").await;
    let (_, _, key) = robot(&bench, &admin, Role::User).await;
    // As in its last second: the database still finds it good, and no token would last.
    let state = behind(&bench).await;
    bench
        .execute("UPDATE auth.api_keys SET expires_at = clock_timestamp()")
        .await;
    let over = present(&state, OFFICE, &key).await;
    assert!(matches!(over, Err(Error::ApiKeyInvalid)), "{over:?}");
    let used = "SELECT count(*) FROM auth.api_keys WHERE used_at IS NOT NULL OR used_from IS NOT NULL";
    assert_eq!(bench.count(used).await, 0);
    let counted = "SELECT count(*) FROM auth.attempts";
    assert_eq!(bench.count(counted).await, 0);
    // The controls: an invented one counts, and with an hour more the good one is used.
    let unknown = invented(&state, OFFICE).await;
    assert!(matches!(unknown, Err(Error::ApiKeyInvalid)), "{unknown:?}");
    assert_eq!(bench.count(counted).await, 1);
    bench
        .execute("UPDATE auth.api_keys SET expires_at = clock_timestamp() + interval '1 hour'")
        .await;
    present(&state, OFFICE, &key).await.unwrap();
    assert_eq!((bench.count(used).await, bench.count(counted).await), (1, 1));
}

//! Strangers from many addresses, each within what one may, have all places at the hasher: owners who are known get in all the
//! same.

use std::sync::Arc;

use super::*;
use crate::identity::Hasher;
use crate::state::State;

const HOME: &str = "198.51.100.7";
const ABROAD: &str = "203.0.113.9";
const ELSEWHERE: &str = "192.0.2.9";

/// Who logs in while strangers have all places, and what came of it.
struct Crowd {
    /// From where the owner has been.
    home: Result<Pair, Error>,
    /// From elsewhere, with the secret of the device.
    device: Result<Pair, Error>,
    /// From elsewhere, without.
    stranger: Result<Pair, Error>,
    /// To an account that there is not, from where the owner has been.
    nobody: Result<Pair, Error>,
}

impl Crowd {
    async fn meet(bench: &Bench, state: &Arc<State>) -> Self {
        let house = bench.house("acme").await;
        let known = login(bench, HOME, &house.email, PASSWORD).await.unwrap();
        let try_from = async |address: &str, email: &str, device: Option<DeviceSecret>| {
            let attempt = session::Attempt {
                email: email.parse().unwrap(),
                password: OfferedPassword::parse(PASSWORD).unwrap(),
                tenant: None,
                second_factor: None,
                device,
            };
            session::actions::login(&from(address), state, &attempt).await
        };
        let strangers = state.hasher.fill();
        let crowd = Self {
            home: try_from(HOME, &house.email, None).await,
            device: try_from(ABROAD, &house.email, known.device).await,
            stranger: try_from(ELSEWHERE, &house.email, None).await,
            nobody: try_from(HOME, "nobody@acme.example", None).await,
        };
        drop(strangers);
        try_from(ELSEWHERE, &house.email, None).await.unwrap();
        crowd
    }
}

fn is_crowded_out(answer: &Result<Pair, Error>) -> bool {
    matches!(answer, Err(Error::Overloaded))
}

#[tokio::test]
async fn owners_who_are_known_get_in_while_strangers_have_all_places() {
    let bench = Bench::start("attempt_crowd").await;
    let crowd = Crowd::meet(&bench, &bench.state.clone()).await;
    assert!(crowd.home.is_ok() && crowd.device.is_ok());
    assert!(is_crowded_out(&crowd.stranger) && is_crowded_out(&crowd.nobody));
    // Who was not heard has not guessed.
    let level = "SELECT round(max(level))::bigint FROM auth.attempts";
    assert_eq!(bench.count(level).await, 0);
}

/// The control: in a process without the reserve owners are crowded out too.
#[tokio::test]
async fn without_the_reserve_owners_are_crowded_out() {
    let bench = Bench::start("attempt_crowd_control").await;
    let mut state = bench.replica().await;
    Arc::get_mut(&mut state).unwrap().hasher = Hasher::without_reserve(4).unwrap();
    let crowd = Crowd::meet(&bench, &state).await;
    assert!(is_crowded_out(&crowd.home) && is_crowded_out(&crowd.device));
}

#[tokio::test]
async fn a_link_gets_in_line_before_strangers() {
    let bench = Bench::start("attempt_crowd_link").await;
    let house = bench.house("acme").await;
    let strangers = bench.state.hasher.fill();
    reset(&bench, ABROAD, &house.email).await;
    drop(strangers);
    login(&bench, ABROAD, &house.email, RESET).await.unwrap();
}

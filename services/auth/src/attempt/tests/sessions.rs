//! Guesses in a session: a thief who has one keeps the owner, in another, from nothing.

use rowhouse_auth_kit::Role;
use rowhouse_types::UserId;

use super::*;
use crate::account::{EmailChange, PasswordChange, email};
use crate::attempt::{begin_own, begin_own_code};
use crate::second_factor::actions as second_factor;
use crate::session::manage::{caller, switch};
use crate::tests::app::{App, wrong};
use crate::tests::bench::House;

const NEW: &str = "battery horse correct";

/// What has to wait waits longer than a test can take.
const NOBODYS_WAIT_ENDS: &str = "UPDATE auth.attempts SET blocked_until = clock_timestamp() + interval '1 hour' \
    WHERE blocked_until > at + interval '0.5 seconds'";

/// As if all sessions went back to one log-in.
const OF_ONE_LOG_IN: &str = "UPDATE auth.sessions SET created_at = '2026-01-01'";

/// An account that a thief has a session of, and the owner another.
struct Stolen {
    bench: Bench,
    house: House,
    thief: Pair,
    owner: Ctx,
}

impl Stolen {
    async fn start(name: &str) -> Self {
        let bench = Bench::start(name).await;
        let house = bench.house("acme").await;
        let thief = bench.login(&house.email, PASSWORD, None).await.unwrap();
        let owner = Bench::ctx_in(&bench.login(&house.email, PASSWORD, None).await.unwrap());
        Self {
            bench,
            house,
            thief,
            owner,
        }
    }

    /// Guesses at the password in a session until that has to wait, and says how many were looked at.
    async fn guess_password(&self, ctx: &Ctx) -> usize {
        let mut looked_at = 0;
        loop {
            match password::change(ctx, &self.bench.state, &to(WRONG)).await {
                Err(Error::Field { .. }) => looked_at += 1,
                Err(Error::TooManyAttempts { .. }) => return looked_at,
                other => panic!("{other:?}"),
            }
            self.bench.execute(NOBODYS_WAIT_ENDS).await;
        }
    }

    /// As [`guess_password`](Self::guess_password), at codes.
    async fn guess_codes(&self, ctx: &Ctx) -> usize {
        let mut counted = 0;
        // Of an account that has a second factor the code is not even looked at, and counted all the same.
        while !waits(&second_factor::confirm(ctx, &self.bench.state, &wrong()).await) {
            counted += 1;
            assert!(counted < 10, "guesses are bounded");
            self.bench.execute(NOBODYS_WAIT_ENDS).await;
        }
        counted
    }

    async fn forget(&self) {
        self.bench.execute("DELETE FROM auth.attempts").await;
    }
}

fn to(current: &str) -> PasswordChange {
    PasswordChange {
        current: OfferedPassword::parse(current).unwrap(),
        new: NewPassword::parse(NEW).unwrap(),
    }
}

fn waits<T>(answer: &Result<T, Error>) -> bool {
    matches!(answer, Err(Error::TooManyAttempts { .. }))
}

#[tokio::test]
async fn who_guesses_in_a_stolen_session_does_not_make_the_owner_wait_in_another() {
    let stolen = Stolen::start("attempt_stolen").await;
    let (bench, owner) = (&stolen.bench, &stolen.owner);
    let app = App::set_up(bench, owner, PASSWORD).await;
    let thief = Bench::ctx_in(&stolen.thief);
    assert_eq!(stolen.guess_password(&thief).await, 6);
    assert_eq!(stolen.guess_codes(&thief).await, 6);

    // The password alone; a code beside it.
    let right = OfferedPassword::parse(PASSWORD).unwrap();
    let elsewhere = EmailChange {
        current: OfferedPassword::parse(PASSWORD).unwrap(),
        new: "ada@globex.example".parse().unwrap(),
        code: Some(app.recovery(0)),
    };
    email::change(owner, &bench.state, &elsewhere).await.unwrap();
    second_factor::renew_codes(owner, &bench.state, &right, &app.recovery(1))
        .await
        .unwrap();
    second_factor::remove(owner, &bench.state, &right, &app.code(1))
        .await
        .unwrap();
    password::change(owner, &bench.state, &to(PASSWORD)).await.unwrap();
    // The thief goes on waiting.
    assert!(waits(&password::change(&thief, &bench.state, &to(WRONG)).await));
}

/// The control: where sessions are not told apart, the owner waits, and that is seen.
#[tokio::test]
async fn where_sessions_are_not_told_apart_the_owner_is_kept_out() {
    let stolen = Stolen::start("attempt_stolen_control").await;
    let (bench, owner) = (&stolen.bench, &stolen.owner);
    let app = App::set_up(bench, owner, PASSWORD).await;
    bench.execute(OF_ONE_LOG_IN).await;
    let thief = Bench::ctx_in(&stolen.thief);
    let right = OfferedPassword::parse(PASSWORD).unwrap();

    assert_eq!(stolen.guess_password(&thief).await, 6);
    assert!(waits(&password::change(owner, &bench.state, &to(PASSWORD)).await));
    stolen.forget().await;
    assert_eq!(stolen.guess_codes(&thief).await, 6);
    assert!(waits(
        &second_factor::remove(owner, &bench.state, &right, &app.code(1)).await
    ));
}

#[tokio::test]
async fn a_session_that_is_opened_from_another_gives_no_further_guesses() {
    let stolen = Stolen::start("attempt_switched").await;
    let (bench, house) = (&stolen.bench, &stolen.house);
    let elsewhere = bench.house("globex").await;
    bench.join(&elsewhere, &house.email, Role::User).await;
    let thief = Bench::ctx_in(&stolen.thief);
    assert_eq!(stolen.guess_password(&thief).await, 6);

    let switched = switch(&thief, &bench.state, elsewhere.tenant).await.unwrap();
    assert_eq!(stolen.guess_password(&Bench::ctx_in(&switched)).await, 0);
    // And from that one, back again.
    let back = switch(&Bench::ctx_in(&switched), &bench.state, house.tenant)
        .await
        .unwrap();
    assert_eq!(stolen.guess_password(&Bench::ctx_in(&back)).await, 0);
    // The control: one that was logged in to, which takes the password, has its own.
    let other = bench
        .login(&house.email, PASSWORD, Some(elsewhere.tenant))
        .await
        .unwrap();
    assert_eq!(stolen.guess_password(&Bench::ctx_in(&other)).await, 6);
}

/// Whoever has stolen many sessions guesses in each of them, once.
#[tokio::test]
async fn all_log_ins_of_an_account_together_are_bounded() {
    let bench = Bench::start("attempt_log_ins").await;
    let house = bench.house("acme").await;
    let other = bench.member(&house, "grace@acme.example", Role::User).await;
    let (mut passwords, mut codes) = (0, 0);
    for _ in 0..60 {
        let thief = another_log_in(&bench, &house, house.admin).await;
        passwords += usize::from(begin_own(&bench.state, thief).await.is_ok());
        codes += usize::from(begin_own_code(&bench.state, thief).await.is_ok());
        bench.execute(NOBODYS_WAIT_ENDS).await;
    }
    // The one after the free ones makes the next wait; one or two leak away meanwhile.
    for counted in [passwords, codes] {
        assert!((51..=53).contains(&counted), "{counted}");
    }
    // Nobody else's account is concerned.
    let colleague = another_log_in(&bench, &house, other).await;
    begin_own(&bench.state, colleague).await.unwrap();
}

async fn another_log_in(bench: &Bench, house: &House, user: UserId) -> (UserId, SessionId) {
    caller(&bench.ctx_of(user, house.tenant).await).unwrap()
}

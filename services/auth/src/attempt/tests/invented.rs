//! Refresh tokens and links that are not good are counted by the address that presents them; and so are, by their link, passwords
//! that are too easy to guess.

use std::sync::Arc;

use super::*;
use crate::account::{PasswordChange, email};
use crate::mail::actions::invitation_mail;
use crate::session::RefreshToken;
use crate::session::refresh::refresh;
use crate::state::State;
use crate::tenant::actions::create_first_administrator;
use crate::tests::bench::{acceptance, founding};
use crate::{invitation, random};

const OFFICE: &str = "192.0.2.1";
const ELSEWHERE: &str = "198.51.100.7";
const EASY: &str = "aaaaaaaaaaaaaaaa";

/// Passwords that are scored before the next has to wait: one after the free ones, and one or two may leak away meanwhile.
const SCORED: std::ops::RangeInclusive<u64> = 21..=23;

/// What can be presented by who is not logged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    RefreshToken,
    Reset,
    Confirmation,
    Invitation,
}

const LINKS: [What; 3] = [What::Reset, What::Confirmation, What::Invitation];

/// Presents an invented one.
async fn invented(state: &Arc<State>, address: &str, what: What) -> Result<(), Error> {
    let call = from(address);
    let token = Token::parse(&random::text().unwrap()).unwrap();
    match what {
        What::RefreshToken => refresh(&call, state, &RefreshToken::generate().unwrap())
            .await
            .map(drop),
        What::Reset => {
            let new = NewPassword::parse(RESET).unwrap();
            password::reset(&call, state, &Reset { token, new }).await
        }
        What::Confirmation => email::confirm(&call, state, &token).await,
        What::Invitation => {
            let acceptance = acceptance(token, PASSWORD);
            invitation::accept(&call, state, &acceptance).await.map(drop)
        }
    }
}

fn is_looked_for(answer: &Result<(), Error>) -> bool {
    matches!(
        answer,
        Err(Error::RefreshTokenInvalid | Error::LinkInvalid | Error::InvitationInvalid)
    )
}

fn has_to_wait(answer: &Result<(), Error>) -> bool {
    matches!(answer, Err(Error::TooManyAttempts { .. }))
}

/// Presents invented ones, of these kinds in turn, until no more are looked for; how many were, of 120 at most.
async fn flood(bench: &Bench, kinds: &[What], forgets: bool) -> usize {
    for looked_for in 0..120 {
        let answer = invented(&bench.state, OFFICE, kinds[looked_for % kinds.len()]).await;
        if has_to_wait(&answer) {
            return looked_for;
        }
        assert!(is_looked_for(&answer), "{answer:?}");
        if forgets {
            bench.execute("DELETE FROM auth.attempts").await;
        }
    }
    120
}

/// A process that refuses what is presented from the office for an hour, as after a long flood.
async fn flooded(bench: &Bench, what: What) -> Arc<State> {
    let state = bench.replica().await;
    assert!(is_looked_for(&invented(&state, OFFICE, what).await));
    bench
        .execute("UPDATE auth.attempts SET level = 130, at = now(), blocked_until = now() + interval '1 hour'")
        .await;
    assert!(has_to_wait(&invented(&state, OFFICE, what).await));
    state
}

#[tokio::test]
async fn after_many_invented_ones_from_an_address_no_more_are_looked_for() {
    let bench = Bench::start("invented_flood").await;
    for kinds in [&[What::RefreshToken][..], &LINKS] {
        let looked_for = flood(&bench, kinds, false).await;
        // One is looked for after the free ones; a few leak away meanwhile.
        assert!((101..=105).contains(&looked_for), "{kinds:?}: {looked_for}");
        bench.execute("DELETE FROM auth.attempts").await;
    }
    for (table, kinds) in [
        ("refresh_tokens", &[What::RefreshToken][..]),
        ("account_mails", &[What::Reset, What::Confirmation]),
        ("invitations", &[What::Invitation]),
    ] {
        bench.execute("DELETE FROM auth.attempts").await;
        let state = flooded(&bench, kinds[0]).await;
        // Where they would be looked for, they would not be found.
        bench
            .execute(&format!("ALTER TABLE auth.{table} RENAME TO hidden"))
            .await;
        for what in kinds {
            let answer = invented(&state, OFFICE, *what).await;
            assert!(has_to_wait(&answer), "{what:?}: {answer:?}");
            let answer = invented(&state, ELSEWHERE, *what).await;
            assert!(matches!(answer, Err(Error::Fault(_))), "{what:?}: {answer:?}");
        }
        bench
            .execute(&format!("ALTER TABLE auth.hidden RENAME TO {table}"))
            .await;
    }
}

/// The control: where counts are forgotten, every one is looked for.
#[tokio::test]
async fn where_they_are_forgotten_all_are_looked_for() {
    let bench = Bench::start("invented_control").await;
    for kinds in [&[What::RefreshToken][..], &LINKS] {
        assert_eq!(flood(&bench, kinds, true).await, 120, "{kinds:?}");
    }
}

async fn use_up(state: &Arc<State>, address: &str, token: &RefreshToken) -> Result<RefreshToken, Error> {
    Ok(refresh(&from(address), state, token).await?.refresh_token)
}

#[tokio::test]
async fn nobodys_inventions_stop_a_session_where_it_has_been_or_anywhere_else() {
    let bench = Bench::start("invented_sessions").await;
    let house = bench.house("acme").await;
    let mut tokens = Vec::new();
    for address in [OFFICE, OFFICE, ELSEWHERE, ELSEWHERE] {
        let pair = login(&bench, address, &house.email, PASSWORD).await.unwrap();
        tokens.push(pair.refresh_token);
    }
    // The second has been used, and the answer was lost; the third was used in the office since.
    use_up(&bench.state, OFFICE, &tokens[1]).await.unwrap();
    let third = use_up(&bench.state, OFFICE, &tokens[2]).await.unwrap();
    // A process that has just begun knows as much.
    let state = flooded(&bench, What::RefreshToken).await;
    for known in [&tokens[0], &tokens[1], &third] {
        let next = use_up(&state, OFFICE, known).await.unwrap();
        // What was handed out there since is let through too.
        use_up(&state, OFFICE, &next).await.unwrap();
    }
    let stranger = use_up(&state, OFFICE, &tokens[3]).await.map(drop);
    assert!(has_to_wait(&stranger), "{stranger:?}");
    use_up(&state, ELSEWHERE, &tokens[3]).await.unwrap();
    assert!(has_to_wait(&invented(&state, OFFICE, What::RefreshToken).await));
    // The kinds are apart.
    assert!(is_looked_for(&invented(&state, OFFICE, What::Reset).await));
}

#[tokio::test]
async fn a_link_waits_where_others_invent_some_and_is_good_from_anywhere_else() {
    let bench = Bench::start("invented_links").await;
    let house = bench.house("acme").await;
    let token = link(&bench, OFFICE, &house.email).await;
    let state = flooded(&bench, What::Confirmation).await;
    let reset = Reset {
        token,
        new: NewPassword::parse(RESET).unwrap(),
    };
    let waits = password::reset(&from(OFFICE), &state, &reset).await;
    assert!(has_to_wait(&waits), "{waits:?}");
    password::reset(&from(ELSEWHERE), &state, &reset).await.unwrap();
    login(&bench, ELSEWHERE, &house.email, RESET).await.unwrap();
}

/// Chooses a password that is too easy to guess until it is not looked at any more; how many were.
async fn choose(bench: &Bench, mut easy: impl AsyncFnMut() -> Result<(), Error>) -> u64 {
    let before = bench.state.hasher.runs();
    for _ in 0..30 {
        match easy().await {
            Err(Error::Field { .. }) => {}
            Err(Error::TooManyAttempts { .. }) => break,
            other => panic!("{other:?}"),
        }
    }
    bench.state.hasher.runs() - before
}

#[tokio::test]
async fn whoever_may_choose_a_password_has_so_many_scored() {
    let bench = Bench::start("invented_choices").await;
    let house = bench.house("acme").await;
    let token = link(&bench, OFFICE, &house.email).await;
    let chosen = |new: &str| Reset {
        token: token.clone(),
        new: NewPassword::parse(new).unwrap(),
    };
    let easy = chosen(EASY);
    let scored = choose(&bench, async || {
        password::reset(&from(OFFICE), &bench.state, &easy).await
    })
    .await;
    assert!(SCORED.contains(&scored), "{scored}");
    pass(&bench, 2 * 60).await;
    password::reset(&from(OFFICE), &bench.state, &chosen(RESET))
        .await
        .unwrap();

    let pair = login(&bench, OFFICE, &house.email, RESET).await.unwrap();
    let change = PasswordChange {
        current: OfferedPassword::parse(RESET).unwrap(),
        new: NewPassword::parse(EASY).unwrap(),
    };
    let caller = Bench::ctx_in(&pair);
    let scored = choose(&bench, async || password::change(&caller, &bench.state, &change).await).await;
    // Each compares the current one too, the one that is refused as well.
    assert!(SCORED.contains(&(scored / 2)) && scored % 2 == 1, "{scored}");

    let founding = founding(rowhouse_types::TenantId::generate(), "ada@acme.example");
    let invited = create_first_administrator(&service_ctx(), &bench.state, &founding).await;
    let mail = invitation_mail(&service_ctx(), &bench.state, invited.unwrap())
        .await
        .unwrap();
    let easy = acceptance(mail.token, EASY);
    let scored = choose(&bench, async || {
        invitation::accept(&from(ELSEWHERE), &bench.state, &easy)
            .await
            .map(drop)
    });
    let scored = scored.await;
    assert!(SCORED.contains(&scored), "{scored}");
}

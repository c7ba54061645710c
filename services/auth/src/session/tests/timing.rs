//! T15: who logs in with a wrong password does not learn whether there is such an account: not from the answer, nor from what was
//! done for it, nor, where times are judged, from how long it took.

use std::time::{Duration, Instant};

use rowhouse_devkit::torture::{Dice, Torture};
use rowhouse_status::Failure;

use crate::error::Error;
use crate::identity;
use crate::tests::bench::Bench;
use crate::tests::statements::Statements;
use crate::tests::times::{self, DIFFERENCE_MAX};

/// Log-ins of each kind in a round, in the short form and in the long one: a minute's worth.
const LOGINS: [usize; 2] = [4, 1_000];

const WRONG: &str = "wrong horse battery";
/// Not in its normal form: it is compared twice.
const TWICE: &str = "wro\u{308}ng horse battery";
/// As long as the address of the account that there is.
const NOBODY: &str = "nobod@acme.example";

/// What a log-in had done and said, and how long it took.
#[derive(Debug)]
struct Tried {
    answer: String,
    hashes: u64,
    statements: Vec<String>,
    took: Duration,
}

/// A log-in as it is, with a password in its normal form or in another; or one that looks for the account first and stops where
/// there is none.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Login {
    Real,
    Twice,
    Leaking,
}

async fn attempt(bench: &Bench, login: Login, email: &str) -> Result<(), Error> {
    if login == Login::Leaking {
        let mut connection = bench.state.connection().await?;
        let account = identity::account_at(&mut connection, email).await?;
        account.ok_or(Error::LoginFailed)?;
    }
    let password = if login == Login::Twice { TWICE } else { WRONG };
    bench.login(email, password, None).await.map(drop)
}

async fn tried(bench: &Bench, statements: &Statements, login: Login, email: &str) -> Tried {
    // Whoever guesses on has to wait, and nobody here shall.
    bench.execute("DELETE FROM auth.attempts").await;
    let hashes = bench.state.hasher.runs();
    statements.take();
    let begun = Instant::now();
    let answer = attempt(bench, login, email).await;
    let took = begun.elapsed();
    Tried {
        answer: format!("{:?}", Failure::from(answer.unwrap_err())),
        hashes: bench.state.hasher.runs() - hashes,
        statements: statements.take(),
        took,
    }
}

/// Log-ins to the account that there is and to the one that there is not, one of each at a time, in a random order.
async fn log_in(
    bench: &Bench,
    statements: &Statements,
    login: Login,
    email: &str,
    mut dice: Dice,
    count: usize,
) -> [Vec<Tried>; 2] {
    let mut all = [Vec::with_capacity(count), Vec::with_capacity(count)];
    for _ in 0..count {
        let first = dice.below(2);
        for kind in [first, 1 - first] {
            all[kind].push(tried(bench, statements, login, [email, NOBODY][kind]).await);
        }
    }
    all
}

/// By how much their times differ.
fn difference(all: &[Vec<Tried>; 2]) -> f64 {
    let took = all.each_ref().map(|all| all.iter().map(|tried| tried.took).collect());
    times::difference(&took)
}

/// Whether all were answered alike and had the same done.
fn are_alike(all: &[Vec<Tried>; 2]) -> bool {
    let what = |tried: &Tried| (tried.answer.clone(), tried.hashes, tried.statements.clone());
    let mut tried = all.iter().flatten().map(what);
    let first = tried.next();
    tried.all(|other| Some(other) == first)
}

async fn round(torture: &mut Torture, dice: &Dice) {
    let bench = Bench::start("login_timing").await;
    let house = bench.house("acme").await;
    let statements = Statements::listen();
    let [short, long] = LOGINS;
    let count = torture.size(short, long);
    // Connections are opened and statements prepared before anything counts.
    let email = house.email.as_str();
    log_in(&bench, &statements, Login::Real, email, dice.of_task(0), short).await;

    let real = log_in(&bench, &statements, Login::Real, email, dice.of_task(1), count).await;
    torture.trials(2 * count);
    let first = &real[0][0];
    assert!(
        first.answer.contains("LoginFailed") && first.hashes == 1 && first.statements.len() > 3,
        "{first:?}"
    );
    assert!(are_alike(&real), "{:?}\n{:?}", real[0][0], real[1][0]);
    assert_eq!(bench.count("SELECT count(*) FROM auth.sessions").await, 0);
    // Who types it in another form has it compared twice, with and without an account.
    let twice = log_in(&bench, &statements, Login::Twice, email, dice.of_task(3), count / 4).await;
    assert_eq!(twice[0][0].hashes, 2, "{:?}", twice[0][0]);
    assert!(are_alike(&twice), "{:?}\n{:?}", twice[0][0], twice[1][0]);
    // The control: where nobody is hashed for, that is seen.
    let leaking = log_in(&bench, &statements, Login::Leaking, email, dice.of_task(2), count / 4).await;
    assert!(!are_alike(&leaking), "{:?}", leaking[1][0]);
    if torture.is_long() {
        let part = difference(&real);
        assert!(part <= DIFFERENCE_MAX, "{part}");
        let part = difference(&leaking);
        assert!(part > DIFFERENCE_MAX, "the control: {part}");
    }
}

#[tokio::test]
async fn a_log_in_does_not_tell_whether_there_is_an_account() {
    let mut torture = Torture::begin("T15", "log-ins");
    while let Some(dice) = torture.round() {
        round(&mut torture, &dice).await;
    }
}

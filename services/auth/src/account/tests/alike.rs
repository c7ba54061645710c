//! T15 beside log-ins: who asks for a reset, or invites somebody, does not learn whether the address has an account: not from the
//! answer, nor from what was done for it, nor, where times are judged, from how long it took.

use std::time::Instant;

use rowhouse_auth_kit::Role;
use rowhouse_devkit::torture::{Dice, Torture};
use rowhouse_types::Limits;

use crate::account::password::request_reset;
use crate::identity;
use crate::member::{Invite, actions::invite};
use crate::role::TenantRole;
use crate::tests::bench::{Bench, anonymous};
use crate::tests::statements::Statements;
use crate::tests::times::{DIFFERENCE_MAX, difference};

/// Nobody's.
const NOBODY: &str = "nobody@globex.example";

/// Calls of each kind in a round of the long form, and of the control: a minute's worth, since what is looked for is a fiftieth of
/// some milliseconds.
const TIMED: [usize; 2] = [5_000, 200];

/// What bounds mails to one address, or asked for from one: here nobody has to wait.
const FORGET: &str = "DELETE FROM auth.attempts; DELETE FROM auth.account_mails;
    DELETE FROM auth.invitations WHERE state <> 'accepted'";

/// What a call answers, and the statements that it sends.
type Done = (String, Vec<String>);

async fn done(statements: &Statements, call: impl Future<Output = String>) -> Done {
    statements.take();
    let answer = call.await;
    (answer, statements.take())
}

/// By how much it differs how long a call takes: for the address of an account and for another, one of each at a time, in a random
/// order.
async fn timed(
    bench: &Bench,
    mut dice: Dice,
    emails: [&str; 2],
    count: usize,
    call: impl AsyncFn(&str) -> String,
) -> f64 {
    let mut took = [Vec::with_capacity(count), Vec::with_capacity(count)];
    for _ in 0..count {
        let first = dice.below(2);
        for kind in [first, 1 - first] {
            bench.execute(FORGET).await;
            let begun = Instant::now();
            let answer = call(emails[kind]).await;
            took[kind].push(begun.elapsed());
            assert!(answer.starts_with("Ok("), "{answer}");
        }
    }
    difference(&took)
}

/// In the long form: both take as long, and where the account is looked up first, that is seen.
async fn take_as_long(
    torture: &mut Torture,
    bench: &Bench,
    dice: &Dice,
    emails: [&str; 2],
    ask: impl AsyncFn(&str) -> String,
    leaking: impl AsyncFn(&str) -> String,
) {
    if !torture.is_long() {
        return;
    }
    let [count, of_control] = TIMED;
    let part = timed(bench, dice.of_task(0), emails, count, ask).await;
    torture.count("timed", 2 * count);
    assert!(part <= DIFFERENCE_MAX, "{part}");
    let part = timed(bench, dice.of_task(1), emails, of_control, leaking).await;
    assert!(part > DIFFERENCE_MAX, "the control: {part}");
}

/// The control: whether there is an account, looked up as no call here may.
async fn has_account(bench: &Bench, email: &str) -> bool {
    let mut connection = bench.state.connection().await.unwrap();
    identity::account_at(&mut connection, email).await.unwrap().is_some()
}

#[tokio::test]
async fn asking_for_a_reset_does_not_tell_whether_there_is_an_account() {
    let mut torture = Torture::begin("T15", "resets");
    while let Some(dice) = torture.round() {
        resets(&mut torture, &dice).await;
    }
}

async fn resets(torture: &mut Torture, dice: &Dice) {
    let bench = Bench::start("reset_alike").await;
    let house = bench.house("acme").await;
    let statements = Statements::listen();
    let ask = async |email: &str| {
        let asked = request_reset(&anonymous(), &bench.state, &email.parse().unwrap()).await;
        format!("{asked:?}")
    };
    // Connections are opened and statements prepared before anything counts.
    ask("somebody@globex.example").await;

    let existing = done(&statements, ask(&house.email)).await;
    assert!(existing.0 == "Ok(())" && existing.1.len() > 2, "{existing:?}");
    assert_eq!(done(&statements, ask(NOBODY)).await, existing);

    let leaking = async |email: &str| match has_account(&bench, email).await {
        true => ask(email).await,
        false => "Ok(())".to_owned(),
    };
    let existing = done(&statements, leaking(&house.email)).await;
    assert_ne!(done(&statements, leaking(NOBODY)).await, existing);
    torture.trials(2);
    drop(statements);
    take_as_long(torture, &bench, dice, [&house.email, NOBODY], &ask, &leaking).await;
}

#[tokio::test]
async fn an_invitation_does_not_tell_whether_there_is_an_account() {
    let mut torture = Torture::begin("T15", "invitations");
    while let Some(dice) = torture.round() {
        invitations(&mut torture, &dice).await;
    }
}

async fn invitations(torture: &mut Torture, dice: &Dice) {
    let bench = Bench::start("invitation_alike").await;
    let house = bench.house("acme").await;
    let elsewhere = bench.house("globex").await;
    let ctx = bench.ctx_of(house.admin, house.tenant).await;
    // So that what a plan bounds is counted too.
    let limits = Limits {
        seats: Some(100),
        mails_per_day: Some(100),
        ..Limits::default()
    };
    let state = bench.within(limits).await;
    let statements = Statements::listen();
    let ask = async |email: &str| {
        let asked = Invite {
            email: email.parse().unwrap(),
            role: TenantRole::BuiltIn(Role::User),
            request: None,
        };
        let sent = invite(&ctx, &state, &asked).await;
        // The address is answered as it was asked for; ids and times differ by themselves.
        format!("{:?}", sent.map(|sent| (sent.email == email, sent.role)))
    };
    // Connections are opened and statements prepared before anything counts.
    ask("somebody@globex.example").await;

    // Asked for in another spelling than the account's own.
    let email = elsewhere.email.replace("admin", "Admin");
    let existing = done(&statements, ask(&email)).await;
    assert!(
        existing.0.starts_with("Ok((true,") && existing.1.len() > 5,
        "{existing:?}"
    );
    assert_eq!(done(&statements, ask(NOBODY)).await, existing);

    let leaking = async |email: &str| match has_account(&bench, email).await {
        true => ask(email).await,
        false => "Ok(none)".to_owned(),
    };
    let existing = done(&statements, leaking(&email)).await;
    assert_ne!(done(&statements, leaking(NOBODY)).await, existing);
    torture.trials(2);
    drop(statements);
    take_as_long(torture, &bench, dice, [&email, NOBODY], &ask, &leaking).await;
}

//! What an operator shows to make another: an access token is not enough, since who is made one outlives it.

use rowhouse_auth_kit::Role;
use rowhouse_status::{Failure, Reason};

use super::colleagues::{ROOT, Root, asked, office};
use crate::account::password::change;
use crate::account::{EmailChange, PasswordChange, email};
use crate::error::Error;
use crate::identity::{NewPassword, OfferedPassword};
use crate::operator::Operator;
use crate::operator::actions::grant;
use crate::role::TenantRole;
use crate::second_factor::Code;
use crate::second_factor::actions::{confirm, set_up};
use crate::service_account::keys;
use crate::state::State;
use crate::tests::app::{App, wrong};
use crate::tests::bench::{Bench, PASSWORD, key_of};

const NO_PASSWORD: &str = "not that one, surely";

async fn operators(bench: &Bench) -> i64 {
    bench.count("SELECT count(*) FROM auth.platform_grants").await
}

async fn with_code(root: &Root, state: &State, email: &str, code: Option<Code>) -> Result<Operator, Error> {
    grant(&root.ctx, state, &asked(email, &root.password, code)).await
}

fn is_wrong(answer: &Result<Operator, Error>, named: &str) -> bool {
    matches!(answer, Err(Error::Field { field, .. }) if *field == named)
}

/// What has to wait waits longer than this test can take.
async fn nobody_waits_here(bench: &Bench) {
    let longer = "UPDATE auth.attempts SET blocked_until = clock_timestamp() + interval '1 hour' WHERE level > 5";
    bench.execute(longer).await;
}

#[tokio::test]
async fn an_access_token_alone_makes_nobody_an_operator() {
    let (bench, house, root) = office("operator_token").await;
    let stolen = Root {
        password: NO_PASSWORD.to_owned(),
        ctx: root.ctx.clone(),
    };
    let refused = stolen.grant(&bench.state, &house.email).await;
    assert!(is_wrong(&refused, "current_password"), "{refused:?}");
    let failure = Failure::from(refused.unwrap_err());
    assert_eq!(failure.reason(), Reason::FieldInvalid);
    // The password of the one who is to be an operator is not the caller's.
    let theirs = grant(&root.ctx, &bench.state, &asked(&house.email, PASSWORD, None)).await;
    assert!(is_wrong(&theirs, "current_password"), "{theirs:?}");
    assert_eq!(operators(&bench).await, 1);
    root.grant(&bench.state, &house.email).await.unwrap();
    assert_eq!(operators(&bench).await, 2);
}

#[tokio::test]
async fn passwords_that_are_guessed_here_count_with_those_at_the_account() {
    let (bench, house, root) = office("operator_guess").await;
    let mut guesses = 0;
    loop {
        match grant(&root.ctx, &bench.state, &asked(&house.email, NO_PASSWORD, None)).await {
            Err(Error::TooManyAttempts { .. }) => break,
            refused => assert!(is_wrong(&refused, "current_password"), "{refused:?}"),
        }
        guesses += 1;
        assert!(guesses < 10, "guesses are bounded");
    }
    nobody_waits_here(&bench).await;
    let to_another = PasswordChange {
        current: OfferedPassword::parse(&root.password).unwrap(),
        new: NewPassword::parse("battery horse correct").unwrap(),
    };
    let elsewhere = change(&root.ctx, &bench.state, &to_another).await;
    assert!(matches!(elsewhere, Err(Error::TooManyAttempts { .. })), "{elsewhere:?}");
    let right = root.grant(&bench.state, &house.email).await;
    assert!(matches!(right, Err(Error::TooManyAttempts { .. })), "{right:?}");
    assert_eq!(operators(&bench).await, 1);
}

#[tokio::test]
async fn who_has_a_second_factor_shows_it_and_each_code_once() {
    let (bench, house, root) = office("operator_factor").await;
    let other = bench.house("globex").await;
    let state = &bench.state;
    let app = App::set_up(&bench, &root.ctx, &root.password).await;
    let without = with_code(&root, state, &house.email, None).await;
    assert!(matches!(without, Err(Error::CodeMissing)), "{without:?}");
    // The last has been used up by the confirmation.
    for code in [wrong(), app.code(0)] {
        let refused = with_code(&root, state, &house.email, Some(code)).await;
        assert!(is_wrong(&refused, "code"), "{refused:?}");
    }
    assert_eq!(operators(&bench).await, 1);
    with_code(&root, state, &house.email, Some(app.code(1))).await.unwrap();
    let again = with_code(&root, state, &other.email, Some(app.code(1))).await;
    assert!(is_wrong(&again, "code"), "{again:?}");
    let without = grant(
        &root.ctx,
        state,
        &asked(&other.email, NO_PASSWORD, Some(app.recovery(0))),
    )
    .await;
    assert!(is_wrong(&without, "current_password"), "{without:?}");
    assert_eq!(operators(&bench).await, 2);
    with_code(&root, state, &other.email, Some(app.recovery(0)))
        .await
        .unwrap();
    assert_eq!(operators(&bench).await, 3);
}

#[tokio::test]
async fn who_guesses_codes_waits_and_who_sends_none_does_not() {
    let (bench, house, root) = office("operator_codes").await;
    App::set_up(&bench, &root.ctx, &root.password).await;
    for _ in 0..8 {
        let refused = with_code(&root, &bench.state, &house.email, None).await;
        assert!(matches!(refused, Err(Error::CodeMissing)), "{refused:?}");
    }
    let mut guesses = 0;
    loop {
        match with_code(&root, &bench.state, &house.email, Some(wrong())).await {
            Err(Error::TooManyAttempts { .. }) => break,
            refused => assert!(is_wrong(&refused, "code"), "{refused:?}"),
        }
        guesses += 1;
        assert!(guesses < 10, "guesses are bounded");
    }
    nobody_waits_here(&bench).await;
    // With those at the account: a thief of password and token has as many here and there together.
    let move_away = EmailChange {
        new: "root@elsewhere.example".parse().unwrap(),
        current: OfferedPassword::parse(&root.password).unwrap(),
        code: Some(wrong()),
    };
    let elsewhere = email::change(&root.ctx, &bench.state, &move_away).await;
    assert!(matches!(elsewhere, Err(Error::TooManyAttempts { .. })), "{elsewhere:?}");
}

/// A secret that waits for its confirmation is no second factor: a code is asked of nobody, and none that was sent forgets those
/// that were guessed at the confirmation.
#[tokio::test]
async fn a_code_that_nobody_asked_for_is_no_guess_and_takes_none_back() {
    let (bench, house, root) = office("operator_unasked").await;
    let password = OfferedPassword::parse(&root.password).unwrap();
    set_up(&root.ctx, &bench.state, &password).await.unwrap();
    let mut guesses = 0;
    loop {
        match confirm(&root.ctx, &bench.state, &wrong()).await.map(drop) {
            Err(Error::TooManyAttempts { .. }) => break,
            refused => assert!(
                matches!(refused, Err(Error::Field { field: "code", .. })),
                "{refused:?}"
            ),
        }
        guesses += 1;
        assert!(guesses < 10, "guesses are bounded");
        match with_code(&root, &bench.state, &house.email, Some(wrong())).await {
            // The second after the last of the guesses that are looked at.
            Ok(_) | Err(Error::TooManyAttempts { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(guesses >= 5, "what was not looked at takes nobody's place: {guesses}");
}

/// The account that is to be made an operator is the older one: it is locked first, while the caller's is free.
#[tokio::test]
async fn a_password_that_is_changed_after_the_look_at_it_makes_nobody_an_operator() {
    let bench = Bench::start("operator_overtaken").await;
    let house = bench.house("acme").await;
    let password = bench.operator(ROOT).await;
    let pair = bench.login(ROOT, &password, None).await.unwrap();
    let root = Root {
        ctx: Bench::ctx_in(&pair),
        password,
    };
    let mut changing = bench.superuser.begin().await.unwrap();
    sqlx::query("SELECT id FROM auth.identities WHERE id = $1 FOR UPDATE")
        .bind(house.admin.uuid())
        .execute(&mut *changing)
        .await
        .unwrap();
    let (state, email) = (bench.state.clone(), house.email.clone());
    let mut granting = tokio::spawn(async move { root.grant(&state, &email).await });
    bench.until_it_waits(&mut granting).await;
    sqlx::query("UPDATE auth.identities SET password_hash = 'another hash' WHERE id = $1")
        .bind(pair.session.user.uuid())
        .execute(&mut *changing)
        .await
        .unwrap();
    changing.commit().await.unwrap();
    let refused = granting.await.unwrap();
    assert!(is_wrong(&refused, "current_password"), "{refused:?}");
    assert_eq!(operators(&bench).await, 1);
}

#[tokio::test]
async fn a_program_has_no_password_and_makes_nobody_an_operator() {
    let (bench, house, _) = office("operator_program").await;
    let admin = bench.ctx_of(house.admin, house.tenant).await;
    let importer = bench
        .program(&admin, "Importer", TenantRole::BuiltIn(Role::TenantAdmin))
        .await;
    let (key, _) = keys::create(&admin, &bench.state, &key_of(importer, 30)).await.unwrap();
    // As if the policy of the call had let it in.
    let by_program = Bench::ctx_with(house.tenant, importer, key.id);
    let refused = grant(&by_program, &bench.state, &asked(&house.email, PASSWORD, None)).await;
    assert!(matches!(refused, Err(Error::NotAPerson)), "{refused:?}");
    assert_eq!(operators(&bench).await, 1);
}

//! The way back into an account, on a real database.

mod disabled;

use std::io;

use rowhouse_auth_kit::Role;

use super::{Reason, disable, recover};
use crate::account::{PasswordChange, password};
use crate::error::Error;
use crate::identity::{NewPassword, OfferedPassword};
use crate::member::{self, MemberState};
use crate::rights::Standing;
use crate::session::{self, Pair};
use crate::tests::bench::{Bench, PASSWORD, anonymous};

const EMAIL: &str = "ada@acme.example";
const CHOSEN: &str = "the sea was grey that day";

fn why() -> Reason {
    Reason::parse_required("lost the telephone and the mailbox; passport seen").unwrap()
}

#[tokio::test]
async fn the_new_password_lets_in_and_nothing_that_was_there_does() {
    let bench = Bench::start("glass").await;
    let house = bench.house("acme").await;
    let user = bench.member(&house, EMAIL, Role::User).await;
    let before = bench.login(EMAIL, PASSWORD, None).await.unwrap();
    // As if she had a second factor.
    bench
        .execute(&format!(
            "INSERT INTO auth.second_factors (identity_id, sealed_secret, confirmed_at) VALUES ('{}', '', now())",
            user.uuid()
        ))
        .await;
    let mut shown = String::new();
    let keep = |secret: &str| {
        secret.clone_into(&mut shown);
        Ok(())
    };
    let db = &bench.state.db;
    recover(db, &EMAIL.parse().unwrap(), &why(), keep).await.unwrap();
    assert!(matches!(
        bench.login(EMAIL, PASSWORD, None).await,
        Err(Error::LoginFailed)
    ));
    assert_eq!(bench.standing(&before).await, Standing::Revoked);
    let after = bench.login(EMAIL, &shown, None).await.unwrap();
    assert_eq!(bench.standing(&after).await, Standing::Good);
    for (what, sql) in [
        (
            "audited",
            "SELECT count(*) FROM auth.audit WHERE action = 'account.break_glass' AND actor = 'service:auth' \
             AND tenant_id IS NULL AND after->>'reason' IS NOT NULL",
        ),
        // Why is the platform's matter.
        (
            "told to the tenant",
            "SELECT count(*) FROM auth.audit WHERE action = 'account.break_glass' AND actor = 'service:auth' \
             AND tenant_id IS NOT NULL AND reason IS NULL AND after = '{\"sessions_ended\": 1}'",
        ),
        (
            "told",
            "SELECT count(*) FROM auth.account_mails WHERE kind = 'password_changed'",
        ),
    ] {
        assert_eq!(bench.count(sql).await, 1, "{what}");
    }
    let dump = bench.dump().await;
    assert!(dump.contains("passport seen") && !dump.contains(&shown));
}

/// A log-in from an address that nobody has been at before.
async fn log_in(bench: &Bench, password: &str) -> Result<Pair, Error> {
    let attempt = session::Attempt {
        email: EMAIL.parse().unwrap(),
        password: OfferedPassword::parse(password).unwrap(),
        tenant: None,
        second_factor: None,
        device: None,
    };
    let call = anonymous().with_origin(None, Some("203.0.113.9".to_owned()));
    session::actions::login(&call, &bench.state, &attempt).await
}

#[tokio::test]
async fn whoever_is_let_back_in_does_not_wait_for_those_who_guess() {
    let bench = Bench::start("glass_attack").await;
    let house = bench.house("acme").await;
    bench.member(&house, EMAIL, Role::User).await;
    let guess = async || {
        for _ in 0..6 {
            assert!(log_in(&bench, "wrong horse battery").await.is_err());
        }
    };
    // As many as may be, from the same network too; all wait for an hour, but for the network at other accounts.
    guess().await;
    let attacked = "UPDATE auth.attempts SET blocked_until = now() + interval '1 hour' WHERE subject <> $1";
    let attacked = sqlx::query(attacked).bind(crate::random::sha256("address|203.0.113.9"));
    assert_eq!(attacked.execute(&bench.superuser).await.unwrap().rows_affected(), 3);
    let waits = |answer: Result<Pair, Error>| matches!(answer, Err(Error::TooManyAttempts { .. }));
    assert!(waits(log_in(&bench, PASSWORD).await));
    let mut shown = String::new();
    let keep = |secret: &str| {
        secret.clone_into(&mut shown);
        Ok(())
    };
    let db = &bench.state.db;
    recover(db, &EMAIL.parse().unwrap(), &why(), keep).await.unwrap();
    // Others go on guessing.
    guess().await;
    let pair = log_in(&bench, &shown).await.unwrap();
    // The control: a password that the person has chosen can be guessed, and guesses count.
    let change = PasswordChange {
        current: OfferedPassword::parse(&shown).unwrap(),
        new: NewPassword::parse(CHOSEN).unwrap(),
    };
    password::change(&Bench::ctx_in(&pair), &bench.state, &change)
        .await
        .unwrap();
    guess().await;
    bench
        .execute(
            "UPDATE auth.attempts SET blocked_until = now() + interval '1 hour'
             WHERE blocked_until > at + interval '0.5 seconds'",
        )
        .await;
    assert!(waits(log_in(&bench, CHOSEN).await));
}

#[tokio::test]
async fn without_an_account_or_a_way_to_hand_the_password_over_nothing_happens() {
    let bench = Bench::start("glass_nothing").await;
    let house = bench.house("acme").await;
    let db = &bench.state.db;
    let nobody = recover(db, &"nobody@acme.example".parse().unwrap(), &why(), |_| Ok(())).await;
    assert!(matches!(nobody, Err(Error::NotFound { kind: "account", .. })));
    let full = recover(db, &house.email.parse().unwrap(), &why(), |_| {
        Err(io::Error::other("disk full"))
    })
    .await;
    assert!(matches!(full, Err(Error::Fault(_))));
    bench.login(&house.email, PASSWORD, None).await.unwrap();
}

#[tokio::test]
async fn devices_that_somebody_else_may_hold_are_forgotten() {
    let bench = Bench::start("glass_devices").await;
    let house = bench.house("acme").await;
    bench.member(&house, EMAIL, Role::User).await;
    bench.login(&house.email, PASSWORD, None).await.unwrap();
    let (db, email) = (&bench.state.db, EMAIL.parse().unwrap());
    let devices = async || bench.count("SELECT count(*) FROM auth.devices").await;
    bench.login(EMAIL, PASSWORD, None).await.unwrap();
    bench.login(EMAIL, PASSWORD, None).await.unwrap();
    assert_eq!(devices().await, 3);
    let mut shown = String::new();
    let keep = |secret: &str| {
        secret.clone_into(&mut shown);
        Ok(())
    };
    recover(db, &email, &why(), keep).await.unwrap();
    assert_eq!(devices().await, 1, "another's stays");
    bench.login(EMAIL, &shown, None).await.unwrap();
    assert_eq!(devices().await, 2);
    assert!(disable(db, &email, &why()).await.unwrap());
    assert_eq!(devices().await, 1, "another's stays");
}

/// The new password is shown before the account is locked. It must not open the account of somebody who has got another address
/// since, nor that of whoever has this one now.
#[tokio::test]
async fn an_account_that_gets_another_address_meanwhile_is_left_as_it_was() {
    let bench = Bench::start("glass_address").await;
    let house = bench.house("acme").await;
    let user = bench.member(&house, EMAIL, Role::User).await;
    let mut moving = bench.superuser.begin().await.unwrap();
    sqlx::query("UPDATE auth.identities SET email = 'countess@acme.example' WHERE id = $1")
        .bind(user.uuid())
        .execute(&mut *moving)
        .await
        .unwrap();
    let db = bench.state.db.clone();
    let mut recovery = tokio::spawn(async move { recover(&db, &EMAIL.parse().unwrap(), &why(), |_| Ok(())).await });
    bench.until_it_waits(&mut recovery).await;
    moving.commit().await.unwrap();
    let refused = recovery.await.unwrap();
    assert!(
        matches!(refused, Err(Error::NotFound { kind: "account", .. })),
        "{refused:?}"
    );
    bench.login("countess@acme.example", PASSWORD, None).await.unwrap();
}

#[tokio::test]
async fn it_locks_all_sessions_in_one_order_whatever_they_have_shown() {
    let bench = Bench::start("glass_order").await;
    let house = bench.house("acme").await;
    let user = bench.member(&house, EMAIL, Role::User).await;
    bench.login(EMAIL, PASSWORD, None).await.unwrap();
    let later = bench.login(EMAIL, PASSWORD, None).await.unwrap().session.id;
    let rows = format!("auth.sessions WHERE id = '{}'", later.uuid());
    bench
        .execute(&format!(
            "UPDATE auth.sessions SET second_factor = (id = '{}')",
            later.uuid()
        ))
        .await;
    let (db, state) = (bench.state.db.clone(), bench.state.clone());
    let admin = bench.ctx_of(house.admin, house.tenant).await;
    let disable = member::Change {
        user,
        role: None,
        state: Some(MemberState::Disabled),
        etag: None,
    };
    let recovery = async move { recover(&db, &EMAIL.parse().unwrap(), &why(), |_| Ok(())).await };
    let disabling = async move { member::actions::update(&admin, &state, &disable).await.map(drop) };
    let (recovered, disabled) = bench.meet(&rows, recovery, disabling).await;
    recovered.unwrap();
    disabled.unwrap();
}

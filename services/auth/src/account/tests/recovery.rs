//! Forgotten passwords and new addresses.

use futures_util::future::join_all;
use rowhouse_auth_kit::Role;
use rowhouse_status::{Failure, Reason};

use super::{OTHER, start};
use crate::account::email::{change as change_email, confirm};
use crate::account::password::{change, request_reset, reset};
use crate::account::{EmailChange, Reset};
use crate::account_mail::{self, AccountMail, Kind, PER_HOUR_MAX};
use crate::error::Error;
use crate::identity::{NewPassword, OfferedPassword};
use crate::link::Token;
use crate::random;
use crate::rights::Standing;
use crate::session::{self, Pair};
use crate::tests::bench::{Bench, PASSWORD, anonymous, service_ctx};

pub(super) const NEW_ADDRESS: &str = "ada@elsewhere.example";

/// What the mails say that were asked for so far, the newest last; those with nothing to write about are left out.
async fn mails(bench: &Bench) -> Vec<AccountMail> {
    let ids: Vec<uuid::Uuid> = sqlx::query_scalar("SELECT id FROM auth.account_mails ORDER BY id")
        .fetch_all(&bench.superuser)
        .await
        .unwrap();
    let mut mails = Vec::new();
    for id in ids {
        let id = rowhouse_types::AccountMailId::from_uuid(id);
        match account_mail::for_mail(&service_ctx(), &bench.state, id).await {
            Ok(mail) => mails.push(mail),
            Err(Error::NotFound {
                kind: "account_mail", ..
            }) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
    mails
}

/// The token of the newest link of a kind.
pub(super) async fn token(bench: &Bench, kind: Kind) -> Token {
    let mails = mails(bench).await;
    let mail = mails.into_iter().rfind(|mail| mail.kind == kind).unwrap();
    mail.token.unwrap()
}

pub(super) async fn ask(bench: &Bench, email: &str) {
    request_reset(&anonymous(), &bench.state, &email.parse().unwrap())
        .await
        .unwrap();
}

pub(super) fn to(token: &Token, new: &str) -> Reset {
    Reset {
        token: token.clone(),
        new: NewPassword::parse(new).unwrap(),
    }
}

pub(super) async fn ask_for_address(bench: &Bench, pair: &Pair, email: &str) -> Result<(), Error> {
    let asked = EmailChange {
        new: email.parse().unwrap(),
        current: OfferedPassword::parse(PASSWORD).unwrap(),
        code: None,
    };
    change_email(&Bench::ctx_in(pair), &bench.state, &asked).await
}

#[tokio::test]
async fn a_link_sets_a_new_password_once_and_ends_every_session() {
    let (bench, house, own) = start("reset").await;
    ask(&bench, &house.email.to_uppercase()).await;
    let link = token(&bench, Kind::PasswordReset).await;
    assert_eq!(
        mails(&bench).await[0].email,
        house.email,
        "it goes to the address as the account has it"
    );
    assert!(!bench.dump().await.contains(link.expose()), "the link is kept nowhere");
    let calls = (0..4).map(|_| {
        let (state, asked) = (bench.state.clone(), to(&link, OTHER));
        tokio::spawn(async move { reset(&anonymous(), &state, &asked).await })
    });
    let answers: Vec<_> = join_all(calls.collect::<Vec<_>>())
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1, "{answers:?}");
    assert!(
        answers
            .iter()
            .all(|answer| matches!(answer, Ok(()) | Err(Error::LinkInvalid))),
        "{answers:?}"
    );
    assert_eq!(bench.standing(&own).await, Standing::Revoked);
    assert!(matches!(
        bench.login(&house.email, PASSWORD, None).await,
        Err(Error::LoginFailed)
    ));
    assert!(bench.login(&house.email, OTHER, None).await.is_ok());
    let told = mails(&bench).await;
    assert_eq!(
        told.iter().map(|mail| mail.kind).collect::<Vec<_>>(),
        [Kind::PasswordChanged]
    );
    assert_eq!(
        (told[0].email.as_str(), told[0].token.is_none()),
        (house.email.as_str(), true)
    );
}

#[tokio::test]
async fn a_reset_that_waits_for_who_is_at_the_account_keeps_nobody_from_the_clock() {
    let (bench, house, _) = start("reset_clock").await;
    ask(&bench, &house.email).await;
    let asked = to(&token(&bench, Kind::PasswordReset).await, OTHER);
    let guess = bench.login(&house.email, "not that one, surely", None).await;
    assert!(matches!(guess, Err(Error::LoginFailed)));
    let mut guessing = bench.superuser.begin().await.unwrap();
    sqlx::raw_sql("SELECT FROM auth.attempts FOR UPDATE")
        .execute(&mut *guessing)
        .await
        .unwrap();
    let state = bench.state.clone();
    let mut resetting = tokio::spawn(async move { reset(&anonymous(), &state, &asked).await });
    bench.until_it_waits(&mut resetting).await;
    let look = sqlx::raw_sql("SELECT version FROM auth.rights_clock FOR UPDATE NOWAIT");
    look.execute(&bench.superuser).await.unwrap();
    guessing.rollback().await.unwrap();
    resetting.await.unwrap().unwrap();
}

#[tokio::test]
async fn an_address_without_an_account_costs_the_same_rows_and_sends_nothing() {
    let (bench, house, _) = start("reset_unknown").await;
    let rows = async || {
        (
            bench.count("SELECT count(*) FROM auth.account_mails").await,
            bench
                .count("SELECT count(*) FROM auth.outbox WHERE kind = 'auth.account_mail.v1'")
                .await,
        )
    };
    ask(&bench, &house.email).await;
    assert_eq!(rows().await, (1, 1));
    ask(&bench, "nobody@acme.example").await;
    assert_eq!(
        rows().await,
        (2, 2),
        "a row and an event, as for one that has an account"
    );
    assert_eq!(mails(&bench).await.len(), 1);
    let hashes = bench.state.hasher.runs();
    ask(&bench, &house.email).await;
    assert_eq!(bench.state.hasher.runs(), hashes, "asking hashes nothing for anybody");
    let named = "SELECT count(*) FROM auth.outbox WHERE payload::text LIKE '%@%' OR tenant_id IS NOT NULL";
    let of_mails = format!("{named} AND kind = 'auth.account_mail.v1'");
    assert_eq!(bench.count(&of_mails).await, 0, "the event names nobody");
}

#[tokio::test]
async fn an_address_is_written_to_a_few_times_an_hour_and_the_caller_is_not_told() {
    let (bench, house, _) = start("reset_rate").await;
    for _ in 0..PER_HOUR_MAX + 2 {
        ask(&bench, &house.email).await;
        ask(&bench, "nobody@acme.example").await;
    }
    let sent = "SELECT count(*) FROM auth.account_mails WHERE kind = 'password_reset'";
    assert_eq!(bench.count(sent).await, 2 * PER_HOUR_MAX);
    bench
        .execute("UPDATE auth.account_mails SET created_at = now() - interval '61 minutes'")
        .await;
    ask(&bench, &house.email).await;
    assert_eq!(bench.count(sent).await, 2 * PER_HOUR_MAX + 1);
}

#[tokio::test]
async fn one_caller_asks_for_so_many_mails_and_then_waits() {
    let (bench, ..) = start("reset_flood").await;
    let mut asked = 0;
    for n in 0..40 {
        let email = format!("n{n}@acme.example").parse().unwrap();
        match request_reset(&anonymous(), &bench.state, &email).await {
            Ok(()) => asked += 1,
            Err(Error::TooManyAttempts { .. }) => break,
            Err(error) => panic!("{error:?}"),
        }
    }
    assert_eq!(asked, 31, "thirty are free, and from the next on everybody waits");
    assert_eq!(bench.count("SELECT count(*) FROM auth.account_mails").await, asked);
}

#[tokio::test]
async fn used_expired_closed_and_unknown_links_are_answered_alike() {
    let (bench, house, own) = start("reset_alike").await;
    let refused = async |link: &Token| reset(&anonymous(), &bench.state, &to(link, "a third password")).await;
    ask(&bench, &house.email).await;
    let expired = token(&bench, Kind::PasswordReset).await;
    bench.execute("UPDATE auth.account_mails SET expires_at = now()").await;
    assert!(matches!(refused(&expired).await, Err(Error::LinkInvalid)));
    // A new password by other means.
    ask(&bench, &house.email).await;
    let closed = token(&bench, Kind::PasswordReset).await;
    let by_other_means = super::to(PASSWORD, OTHER);
    change(&Bench::ctx_in(&own), &bench.state, &by_other_means)
        .await
        .unwrap();
    assert!(matches!(refused(&closed).await, Err(Error::LinkInvalid)));
    let unknown = Token::parse(&random::text().unwrap()).unwrap();
    assert!(matches!(refused(&unknown).await, Err(Error::LinkInvalid)));
    // Another kind of link, and a disabled account.
    let own = bench.login(&house.email, OTHER, None).await.unwrap();
    let asked = EmailChange {
        new: NEW_ADDRESS.parse().unwrap(),
        current: OfferedPassword::parse(OTHER).unwrap(),
        code: None,
    };
    change_email(&Bench::ctx_in(&own), &bench.state, &asked).await.unwrap();
    assert!(matches!(
        refused(&token(&bench, Kind::EmailChange).await).await,
        Err(Error::LinkInvalid)
    ));
    ask(&bench, &house.email).await;
    let of_disabled = token(&bench, Kind::PasswordReset).await;
    bench.execute("UPDATE auth.identities SET state = 'disabled'").await;
    assert!(matches!(refused(&of_disabled).await, Err(Error::LinkInvalid)));
    assert!(mails(&bench).await.is_empty(), "nobody writes to a disabled account");
    assert_eq!(Failure::from(Error::LinkInvalid).reason(), Reason::LinkInvalid);
}

#[tokio::test]
async fn a_new_address_counts_when_its_link_was_followed_and_the_old_one_is_told() {
    let (bench, house, own) = start("email").await;
    ask(&bench, &house.email).await;
    let old_reset = token(&bench, Kind::PasswordReset).await;
    ask_for_address(&bench, &own, NEW_ADDRESS).await.unwrap();
    assert!(bench.login(NEW_ADDRESS, PASSWORD, None).await.is_err());
    // A second address closes the link to the first, and what was asked for before.
    let first = token(&bench, Kind::EmailChange).await;
    ask_for_address(&bench, &own, "ADA@elsewhere.example").await.unwrap();
    let link = token(&bench, Kind::EmailChange).await;
    for closed in [&first, &old_reset] {
        assert!(matches!(
            confirm(&anonymous(), &bench.state, closed).await,
            Err(Error::LinkInvalid)
        ));
    }
    ask(&bench, &house.email).await;
    let late_reset = token(&bench, Kind::PasswordReset).await;
    confirm(&anonymous(), &bench.state, &link).await.unwrap();
    assert!(matches!(
        confirm(&anonymous(), &bench.state, &link).await,
        Err(Error::LinkInvalid)
    ));
    assert!(bench.login(&house.email, PASSWORD, None).await.is_err());
    assert!(bench.login(NEW_ADDRESS, PASSWORD, None).await.is_ok());
    assert_eq!(
        bench.standing(&own).await,
        Standing::Good,
        "who changed it stays logged in"
    );
    let stale = reset(&anonymous(), &bench.state, &to(&late_reset, OTHER)).await;
    assert!(
        matches!(stale, Err(Error::LinkInvalid)),
        "what the old mailbox holds opens nothing"
    );
    let told = mails(&bench).await;
    assert_eq!(
        (told[0].kind, told[0].email.as_str()),
        (Kind::EmailChanged, house.email.as_str())
    );
    let named = format!(
        "SELECT count(*) FROM auth.audit AS a WHERE a::text ILIKE '%{}%' OR a::text ILIKE '%{NEW_ADDRESS}%'",
        house.email
    );
    assert_eq!(bench.count(&named).await, 0, "the audit log holds no addresses");
}

#[tokio::test]
async fn a_tenant_that_was_joined_after_the_link_was_asked_for_is_asked_when_it_is_followed() {
    let (bench, house, own) = start("email_policy").await;
    ask_for_address(&bench, &own, NEW_ADDRESS).await.unwrap();
    let link = token(&bench, Kind::EmailChange).await;
    let strict = bench.house("globex").await;
    let takes = |domains: &str| {
        format!(
            "INSERT INTO auth.login_policies (tenant_id, mail_domains) VALUES ('{}', '{domains}')
             ON CONFLICT (tenant_id) DO UPDATE SET mail_domains = excluded.mail_domains",
            strict.tenant.uuid()
        )
    };
    bench.execute(&takes("{acme.example}")).await;
    bench.member(&strict, &house.email, Role::User).await;
    let refused = confirm(&anonymous(), &bench.state, &link).await;
    assert!(
        matches!(refused, Err(Error::Field { field: "token", .. })),
        "{refused:?}"
    );
    assert!(bench.login(NEW_ADDRESS, PASSWORD, Some(house.tenant)).await.is_err());
    assert!(bench.login(&house.email, PASSWORD, Some(house.tenant)).await.is_ok());
    // The link was not used up.
    bench.execute(&takes("{acme.example,elsewhere.example}")).await;
    confirm(&anonymous(), &bench.state, &link).await.unwrap();
    assert!(bench.login(NEW_ADDRESS, PASSWORD, Some(house.tenant)).await.is_ok());
}

#[tokio::test]
async fn a_tenant_that_has_disabled_the_member_is_asked_and_one_that_has_removed_them_is_not() {
    let (bench, house, own) = start("email_disabled").await;
    let strict = bench.house("globex").await;
    bench.member(&strict, &house.email, Role::User).await;
    ask_for_address(&bench, &own, NEW_ADDRESS).await.unwrap();
    let link = token(&bench, Kind::EmailChange).await;
    let is = |state: &str| {
        format!(
            "UPDATE auth.memberships SET state = '{state}' WHERE tenant_id = '{tenant}' AND identity_id = '{person}';
             INSERT INTO auth.login_policies (tenant_id, mail_domains) VALUES ('{tenant}', '{{acme.example}}')
             ON CONFLICT (tenant_id) DO NOTHING",
            tenant = strict.tenant.uuid(),
            person = house.admin.uuid()
        )
    };
    bench.execute(&is("disabled")).await;
    let refused = confirm(&anonymous(), &bench.state, &link).await;
    assert!(
        matches!(refused, Err(Error::Field { field: "token", .. })),
        "{refused:?}"
    );
    bench.execute(&is("removed")).await;
    confirm(&anonymous(), &bench.state, &link).await.unwrap();
}

#[tokio::test]
async fn an_address_of_another_account_is_neither_given_nor_told() {
    let (bench, house, own) = start("email_taken").await;
    let neighbour = bench.house("globex").await;
    ask_for_address(&bench, &own, &neighbour.email).await.unwrap();
    assert!(
        mails(&bench).await.is_empty(),
        "no mail goes to an address that is another account's"
    );
    // It becomes another's between the mail and the link.
    ask_for_address(&bench, &own, NEW_ADDRESS).await.unwrap();
    let link = token(&bench, Kind::EmailChange).await;
    bench.member(&neighbour, NEW_ADDRESS, Role::User).await;
    let refused = confirm(&anonymous(), &bench.state, &link).await;
    assert!(matches!(refused, Err(Error::EmailTaken)), "{refused:?}");
    assert!(
        bench.login(&house.email, PASSWORD, Some(house.tenant)).await.is_ok(),
        "nothing has changed"
    );
}

#[tokio::test]
async fn the_own_address_a_wrong_password_and_too_many_mails_are_refused() {
    let (bench, house, own) = start("email_refused").await;
    let same = ask_for_address(&bench, &own, &house.email.to_uppercase()).await;
    assert!(matches!(same, Err(Error::Field { field: "new_email", .. })), "{same:?}");
    let wrong = EmailChange {
        new: NEW_ADDRESS.parse().unwrap(),
        current: OfferedPassword::parse(OTHER).unwrap(),
        code: None,
    };
    let wrong = change_email(&Bench::ctx_in(&own), &bench.state, &wrong).await;
    assert!(
        matches!(
            wrong,
            Err(Error::Field {
                field: "current_password",
                ..
            })
        ),
        "{wrong:?}"
    );
    for _ in 0..PER_HOUR_MAX {
        ask_for_address(&bench, &own, NEW_ADDRESS).await.unwrap();
    }
    let more = ask_for_address(&bench, &own, NEW_ADDRESS).await.unwrap_err();
    let failure = Failure::from(more);
    assert_eq!(failure.reason(), Reason::TooManyAttempts);
    let outside = crate::tests::bench::service_ctx();
    assert!(matches!(session::manage::caller(&outside), Err(Error::Revoked)));
}

#[tokio::test]
async fn old_mails_are_forgotten() {
    let (bench, house, _) = start("account_mail_prune").await;
    for age in ["2 days", "2 hours"] {
        ask(&bench, &house.email).await;
        let aged =
            format!("UPDATE auth.account_mails SET expires_at = now() - interval '{age}' WHERE expires_at > now()");
        bench.execute(&aged).await;
    }
    crate::housekeeping::tidy(&bench.state).await.unwrap();
    assert_eq!(bench.count("SELECT count(*) FROM auth.account_mails").await, 1);
}

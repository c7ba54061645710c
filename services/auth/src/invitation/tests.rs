//! Invitations on a real database.

mod failed;

use futures_util::future::join_all;
use rowhouse_auth_kit::Role;
use rowhouse_context::Ctx;
use rowhouse_types::{InvitationId, TenantId};

use super::accept;
use crate::error::Error;
use crate::identity::{Hasher, OfferedPassword};
use crate::link::Token;
use crate::member::{self, Invite};
use crate::rights::{Query, Standing};
use crate::role::TenantRole;
use crate::tenant::{self, Access};
use crate::tests::bench::{Bench, PASSWORD, acceptance, anonymous, founding, service_ctx};
use crate::{identity, mail, random, session};

/// Acceptances at once of one invitation.
const RACERS: usize = 8;

/// Another word for everybody's password.
const OTHER: &str = "another password";

async fn found(bench: &Bench, email: &str) -> (TenantId, InvitationId) {
    let founding = founding(TenantId::generate(), email);
    let sent = tenant::actions::create_first_administrator(&service_ctx(), &bench.state, &founding).await;
    (founding.tenant, sent.unwrap())
}

#[tokio::test]
async fn an_invitation_is_good_for_one_of_many_at_once() {
    let bench = Bench::start("invitation_race").await;
    let (tenant, invitation) = found(&bench, "ada@acme.example").await;
    let mail = mail::actions::invitation_mail(&service_ctx(), &bench.state, invitation)
        .await
        .unwrap();
    let calls = (0..RACERS).map(|_| {
        let (state, acceptance) = (bench.state.clone(), acceptance(mail.token.clone(), PASSWORD));
        tokio::spawn(async move { accept(&anonymous(), &state, &acceptance).await })
    });
    let answers = join_all(calls.collect::<Vec<_>>()).await;
    let (joined, refused): (Vec<_>, Vec<_>) = answers
        .into_iter()
        .map(|answer| answer.unwrap())
        .partition(Result::is_ok);
    assert_eq!((joined.len(), refused.len()), (1, RACERS - 1));
    assert!(
        refused
            .iter()
            .all(|answer| matches!(answer, Err(Error::InvitationInvalid)))
    );
    for table in ["identities", "memberships"] {
        assert_eq!(
            bench.count(&format!("SELECT count(*) FROM auth.{table}")).await,
            1,
            "{table}"
        );
    }
    assert_eq!(joined[0].as_ref().unwrap().tenant, tenant);
}

#[tokio::test]
async fn used_expired_replaced_and_unknown_ones_are_answered_alike() {
    let bench = Bench::start("invitation_alike").await;
    let (_, used) = found(&bench, "used@acme.example").await;
    let (_, expired) = found(&bench, "expired@acme.example").await;
    let mut tokens = Vec::new();
    for invitation in [used, expired] {
        let mail = mail::actions::invitation_mail(&service_ctx(), &bench.state, invitation)
            .await
            .unwrap();
        tokens.push(mail.token);
    }
    bench.accept(used, PASSWORD).await.unwrap();
    bench
        .execute("UPDATE auth.invitations SET expires_at = now() WHERE email LIKE 'expired%'")
        .await;
    tokens.push(Token::parse(&random::text().unwrap()).unwrap());
    for token in tokens {
        let answer = accept(&anonymous(), &bench.state, &acceptance(token, PASSWORD)).await;
        assert!(matches!(answer, Err(Error::InvitationInvalid)), "{answer:?}");
    }
    for closed in [used, expired] {
        let mail = mail::actions::invitation_mail(&service_ctx(), &bench.state, closed).await;
        assert!(matches!(mail, Err(Error::NotFound { .. })), "{mail:?}");
    }
}

#[tokio::test]
async fn a_person_who_has_an_account_proves_it_and_keeps_it() {
    let bench = Bench::start("invitation_existing").await;
    let house = bench.house("acme").await;
    let (tenant, invitation) = found(&bench, &house.email.to_uppercase()).await;
    let wrong = bench.accept(invitation, OTHER).await;
    assert!(matches!(wrong, Err(Error::LoginFailed)), "{wrong:?}");
    let joined = bench.accept(invitation, PASSWORD).await.unwrap();
    assert_eq!((joined.user, joined.tenant), (house.admin, tenant));
    assert_eq!(bench.count("SELECT count(*) FROM auth.identities").await, 1);
    assert_eq!(bench.count("SELECT count(*) FROM auth.memberships").await, 2);
}

/// Twelve characters were enough once: an account keeps what it has, and a new one gets no such password.
#[tokio::test]
async fn a_short_password_is_good_for_the_account_that_has_it_and_for_no_new_one() {
    const SHORT: &str = "twelve chars";
    let bench = Bench::start("invitation_short").await;
    let house = bench.house("acme").await;
    let hash = Hasher::older(SHORT);
    let mut conn = bench.state.connection().await.unwrap();
    identity::set_password(&mut conn, house.admin, &hash).await.unwrap();
    drop(conn);
    assert!(bench.login(&house.email, SHORT, None).await.is_ok());
    let (tenant, known) = found(&bench, &house.email).await;
    let joined = bench.accept(known, SHORT).await.unwrap();
    assert_eq!((joined.user, joined.tenant), (house.admin, tenant));

    let (_, new) = found(&bench, "ada@acme.example").await;
    let before = bench.state.hasher.runs();
    let refused = bench.accept(new, SHORT).await;
    assert!(
        matches!(&refused, Err(Error::Field { field: "password", description }) if description.contains("15")),
        "{refused:?}"
    );
    assert_eq!(bench.state.hasher.runs(), before, "what is too short is not hashed");
    assert!(bench.accept(new, PASSWORD).await.is_ok());
}

#[tokio::test]
async fn a_new_password_is_not_the_name_of_who_invites() {
    let bench = Bench::start("invitation_name").await;
    let (tenant, invitation) = found(&bench, "ada@acme.example").await;
    let name = format!(
        "UPDATE auth.tenants SET display_name = 'Harbour Tea Company' WHERE id = '{}'",
        tenant.uuid()
    );
    bench.execute(&name).await;
    let refused = bench.accept(invitation, "harbour tea company").await;
    assert!(
        matches!(refused, Err(Error::Field { field: "password", .. })),
        "{refused:?}"
    );
    // The control: to another tenant it is any sentence.
    let (_, other) = found(&bench, "bob@acme.example").await;
    assert!(bench.accept(other, "harbour tea company").await.is_ok());
}

#[tokio::test]
async fn an_account_that_gets_another_address_meanwhile_does_not_join() {
    let bench = Bench::start("invitation_moved").await;
    let house = bench.house("acme").await;
    let (tenant, invitation) = found(&bench, &house.email).await;
    let mail = mail::actions::invitation_mail(&service_ctx(), &bench.state, invitation).await;
    let acceptance = acceptance(mail.unwrap().token, PASSWORD);
    let mut moving = bench.superuser.begin().await.unwrap();
    sqlx::query("UPDATE auth.identities SET email = 'ada@elsewhere.example' WHERE id = $1")
        .bind(house.admin.uuid())
        .execute(&mut *moving)
        .await
        .unwrap();
    let state = bench.state.clone();
    let mut accepting = tokio::spawn(async move { accept(&anonymous(), &state, &acceptance).await });
    bench.until_it_waits(&mut accepting).await;
    moving.commit().await.unwrap();
    let joined = accepting.await.unwrap().unwrap();
    assert_eq!(joined.tenant, tenant);
    assert_ne!(
        joined.user, house.admin,
        "whoever has the mailbox now has an account of their own"
    );
    let theirs = format!(
        "SELECT count(*) FROM auth.memberships WHERE identity_id = '{}'",
        house.admin.uuid()
    );
    assert_eq!(bench.count(&theirs).await, 1);
}

/// How many of ten guesses at the account of an invitation are looked at, from one address.
async fn guesses(bench: &Bench, invitation: InvitationId, forgets: bool) -> usize {
    let mail = mail::actions::invitation_mail(&service_ctx(), &bench.state, invitation)
        .await
        .unwrap();
    let mut looked_at = 0;
    for _ in 0..10 {
        let guess = acceptance(mail.token.clone(), OTHER);
        match accept(&from("192.0.2.1"), &bench.state, &guess).await {
            Err(Error::LoginFailed) => looked_at += 1,
            Err(Error::TooManyAttempts { .. }) => {}
            other => panic!("{other:?}"),
        }
        if forgets {
            bench.execute("DELETE FROM auth.attempts").await;
        }
    }
    looked_at
}

fn from(address: &str) -> Ctx {
    anonymous().with_origin(None, Some(address.to_owned()))
}

#[tokio::test]
async fn who_has_the_link_does_not_guess_the_accounts_password_either() {
    let bench = Bench::start("invitation_guess").await;
    let house = bench.house("acme").await;
    let (tenant, invitation) = found(&bench, &house.email.to_uppercase()).await;
    let before = bench.state.hasher.runs();
    // As at a log-in: five are free, and the sixth is looked at too.
    assert_eq!(guesses(&bench, invitation, false).await, 6);
    assert_eq!(bench.state.hasher.runs() - before, 6, "what is refused is not hashed");
    // They count as guesses at the account, whichever way the next comes.
    let attempt = |password| session::Attempt {
        email: house.email.parse().unwrap(),
        password: OfferedPassword::parse(password).unwrap(),
        tenant: Some(house.tenant),
        second_factor: None,
        device: None,
    };
    let login = session::actions::login(&from("192.0.2.1"), &bench.state, &attempt(PASSWORD)).await;
    assert!(matches!(login, Err(Error::TooManyAttempts { .. })));
    let counts = "SELECT count(*) FROM auth.attempts";
    assert_eq!(
        bench.count(counts).await,
        4,
        "both together, the address, the account, the organisation"
    );
    // The owner is elsewhere, and what they did right is not held against anybody.
    let joined = bench.accept(invitation, PASSWORD).await.unwrap();
    assert_eq!((joined.user, joined.tenant), (house.admin, tenant));
    let levels = "SELECT round(sum(level))::bigint FROM auth.attempts";
    assert!(bench.count(levels).await <= 24, "four counts of six");
}

/// The control: where guesses are forgotten, all are looked at.
#[tokio::test]
async fn where_guesses_at_an_invitation_are_forgotten_all_are_looked_at() {
    let bench = Bench::start("invitation_guess_control").await;
    let house = bench.house("acme").await;
    let (_, invitation) = found(&bench, &house.email).await;
    assert_eq!(guesses(&bench, invitation, true).await, 10);
}

#[tokio::test]
async fn an_account_that_comes_into_being_meanwhile_must_prove_itself_too() {
    let bench = Bench::start("invitation_meanwhile").await;
    let mut calls = Vec::new();
    for password in [PASSWORD, OTHER] {
        let (_, invitation) = found(&bench, "ada@acme.example").await;
        let mail = mail::actions::invitation_mail(&service_ctx(), &bench.state, invitation)
            .await
            .unwrap();
        let (state, acceptance) = (bench.state.clone(), acceptance(mail.token, password));
        calls.push(tokio::spawn(
            async move { accept(&anonymous(), &state, &acceptance).await },
        ));
    }
    let answers = join_all(calls).await;
    let joined = answers.iter().filter(|answer| answer.as_ref().unwrap().is_ok()).count();
    assert_eq!(joined, 1, "{answers:?}");
    let refused = answers.into_iter().find_map(|answer| answer.unwrap().err()).unwrap();
    assert!(matches!(refused, Error::LoginFailed), "{refused:?}");
    assert_eq!(bench.count("SELECT count(*) FROM auth.memberships").await, 1);
}

#[tokio::test]
async fn who_waits_for_an_account_of_the_same_address_keeps_nobody_from_the_tenant() {
    let bench = Bench::start("invitation_order").await;
    let (_, invitation) = found(&bench, "ada@acme.example").await;
    let mail = mail::actions::invitation_mail(&service_ctx(), &bench.state, invitation).await;
    let acceptance = acceptance(mail.unwrap().token, PASSWORD);
    let mut making = bench.superuser.begin().await.unwrap();
    sqlx::raw_sql(
        "INSERT INTO auth.identities (id, email, display_name, password_hash)
            VALUES (gen_random_uuid(), 'ada@acme.example', 'Ada', 'none')",
    )
    .execute(&mut *making)
    .await
    .unwrap();
    let state = bench.state.clone();
    let mut accepting = tokio::spawn(async move { accept(&anonymous(), &state, &acceptance).await });
    bench.until_it_waits(&mut accepting).await;
    // Else whoever makes an account and then waits for the tenant would wait in a circle with it.
    for rows in ["auth.tenants", "auth.invitations"] {
        let look = sqlx::AssertSqlSafe(format!("SELECT FROM {rows} FOR UPDATE NOWAIT"));
        sqlx::raw_sql(look).execute(&mut *making).await.unwrap();
    }
    making.rollback().await.unwrap();
    accepting.await.unwrap().unwrap();
}

#[tokio::test]
async fn the_link_is_kept_nowhere_and_the_event_names_only_the_invitation() {
    let bench = Bench::start("invitation_secret").await;
    let (tenant, invitation) = found(&bench, "ada@acme.example").await;
    let mail = mail::actions::invitation_mail(&service_ctx(), &bench.state, invitation)
        .await
        .unwrap();
    assert_eq!(
        (mail.email.as_str(), mail.tenant_name.as_str()),
        ("ada@acme.example", "Acme")
    );
    assert!(!bench.dump().await.contains(mail.token.expose()));
    let (kind, of, payload): (String, uuid::Uuid, serde_json::Value) =
        sqlx::query_as("SELECT kind, tenant_id, payload FROM auth.outbox")
            .fetch_one(&bench.superuser)
            .await
            .unwrap();
    assert_eq!((kind.as_str(), of), ("auth.invitation_created.v1", tenant.uuid()));
    assert_eq!(payload, serde_json::json!({ "invitation_id": invitation.to_string() }));
    let elsewhere = bench.with_master_keys("B").await;
    let refused = mail::actions::invitation_mail(&service_ctx(), &elsewhere, invitation).await;
    assert!(
        matches!(refused, Err(Error::Fault(_))),
        "a link that nobody could use is not mailed"
    );
}

#[tokio::test]
async fn a_newer_invitation_of_the_same_address_replaces_the_older() {
    let bench = Bench::start("invitation_newer").await;
    let house = bench.house("acme").await;
    let ctx = bench.ctx_of(house.admin, house.tenant).await;
    let mut sent = Vec::new();
    for role in [Role::TenantAdmin, Role::User] {
        let invite = Invite {
            email: "ada@acme.example".parse().unwrap(),
            role: TenantRole::BuiltIn(role),
            request: None,
        };
        sent.push(member::actions::invite(&ctx, &bench.state, &invite).await.unwrap());
    }
    assert!(matches!(
        bench.accept(sent[0].id, PASSWORD).await,
        Err(Error::NotFound { .. })
    ));
    let joined = bench.accept(sent[1].id, PASSWORD).await.unwrap();
    let member = member::actions::get(&ctx, &bench.state, joined.user).await.unwrap();
    assert_eq!(member.role, TenantRole::BuiltIn(Role::User));
}

#[tokio::test]
async fn an_old_link_enables_nobody_again() {
    let bench = Bench::start("invitation_disabled").await;
    let house = bench.house("acme").await;
    let user = bench.member(&house, "ada@acme.example", Role::User).await;
    bench
        .execute("UPDATE auth.memberships SET state = 'disabled' WHERE role = 'user'")
        .await;
    // A second founding invites the same address once more.
    let founding = founding(house.tenant, "ada@acme.example");
    let sent = tenant::actions::create_first_administrator(&service_ctx(), &bench.state, &founding)
        .await
        .unwrap();
    assert_eq!(bench.accept(sent, PASSWORD).await.unwrap().user, user);
    let query = Query {
        user,
        session: None,
        tenant: Some(house.tenant),
        platform: false,
        key: None,
        by: None,
    };
    assert_eq!(bench.rights(query).await.standing, Standing::Revoked);
}

#[tokio::test]
async fn nobody_joins_a_suspended_tenant() {
    let bench = Bench::start("invitation_suspended").await;
    let (tenant, invitation) = found(&bench, "ada@acme.example").await;
    bench.set_access(tenant, Access::Suspended).await;
    assert!(matches!(
        bench.accept(invitation, PASSWORD).await,
        Err(Error::TenantSuspended)
    ));
    bench.set_access(tenant, Access::Allowed).await;
    assert!(
        bench.accept(invitation, PASSWORD).await.is_ok(),
        "a refusal uses nothing up"
    );
}

#[tokio::test]
async fn invitations_go_ninety_days_after_their_time_but_for_those_of_operations() {
    let bench = Bench::start("invitation_prune").await;
    let house = bench.house("acme").await;
    for email in ["old@acme.example", "open@acme.example", "young@acme.example"] {
        bench.member(&house, email, Role::User).await;
    }
    bench
        .execute(
            "UPDATE auth.invitations SET expires_at = now() - interval '91 days' WHERE email NOT LIKE 'young%';
             UPDATE auth.invitations SET expires_at = now() - interval '89 days' WHERE email LIKE 'young%';
             UPDATE auth.invitations SET state = 'open', accepted_by = NULL WHERE email LIKE 'open%'",
        )
        .await;
    crate::housekeeping::tidy(&bench.state).await.unwrap();
    let left: Vec<String> = sqlx::query_scalar("SELECT email FROM auth.invitations ORDER BY email")
        .fetch_all(&bench.superuser)
        .await
        .unwrap();
    assert_eq!(left, ["admin@acme.example", "young@acme.example"]);
}

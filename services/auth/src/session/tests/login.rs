//! Who gets in, and what those hear who do not.

use std::time::Duration;

use rowhouse_auth_kit::{AccessTokenVerifier, Role, VerifiedToken};
use rowhouse_context::Principal;
use rowhouse_status::Failure;
use rowhouse_types::TenantId;

use crate::error::Error;
use crate::identity::OfferedPassword;
use crate::key::{self, Schedule};
use crate::rights::Standing;
use crate::session::{Attempt, Pair, actions};
use crate::tenant::{self, Access};
use crate::tests::bench::{Bench, CONNECTIONS, PASSWORD, SCHEDULE, ctx, founding, service_ctx};
use crate::tests::statements::Statements;

/// What a service takes from a pair's access token that has just read the keys.
async fn verified(bench: &Bench, pair: &Pair) -> VerifiedToken {
    let verifier = AccessTokenVerifier::new("rowhouse");
    let keys = key::published(&bench.state).await.unwrap();
    verifier.set_keys(keys.into_iter().map(|published| (published.kid, published.key)));
    verifier.verify(&pair.access_token).unwrap()
}

#[tokio::test]
async fn a_member_gets_a_token_that_every_service_can_verify() {
    let bench = Bench::start("login_token").await;
    let house = bench.house("acme").await;
    let pair = bench.login(&house.email, PASSWORD, None).await.unwrap();
    assert_eq!(
        (pair.session.user, pair.session.tenant),
        (house.admin, Some(house.tenant))
    );

    let verified = verified(&bench, &pair).await;
    let Principal::Member { user, session, tenant } = verified.principal else {
        panic!("not a member")
    };
    assert_eq!((user, session, tenant), (house.admin, pair.session.id, house.tenant));
    assert_eq!(u64::try_from(pair.expires.timestamp()).unwrap(), verified.expires_at_s);
}

/// Each is a round trip; beside them there are BEGIN, and one for each of two connections when it is given back.
#[tokio::test]
async fn a_log_in_where_the_person_or_the_device_is_known_sends_seven_statements() {
    let bench = Bench::start("login_statements").await;
    let house = bench.house("acme").await;
    let mut attempt = Attempt {
        email: house.email.parse().unwrap(),
        password: OfferedPassword::parse(PASSWORD).unwrap(),
        tenant: None,
        second_factor: None,
        device: None,
    };
    let call = ctx(Principal::Anonymous, None).with_origin(None, Some("192.0.2.1".to_owned()));
    let statements = Statements::listen();
    // From then on they are known there.
    actions::login(&call, &bench.state, &attempt).await.unwrap();
    let first = statements.take();
    let pair = actions::login(&call, &bench.state, &attempt).await.unwrap();
    let sent = statements.take();
    assert_eq!(sent.len(), 7, "{sent:?}");
    // The control: to count a stranger takes more, and that is seen.
    assert!(first.len() > sent.len(), "{first:?}");
    attempt.device = pair.device;
    actions::login(&call, &bench.state, &attempt).await.unwrap();
    let sent = statements.take();
    assert_eq!(sent.len(), 7, "{sent:?}");
}

/// Whoever replaces a key does not know which process has opened the one before.
#[tokio::test]
async fn a_log_in_is_signed_with_the_key_that_signs_then() {
    let bench = Bench::start("login_key").await;
    let house = bench.house("acme").await;
    let signed_by = async || {
        let pair = bench.login(&house.email, PASSWORD, None).await.unwrap();
        verified(&bench, &pair).await.key.as_str().to_owned()
    };
    let active = async || -> String {
        let kid = "SELECT kid FROM auth.signing_keys WHERE state = 'active'";
        sqlx::query_scalar(kid).fetch_one(&bench.superuser).await.unwrap()
    };
    // The first log-in makes the key.
    let first = signed_by().await;
    assert_eq!((signed_by().await, active().await), (first.clone(), first.clone()));
    let at_once = Schedule {
        published: Duration::ZERO,
        ..SCHEDULE
    };
    let other = bench.scheduled(at_once).await;
    key::actions::rotate(&service_ctx(), &other).await.unwrap();
    let second = signed_by().await;
    assert_eq!(second, active().await);
    // The control: it is another one.
    assert_ne!(first, second);
}

#[tokio::test]
async fn a_log_in_needs_one_connection_at_a_time() {
    let bench = Bench::start("login_one_connection").await;
    let house = bench.house("acme").await;
    let mut held = Vec::new();
    for _ in 1..CONNECTIONS {
        held.push(bench.state.connection().await.unwrap());
    }
    bench.login(&house.email, PASSWORD, None).await.unwrap();
    bench.execute("UPDATE auth.tenants SET access = 'suspended'").await;
    let refused = bench.login(&house.email, PASSWORD, None).await.map(drop);
    assert!(matches!(refused, Err(Error::TenantSuspended)), "{refused:?}");
    // The control: there was one.
    held.push(bench.state.connection().await.unwrap());
    assert!(bench.state.db.pool().try_acquire().is_none());
}

/// One keyboard gives a letter with its mark as one character, another as two.
#[tokio::test]
async fn a_password_is_set_on_one_system_and_typed_on_another() {
    const COMPOSED: &str = "zw\u{f6}lf kleine Zeichen";
    const DECOMPOSED: &str = "zwo\u{308}lf kleine Zeichen";
    let bench = Bench::start("login_forms").await;
    let house = bench.house("acme").await;
    let founding = founding(TenantId::generate(), "ines@acme.example");
    let sent = tenant::actions::create_first_administrator(&service_ctx(), &bench.state, &founding).await;
    bench.accept(sent.unwrap(), DECOMPOSED).await.unwrap();
    bench.set_access(founding.tenant, Access::Allowed).await;
    for typed in [COMPOSED, DECOMPOSED] {
        assert!(bench.login("ines@acme.example", typed, None).await.is_ok(), "{typed:?}");
    }
    // Two forms are two hashes, whoever it is.
    for email in ["ines@acme.example", house.email.as_str(), "nobody@acme.example"] {
        for (wrong, hashes) in [("zw\u{f6}lf grosse Zeichen", 1), ("zwo\u{308}lf grosse Zeichen", 2)] {
            bench.execute("DELETE FROM auth.attempts").await;
            let before = bench.state.hasher.runs();
            let error = bench.login(email, wrong, None).await.map(drop).unwrap_err();
            assert!(matches!(error, Error::LoginFailed), "{error:?}");
            assert_eq!(bench.state.hasher.runs() - before, hashes, "{email} {wrong:?}");
        }
    }
}

#[tokio::test]
async fn an_unknown_account_a_wrong_password_and_another_tenant_are_answered_alike() {
    let bench = Bench::start("login_alike").await;
    let house = bench.house("acme").await;
    let neighbour = bench.house("globex").await;
    let tries = [
        ("nobody@acme.example", PASSWORD, None),
        (house.email.as_str(), "wrong horse battery", None),
        (house.email.as_str(), "wrong horse battery", Some(house.tenant)),
        (house.email.as_str(), PASSWORD, Some(neighbour.tenant)),
        (house.email.as_str(), PASSWORD, Some(TenantId::generate())),
    ];
    let mut answers = Vec::new();
    for (email, password, tenant) in tries {
        let before = bench.state.hasher.runs();
        let error = bench.login(email, password, tenant).await.map(drop).unwrap_err();
        assert_eq!(bench.state.hasher.runs() - before, 1, "each costs one hash: {email}");
        answers.push(format!("{:?}", Failure::from(error)));
    }
    assert!(
        answers
            .iter()
            .all(|answer| *answer == answers[0] && answer.contains("LoginFailed")),
        "{answers:?}"
    );
    assert_eq!(bench.count("SELECT count(*) FROM auth.sessions").await, 0);
}

#[tokio::test]
async fn an_address_is_the_same_in_any_case() {
    let bench = Bench::start("login_case").await;
    bench.house("acme").await;
    assert!(bench.login("ADMIN@Acme.Example", PASSWORD, None).await.is_ok());
}

#[tokio::test]
async fn a_suspended_tenant_is_told_only_to_those_who_know_the_password() {
    let bench = Bench::start("login_suspended").await;
    let house = bench.house("acme").await;
    bench.set_access(house.tenant, Access::Suspended).await;
    let wrong = bench
        .login(&house.email, "wrong horse battery", Some(house.tenant))
        .await;
    assert!(matches!(wrong, Err(Error::LoginFailed)));
    let right = bench.login(&house.email, PASSWORD, Some(house.tenant)).await;
    assert!(matches!(right, Err(Error::TenantSuspended)));
    bench.set_access(house.tenant, Access::Allowed).await;
    assert!(bench.login(&house.email, PASSWORD, None).await.is_ok());
}

#[tokio::test]
async fn who_belongs_to_several_tenants_must_name_one() {
    let bench = Bench::start("login_several").await;
    let (one, two) = (bench.house("acme").await, bench.house("globex").await);
    bench.member(&one, &two.email, Role::User).await;
    let unnamed = bench.login(&two.email, PASSWORD, None).await;
    assert!(matches!(unnamed, Err(Error::TenantChoiceRequired)));
    let wrong = bench.login(&two.email, "wrong horse battery", None).await;
    assert!(
        matches!(wrong, Err(Error::LoginFailed)),
        "only who knows the password hears of tenants"
    );
    for tenant in [one.tenant, two.tenant] {
        let pair = bench.login(&two.email, PASSWORD, Some(tenant)).await.unwrap();
        assert_eq!((pair.session.user, pair.session.tenant), (two.admin, Some(tenant)));
    }
}

#[tokio::test]
async fn an_operator_logs_in_to_the_platform_and_a_disabled_account_nowhere() {
    let bench = Bench::start("login_operator").await;
    let house = bench.house("acme").await;
    let password = bench.operator("root@rowhouse.example").await;
    let pair = bench.login("root@rowhouse.example", &password, None).await.unwrap();
    assert_eq!(pair.session.tenant, None);
    let there = bench
        .login("root@rowhouse.example", &password, Some(house.tenant))
        .await;
    assert!(matches!(there, Err(Error::LoginFailed)), "an operator is no member");
    bench.execute("UPDATE auth.identities SET state = 'disabled'").await;
    for (email, password) in [("root@rowhouse.example", password.as_str()), (&house.email, PASSWORD)] {
        assert!(
            matches!(bench.login(email, password, None).await, Err(Error::LoginFailed)),
            "{email}"
        );
    }
}

#[tokio::test]
async fn who_am_i_tells_roles_and_permissions() {
    let bench = Bench::start("login_whoami").await;
    let house = bench.house("acme").await;
    let pair = bench.login(&house.email, PASSWORD, None).await.unwrap();
    let principal = Principal::Member {
        user: house.admin,
        session: pair.session.id,
        tenant: house.tenant,
    };
    let identity = actions::who_am_i(&ctx(principal, Some(house.tenant)), &bench.state)
        .await
        .unwrap();
    assert_eq!((identity.person.id, identity.person.email), (house.admin, house.email));
    assert_eq!(
        (identity.tenant, identity.session),
        (Some(house.tenant), Some(pair.session.id))
    );
    assert_eq!(identity.rights.role.as_deref(), Some("tenant_admin"));
}

#[tokio::test]
async fn logging_out_ends_the_session_and_is_repeatable() {
    let bench = Bench::start("login_logout").await;
    let house = bench.house("acme").await;
    let pair = bench.login(&house.email, PASSWORD, None).await.unwrap();
    let other = bench.login(&house.email, PASSWORD, None).await.unwrap();
    let principal = Principal::Member {
        user: house.admin,
        session: pair.session.id,
        tenant: house.tenant,
    };
    for _ in 0..2 {
        actions::logout(&ctx(principal.clone(), Some(house.tenant)), &bench.state)
            .await
            .unwrap();
    }
    assert_eq!(bench.standing(&pair).await, Standing::Revoked);
    assert_eq!(bench.standing(&other).await, Standing::Good);
    let refreshed = crate::session::refresh::refresh(&ctx(principal, None), &bench.state, &pair.refresh_token).await;
    assert!(matches!(refreshed, Err(Error::RefreshTokenInvalid)));
    assert_eq!(
        bench
            .count("SELECT count(*) FROM auth.audit WHERE action = 'session.end'")
            .await,
        1
    );
}

#[tokio::test]
async fn nothing_secret_is_kept_in_the_clear() {
    let bench = Bench::start("login_secrets").await;
    let house = bench.house("acme").await;
    let pair = bench.login(&house.email, PASSWORD, None).await.unwrap();
    let dump = bench.dump().await;
    assert!(dump.contains(&house.email), "the control: what is kept is seen");
    for secret in [PASSWORD, pair.refresh_token.expose(), &pair.access_token] {
        assert!(!dump.contains(secret));
        let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
        assert!(!dump.contains(&hex));
    }
    let found = format!(
        "SELECT count(*) FROM auth.audit AS a WHERE a::text ILIKE '%{}%'",
        house.email
    );
    assert_eq!(bench.count(&found).await, 0, "the audit log holds no addresses");
}

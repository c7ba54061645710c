//! Policies about log-ins on a real database: what they bind, and from when on.

use std::time::Duration;

use rowhouse_auth_kit::Role;
use rowhouse_context::{Ctx, Principal};
use rowhouse_types::Etag;

use super::actions::{get, update};
use super::{Change, LoginPolicy};
use crate::account::{self, EmailChange, PasswordChange};
use crate::error::Error;
use crate::identity::{NewPassword, OfferedPassword};
use crate::member;
use crate::rights::{Query, Rights, Standing};
use crate::role::TenantRole;
use crate::session::Pair;
use crate::tests::bench::{Bench, House, PASSWORD, ctx};

const EMAIL: &str = "ada@acme.example";

async fn start(name: &str) -> (Bench, House, Ctx) {
    let bench = Bench::start(name).await;
    let house = bench.house("acme").await;
    let admin = bench.ctx_of(house.admin, house.tenant).await;
    (bench, house, admin)
}

fn asks() -> Change {
    Change {
        second_factor_required: Some(true),
        ..Change::default()
    }
}

/// As if the second factor had been shown in the session.
async fn show(bench: &Bench, ctx: &Ctx) {
    let Principal::Member { session, .. } = ctx.principal() else {
        panic!("a member");
    };
    let sql = format!(
        "UPDATE auth.sessions SET second_factor = true WHERE id = '{}'",
        session.uuid()
    );
    bench.execute(&sql).await;
}

async fn rights(bench: &Bench, pair: &Pair) -> Rights {
    let session = pair.session;
    let query = Query {
        user: session.user,
        session: Some(session.id),
        tenant: session.tenant,
        platform: false,
        key: None,
        by: None,
    };
    bench.rights(query).await
}

#[tokio::test]
async fn without_the_second_factor_that_is_asked_for_a_session_gives_nothing() {
    let (bench, house, admin) = start("policy_factor").await;
    bench.member(&house, EMAIL, Role::User).await;
    let pair = bench.login(EMAIL, PASSWORD, None).await.unwrap();
    assert_eq!(rights(&bench, &pair).await.standing, Standing::Good);
    let locked_out = update(&admin, &bench.state, &asks()).await;
    assert!(
        matches!(locked_out, Err(Error::SecondFactorNotShown)),
        "who could not act afterwards does not ask for it"
    );
    show(&bench, &admin).await;
    let policy = update(&admin, &bench.state, &asks()).await.unwrap();
    assert!(policy.second_factor_required);
    let now = rights(&bench, &pair).await;
    assert_eq!(
        (now.standing, now.grants.iter().count()),
        (Standing::SecondFactorNotShown, 0)
    );
    show(&bench, &Bench::ctx_in(&pair)).await;
    assert_eq!(rights(&bench, &pair).await.standing, Standing::Good);

    // A job that goes on for somebody has no session in which it could be shown.
    let job = Query {
        user: pair.session.user,
        session: None,
        tenant: Some(house.tenant),
        platform: false,
        key: None,
        by: None,
    };
    assert_eq!(bench.rights(job).await.standing, Standing::Good);
    // The neighbour's policy is the neighbour's.
    let neighbour = bench.house("globex").await;
    let there = bench.login(&neighbour.email, PASSWORD, None).await.unwrap();
    assert_eq!(rights(&bench, &there).await.standing, Standing::Good);
}

#[tokio::test]
async fn operators_show_the_second_factor_too_where_a_tenant_asks_for_it() {
    let (bench, house, admin) = start("policy_operator").await;
    let password = bench.operator("first@rowhouse.example").await;
    let operator = bench.login("first@rowhouse.example", &password, None).await.unwrap();
    let (user, session) = (operator.session.user, operator.session.id);
    let looks_in = Query {
        user,
        session: Some(session),
        tenant: Some(house.tenant),
        platform: true,
        key: None,
        by: None,
    };
    assert_eq!(bench.rights(looks_in).await.standing, Standing::Good);
    let there = ctx(Principal::Operator { user, session }, Some(house.tenant));
    let locked_out = update(&there, &bench.state, &asks()).await;
    assert!(
        matches!(locked_out, Err(Error::SecondFactorNotShown)),
        "who could not act afterwards does not ask for it"
    );
    show(&bench, &admin).await;
    update(&admin, &bench.state, &asks()).await.unwrap();
    let now = bench.rights(looks_in).await;
    assert_eq!(
        (now.standing, now.grants.iter().count()),
        (Standing::SecondFactorNotShown, 0)
    );
    // On the platform itself, elsewhere, and for a job that they have begun, nobody asks for it.
    let neighbour = bench.house("globex").await;
    for query in [
        Query {
            tenant: None,
            ..looks_in
        },
        Query {
            tenant: Some(neighbour.tenant),
            ..looks_in
        },
        Query {
            session: None,
            ..looks_in
        },
    ] {
        assert_eq!(bench.rights(query).await.standing, Standing::Good, "{query:?}");
    }
    let sql = format!(
        "UPDATE auth.sessions SET second_factor = true WHERE id = '{}'",
        session.uuid()
    );
    bench.execute(&sql).await;
    assert_eq!(bench.rights(looks_in).await.standing, Standing::Good);
}

#[tokio::test]
async fn a_session_gives_rights_only_for_as_long_as_the_tenant_allows() {
    let (bench, house, admin) = start("policy_lifetime").await;
    bench.member(&house, EMAIL, Role::User).await;
    let pair = bench.login(EMAIL, PASSWORD, None).await.unwrap();
    let hour = Change {
        session_lifetime: Some(Some(Duration::from_secs(3_600))),
        ..Change::default()
    };
    update(&admin, &bench.state, &hour).await.unwrap();
    assert_eq!(rights(&bench, &pair).await.standing, Standing::Good);
    bench
        .execute(&format!(
            "UPDATE auth.sessions SET created_at = created_at - interval '61 minutes' WHERE id = '{}'",
            pair.session.id.uuid()
        ))
        .await;
    assert_eq!(rights(&bench, &pair).await.standing, Standing::Revoked);
    // A session that it opens elsewhere and back is no younger.
    let unbounded = Change {
        session_lifetime: Some(None),
        ..Change::default()
    };
    update(&admin, &bench.state, &unbounded).await.unwrap();
    let beside = crate::session::manage::switch(&Bench::ctx_in(&pair), &bench.state, house.tenant)
        .await
        .unwrap();
    update(&admin, &bench.state, &hour).await.unwrap();
    assert_eq!(rights(&bench, &beside).await.standing, Standing::Revoked);
}

#[tokio::test]
async fn only_addresses_of_the_tenants_domains_come_in() {
    let (bench, house, admin) = start("policy_domains").await;
    let invite = |address: &str| member::Invite {
        email: address.parse().unwrap(),
        role: TenantRole::BuiltIn(Role::User),
        request: None,
    };
    let state = &bench.state;
    let early = member::actions::invite(&admin, state, &invite("eve@evil.example"))
        .await
        .unwrap();
    let domains = Change {
        mail_domains: Some(vec!["acme.example".parse().unwrap()]),
        ..Change::default()
    };
    update(&admin, state, &domains).await.unwrap();
    let refused = member::actions::invite(&admin, state, &invite("bob@evil.example")).await;
    assert!(matches!(refused, Err(Error::Field { field: "email", .. })));
    let refused = member::actions::resend(&admin, state, early.id).await;
    assert!(matches!(
        refused,
        Err(Error::Field {
            field: "invitation_id",
            ..
        })
    ));
    let refused = bench.accept(early.id, PASSWORD).await;
    assert!(
        matches!(refused, Err(Error::Field { field: "token", .. })),
        "sent before the policy was"
    );
    bench.member(&house, EMAIL, Role::User).await;

    let ada = Bench::ctx_in(&bench.login(EMAIL, PASSWORD, None).await.unwrap());
    let leave = |address: &str| EmailChange {
        new: address.parse().unwrap(),
        current: OfferedPassword::parse(PASSWORD).unwrap(),
        code: None,
    };
    let refused = account::email::change(&ada, state, &leave("ada@evil.example")).await;
    assert!(matches!(refused, Err(Error::Field { field: "new_email", .. })));
    account::email::change(&ada, state, &leave("countess@acme.example"))
        .await
        .unwrap();
}

#[tokio::test]
async fn members_choose_passwords_as_long_as_any_of_their_tenants_asks() {
    let (bench, house, admin) = start("policy_length").await;
    bench.member(&house, EMAIL, Role::User).await;
    let neighbour = bench.house("globex").await;
    bench.join(&neighbour, EMAIL, Role::User).await;
    let there = bench.ctx_of(neighbour.admin, neighbour.tenant).await;
    let least = |length| Change {
        password_length_min: Some(Some(length)),
        ..Change::default()
    };
    let state = &bench.state;
    update(&admin, state, &least(20)).await.unwrap();
    update(&there, state, &least(30)).await.unwrap();
    let ada = Bench::ctx_in(&bench.login(EMAIL, PASSWORD, Some(house.tenant)).await.unwrap());
    let change = |new: &str| PasswordChange {
        current: OfferedPassword::parse(PASSWORD).unwrap(),
        new: NewPassword::parse(new).unwrap(),
    };
    let short = "a fine sentence of mine, oh";
    let refused = account::password::change(&ada, state, &change(short)).await;
    assert!(
        matches!(&refused, Err(Error::Field { field: "new_password", description }) if description.contains("30")),
        "{refused:?}"
    );
    account::password::change(&ada, state, &change("a fine and much longer sentence of mine"))
        .await
        .unwrap();
    let invite = member::Invite {
        email: "bob@acme.example".parse().unwrap(),
        role: TenantRole::BuiltIn(Role::User),
        request: None,
    };
    let sent = member::actions::invite(&admin, state, &invite).await.unwrap();
    let refused = bench.accept(sent.id, "nineteen characters").await;
    assert!(matches!(refused, Err(Error::Field { field: "password", .. })));
    bench.accept(sent.id, "twenty characters or so more").await.unwrap();
}

/// The platform once asked for twelve, and so did tenants.
#[tokio::test]
async fn a_bound_that_the_platform_has_outgrown_is_none() {
    let (bench, _, admin) = start("policy_outgrown").await;
    let state = &bench.state;
    let least = Change {
        password_length_min: Some(Some(20)),
        ..Change::default()
    };
    update(&admin, state, &least).await.unwrap();
    bench
        .execute("UPDATE auth.login_policies SET password_length_min = 12")
        .await;
    assert_eq!(get(&admin, state).await.unwrap().password_length_min, None);
    let invite = member::Invite {
        email: "bob@acme.example".parse().unwrap(),
        role: TenantRole::BuiltIn(Role::User),
        request: None,
    };
    let sent = member::actions::invite(&admin, state, &invite).await.unwrap();
    let refused = bench.accept(sent.id, "fourteen chars").await;
    assert!(
        matches!(&refused, Err(Error::Field { field: "password", description }) if description.contains("15")),
        "{refused:?}"
    );
    bench.accept(sent.id, "fifteen grey gulls").await.unwrap();
}

#[tokio::test]
async fn a_policy_is_changed_as_a_whole_under_its_etag_and_is_a_change_of_rights() {
    let (bench, _, admin) = start("policy_etag").await;
    let state = &bench.state;
    assert_eq!(get(&admin, state).await.unwrap(), LoginPolicy::default());
    let version = async || bench.count("SELECT version FROM auth.rights_clock").await;
    let before = version().await;
    let stale = Change {
        password_length_min: Some(Some(16)),
        etag: Some(Etag::from_revision(1)),
        ..Change::default()
    };
    assert!(matches!(update(&admin, state, &stale).await, Err(Error::EtagMismatch)));
    let fresh = Change { etag: None, ..stale };
    let first = update(&admin, state, &fresh).await.unwrap();
    assert_eq!(first.password_length_min, Some(16));
    assert_eq!(version().await, before + 1);
    assert_eq!(update(&admin, state, &fresh).await.unwrap(), first, "nothing changed");
    assert_eq!(version().await, before + 1);
    let next = Change {
        password_length_min: Some(None),
        etag: first.written.map(|written| written.etag),
        ..Change::default()
    };
    assert_eq!(update(&admin, state, &next).await.unwrap().password_length_min, None);
    assert!(matches!(
        update(
            &admin,
            state,
            &Change {
                password_length_min: Some(Some(20)),
                ..next
            }
        )
        .await,
        Err(Error::EtagMismatch)
    ));
    let audited = "SELECT count(*) FROM auth.audit WHERE action = 'login_policy.update'";
    assert_eq!(bench.count(audited).await, 2);
    let neighbour = bench.house("globex").await;
    let there = bench.ctx_of(neighbour.admin, neighbour.tenant).await;
    assert_eq!(
        get(&there, state).await.unwrap(),
        LoginPolicy::default(),
        "the neighbour has none"
    );
}

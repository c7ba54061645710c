//! Which audit logs are told of what a person does with their account: who belongs to two tenants is seen in both, and neither
//! reads of the other.

use rowhouse_auth_kit::Role;
use rowhouse_types::{TenantId, UserId};
use serde_json::json;

use super::recovery::{NEW_ADDRESS, ask, ask_for_address, to as reset_to, token};
use super::{OTHER, start, to};
use crate::account::email::confirm;
use crate::account::password::{change, reset};
use crate::account_mail::Kind;
use crate::session::manage::{revoke, revoke_all, switch};
use crate::session::{Pair, Scope};
use crate::tests::bench::{Bench, House, PASSWORD, anonymous};
use crate::tests::logs::{from_there, in_order, line, told};

/// Somebody who is logged in to the first of their two tenants.
struct Person {
    bench: Bench,
    user: UserId,
    email: String,
    own: Pair,
    acme: TenantId,
    globex: TenantId,
}

impl Person {
    /// In two tenants, disabled in a third, and nobody in a fourth.
    async fn start(name: &str) -> Self {
        let (bench, house, _) = start(name).await;
        let (globex, initech) = (bench.house("globex").await, bench.house("initech").await);
        bench.house("umbrella").await;
        for other in [&globex, &initech] {
            bench.join(other, &house.email, Role::User).await;
        }
        let disabled = format!(
            "UPDATE auth.memberships SET state = 'disabled' WHERE tenant_id = '{}' AND identity_id = '{}';
             UPDATE auth.sessions SET revoked_at = now(), revoke_reason = 'logout' WHERE identity_id = '{}'",
            initech.tenant.uuid(),
            house.admin.uuid(),
            house.admin.uuid()
        );
        bench.execute(&disabled).await;
        let own = bench.login(&house.email, PASSWORD, Some(house.tenant)).await.unwrap();
        let House { tenant, admin, email } = house;
        Self {
            bench,
            user: admin,
            email,
            own,
            acme: tenant,
            globex: globex.tenant,
        }
    }

    async fn login(&self, tenant: TenantId) -> Pair {
        self.bench.login(&self.email, PASSWORD, Some(tenant)).await.unwrap()
    }

    /// Makes them an operator too.
    async fn promote(&self) {
        let grant = format!(
            "INSERT INTO auth.platform_grants (identity_id, role) VALUES ('{}', 'super_admin')",
            self.user.uuid()
        );
        self.bench.execute(&grant).await;
    }
}

#[tokio::test]
async fn the_end_of_a_session_stands_in_the_log_of_the_tenant_that_it_was_in() {
    let ada = Person::start("logs_revoke").await;
    let (state, user) = (&ada.bench.state, ada.user);
    let (here, there) = (ada.login(ada.acme).await.session, ada.login(ada.globex).await.session);
    ada.promote().await;
    let platform = ada.bench.login(&ada.email, PASSWORD, None).await.unwrap().session;
    let call = || from_there(Bench::ctx_in(&ada.own));

    let elsewhere = call();
    revoke(&elsewhere, state, there.id).await.unwrap();
    // From which address somebody works in one tenant, the other is not told.
    let entry = line(Some(ada.globex), "session.revoke", user, there.id).without_address();
    assert_eq!(told(&ada.bench, &elsewhere).await, [entry]);

    let beside = call();
    revoke(&beside, state, here.id).await.unwrap();
    let entry = line(Some(ada.acme), "session.revoke", user, here.id);
    assert_eq!(told(&ada.bench, &beside).await, [entry]);

    let above = call();
    revoke(&above, state, platform.id).await.unwrap();
    let entry = line(None, "session.revoke", user, platform.id);
    assert_eq!(told(&ada.bench, &above).await, [entry]);
}

#[tokio::test]
async fn of_all_sessions_that_end_each_tenant_is_told_how_many_were_its_own() {
    let ada = Person::start("logs_revoke_all").await;
    for tenant in [ada.acme, ada.globex, ada.globex] {
        ada.login(tenant).await;
    }
    let call = from_there(Bench::ctx_in(&ada.own));
    assert_eq!(revoke_all(&call, &ada.bench.state, Scope::Others).await.unwrap(), 3);
    let of = |tenant, sessions: u64| {
        let entry = line(Some(tenant), "session.revoke_all", ada.user, ada.user);
        entry.after(json!({ "scope": "others", "sessions": sessions }))
    };
    let expected = vec![of(ada.acme, 1), of(ada.globex, 2).without_address()];
    assert_eq!(told(&ada.bench, &call).await, in_order(expected));
}

#[tokio::test]
async fn who_comes_from_another_tenant_brings_no_id_of_it_along() {
    let ada = Person::start("logs_switch").await;
    let state = &ada.bench.state;
    let opened = |tenant, pair: &Pair, from: &str| {
        let entry = line(Some(tenant), "session.open", ada.user, pair.session.id);
        [entry.after(json!({ "from": from }))]
    };
    let call = from_there(Bench::ctx_in(&ada.own));
    let there = switch(&call, state, ada.globex).await.unwrap();
    assert_eq!(told(&ada.bench, &call).await, opened(ada.globex, &there, "elsewhere"));
    // In the same tenant it is told which.
    let call = from_there(Bench::ctx_in(&ada.own));
    let here = switch(&call, state, ada.acme).await.unwrap();
    let own = ada.own.session.id.to_string();
    assert_eq!(told(&ada.bench, &call).await, opened(ada.acme, &here, &own));
}

#[tokio::test]
async fn a_new_password_is_told_to_every_tenant_that_lets_the_person_in_by_it() {
    let ada = Person::start("logs_password").await;
    let state = &ada.bench.state;
    ada.login(ada.globex).await;
    let of = |tenant, action: &str, sessions: u64| {
        let entry = line(Some(tenant), action, ada.user, ada.user);
        entry.after(json!({ "sessions_ended": sessions }))
    };
    let call = from_there(Bench::ctx_in(&ada.own));
    change(&call, state, &to(PASSWORD, OTHER)).await.unwrap();
    let expected = vec![
        of(ada.acme, "password.change", 0),
        of(ada.globex, "password.change", 1).without_address(),
    ];
    assert_eq!(told(&ada.bench, &call).await, in_order(expected));

    // Who follows a link is logged in nowhere: from where, all are told, as of a log-in that has failed.
    ask(&ada.bench, &ada.email).await;
    let link = token(&ada.bench, Kind::PasswordReset).await;
    let call = from_there(anonymous());
    reset(&call, state, &reset_to(&link, PASSWORD)).await.unwrap();
    let expected = vec![of(ada.acme, "password.reset", 1), of(ada.globex, "password.reset", 0)];
    assert_eq!(told(&ada.bench, &call).await, in_order(expected));
}

#[tokio::test]
async fn a_new_address_is_told_to_every_tenant_and_stands_in_no_log() {
    let ada = Person::start("logs_address").await;
    ask_for_address(&ada.bench, &ada.own, NEW_ADDRESS).await.unwrap();
    let link = token(&ada.bench, Kind::EmailChange).await;
    let call = from_there(anonymous());
    confirm(&call, &ada.bench.state, &link).await.unwrap();
    let of = |tenant| line(Some(tenant), "email.change", ada.user, ada.user);
    let expected = vec![of(ada.acme), of(ada.globex)];
    assert_eq!(told(&ada.bench, &call).await, in_order(expected));
    let asked = "SELECT count(DISTINCT tenant_id) FROM auth.audit WHERE action = 'email.request_change'";
    assert_eq!(ada.bench.count(asked).await, 2);
    let named = "SELECT count(*) FROM auth.audit AS a WHERE a::text LIKE '%@%'";
    assert_eq!(ada.bench.count(named).await, 0, "the log holds no addresses of people");
}

#[tokio::test]
async fn an_operators_account_is_the_platforms_matter_too() {
    let ada = Person::start("logs_operator").await;
    let state = &ada.bench.state;
    ada.promote().await;
    let call = from_there(Bench::ctx_in(&ada.own));
    change(&call, state, &to(PASSWORD, OTHER)).await.unwrap();
    let of = |log| {
        let entry = line(log, "password.change", ada.user, ada.user);
        entry.after(json!({ "sessions_ended": 0 }))
    };
    let expected = vec![of(Some(ada.acme)), of(Some(ada.globex)).without_address(), of(None)];
    assert_eq!(told(&ada.bench, &call).await, in_order(expected));

    // Who is nobody's member stands in the platform's alone. Where an operator logs in, no tenant is told.
    ada.bench.execute("UPDATE auth.memberships SET state = 'removed'").await;
    let platform = ada.bench.login(&ada.email, OTHER, None).await.unwrap();
    let call = from_there(Bench::ctx_in(&platform));
    change(&call, state, &to(OTHER, PASSWORD)).await.unwrap();
    let expected = vec![
        of(None),
        of(Some(ada.acme))
            .without_address()
            .after(json!({ "sessions_ended": 1 })),
    ];
    assert_eq!(told(&ada.bench, &call).await, in_order(expected));
}

#[tokio::test]
async fn of_who_is_in_very_many_tenants_the_first_fifty_are_told_and_the_callers() {
    let ada = Person::start("logs_many").await;
    // Their ids are before those of all that were made here.
    let many = format!(
        "INSERT INTO auth.tenants (id, display_name, access)
             SELECT lpad(n::text, 32, '0')::uuid, 'A tenant', 'allowed' FROM generate_series(1, 60) AS n;
         INSERT INTO auth.memberships (tenant_id, identity_id, role)
             SELECT lpad(n::text, 32, '0')::uuid, '{}', 'user' FROM generate_series(1, 60) AS n",
        ada.user.uuid()
    );
    ada.bench.execute(&many).await;
    let call = from_there(Bench::ctx_in(&ada.own));
    change(&call, &ada.bench.state, &to(PASSWORD, OTHER)).await.unwrap();
    let lines = told(&ada.bench, &call).await;
    assert_eq!(lines.len(), 51, "{lines:?}");
    let own = line(Some(ada.acme), "password.change", ada.user, ada.user);
    assert_eq!(lines[50], own.after(json!({ "sessions_ended": 0 })));
}

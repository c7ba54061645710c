//! Members who leave by themselves.

use rowhouse_auth_kit::Role;
use rowhouse_context::Principal;
use rowhouse_status::{Failure, Reason};
use rowhouse_types::{TenantId, UserId};
use serde_json::json;

use super::{invite_to, start};
use crate::error::Error;
use crate::member::actions::{get, invite, leave, remove};
use crate::rights::Standing;
use crate::role::TenantRole;
use crate::service_account::{self, keys};
use crate::tests::bench::{Bench, House, PASSWORD, ctx, founding, key_of, service_ctx};
use crate::{impersonation, login_policy, session, tenant};

const EMAIL: &str = "ada@acme.example";

#[tokio::test]
async fn who_leaves_is_out_here_and_nowhere_else() {
    let (bench, house, admin) = start("leave").await;
    let elsewhere = bench.house("globex").await;
    let email = elsewhere.email.as_str();
    let user = bench.member(&house, email, Role::User).await;
    let here = bench.login(email, PASSWORD, Some(house.tenant)).await.unwrap();
    let beside = bench.login(email, PASSWORD, Some(house.tenant)).await.unwrap();
    let there = bench.login(email, PASSWORD, Some(elsewhere.tenant)).await.unwrap();
    let call = Bench::ctx_in(&here);
    leave(&call, &bench.state, house.tenant).await.unwrap();

    for ended in [&here, &beside] {
        assert_eq!(bench.standing(ended).await, Standing::Revoked);
        let refreshed = session::refresh::refresh(&call, &bench.state, &ended.refresh_token).await;
        assert!(matches!(refreshed, Err(Error::RefreshTokenInvalid)));
    }
    assert_eq!(bench.standing(&there).await, Standing::Good);
    let again = bench.login(email, PASSWORD, Some(house.tenant)).await;
    assert!(matches!(again, Err(Error::LoginFailed)));
    let gone = get(&admin, &bench.state, user).await;
    assert!(matches!(gone, Err(Error::NotFound { kind: "member", .. })), "{gone:?}");
    let repeated = leave(&call, &bench.state, house.tenant).await;
    assert!(matches!(repeated, Err(Error::Revoked)), "{repeated:?}");
    let audited = format!(
        "SELECT count(*) FROM auth.audit WHERE action = 'member.leave' AND before->>'role' = 'user' \
         AND actor = '{user}' AND target = '{user}' AND tenant_id = '{}'",
        house.tenant.uuid()
    );
    assert_eq!(bench.count(&audited).await, 1);
    // By an invitation they come back as anybody does.
    let sent = invite(&admin, &bench.state, &invite_to(email, Role::Manager))
        .await
        .unwrap();
    assert_eq!(bench.accept(sent.id, PASSWORD).await.unwrap().user, user);
}

/// What there is of a member: themselves, their teams and sessions, what they have sent and what was sent to them, their keys.
async fn of_member(bench: &Bench, house: &House, user: UserId) -> [i64; 6] {
    let (tenant, user) = (house.tenant.uuid(), user.uuid());
    let mut found = [0; 6];
    for (at, rows) in [
        format!("memberships WHERE tenant_id = '{tenant}' AND identity_id = '{user}' AND state <> 'removed'"),
        format!("team_members WHERE tenant_id = '{tenant}' AND identity_id = '{user}'"),
        format!("sessions WHERE tenant_id = '{tenant}' AND identity_id = '{user}' AND revoked_at IS NULL"),
        format!("invitations WHERE tenant_id = '{tenant}' AND invited_by = '{user}' AND state = 'open'"),
        format!("invitations WHERE tenant_id = '{tenant}' AND email = '{EMAIL}' AND state = 'open'"),
        format!("api_keys WHERE tenant_id = '{tenant}' AND created_by = '{user}' AND revoked_at IS NULL"),
    ]
    .iter()
    .enumerate()
    {
        found[at] = bench.count(&format!("SELECT count(*) FROM auth.{rows}")).await;
    }
    found
}

#[tokio::test]
async fn what_ends_with_a_membership_is_the_same_whoever_ends_it() {
    for (name, is_left) in [("leave_same_removed", false), ("leave_same_left", true)] {
        let (bench, house, admin) = start(name).await;
        let state = &bench.state;
        let user = bench.member(&house, EMAIL, Role::TenantAdmin).await;
        let ada = bench.ctx_of(user, house.tenant).await;
        bench.team(&admin, &[user]).await;
        let sent = invite(&ada, state, &invite_to("bob@acme.example", Role::User))
            .await
            .unwrap();
        // A second founding invites the same address once more.
        let again = founding(house.tenant, EMAIL);
        let again = tenant::actions::create_first_administrator(&service_ctx(), state, &again).await;
        let again = again.unwrap();
        let account = bench.program(&admin, "Importer", TenantRole::BuiltIn(Role::User)).await;
        let (key, _) = keys::create(&ada, state, &key_of(account, 30)).await.unwrap();
        assert_eq!(of_member(&bench, &house, user).await, [1; 6], "{name}, before");

        let (tenant, ended_by) = (house.tenant, if is_left { ada } else { admin });
        let shared = state.clone();
        let end = async move {
            if is_left {
                leave(&ended_by, &shared, tenant).await
            } else {
                remove(&ended_by, &shared, user, None).await
            }
        };
        let ((), subjects) = bench.acknowledged(end).await;
        assert_eq!(of_member(&bench, &house, user).await, [0; 6], "{name}");
        // The log names what the member has handed on, and what was sent to them.
        let action = if is_left { "member.leave" } else { "member.remove" };
        let named = (
            json!([key.id.to_string()]),
            json!([sent.id.to_string(), again.to_string()]),
        );
        assert_eq!(bench.named_as_ended(action, user).await, named, "{name}");
        // The key's rights, those of colleagues who have reached their records, and their own.
        let key = service_account::session_of(key.id);
        assert_eq!(
            subjects,
            [key.to_string(), tenant.to_string(), user.to_string()],
            "{name}"
        );
    }
}

/// A manager could not hand on what they hold for their teams, nor could a user take part in anything that is about members.
#[tokio::test]
async fn nobody_needs_a_right_to_leave() {
    let (bench, house, _) = start("leave_rights").await;
    for role in [Role::Manager, Role::User] {
        let user = bench.member(&house, &format!("{role}@acme.example"), role).await;
        let member = bench.ctx_of(user, house.tenant).await;
        leave(&member, &bench.state, house.tenant).await.unwrap();
    }
}

#[tokio::test]
async fn of_two_administrators_who_leave_at_once_one_stays() {
    let (bench, house, first) = start("leave_last").await;
    let user = bench.member(&house, EMAIL, Role::TenantAdmin).await;
    let second = bench.ctx_of(user, house.tenant).await;
    let calls = [first, second.clone()].map(|member| {
        let (state, tenant) = (bench.state.clone(), house.tenant);
        async move { leave(&member, &state, tenant).await }
    });
    let [one, other] = calls;
    let (done, refused) = bench.meet("auth.tenants", one, other).await;
    done.unwrap();
    assert!(matches!(refused, Err(Error::LastAdministrator)), "{refused:?}");
    let failure = Failure::from(refused.unwrap_err());
    assert_eq!(failure.reason(), Reason::StateForbids);
    assert!(get(&second, &bench.state, user).await.is_ok(), "nothing of it was done");
    let repeated = leave(&second, &bench.state, house.tenant).await;
    assert!(matches!(repeated, Err(Error::LastAdministrator)), "{repeated:?}");
}

#[tokio::test]
async fn nobody_leaves_in_a_members_place() {
    let (bench, house, admin) = start("leave_place").await;
    let (state, tenant) = (&bench.state, house.tenant);
    let user = bench.member(&house, EMAIL, Role::Manager).await;
    let password = bench.operator("root@rowhouse.example").await;
    let pair = bench.login("root@rowhouse.example", &password, None).await.unwrap();
    let operator = Bench::ctx_in(&pair);
    let in_tenant = ctx(operator.principal().clone(), Some(tenant));
    let wanted = impersonation::Start {
        tenant,
        user,
        reason: impersonation::Reason::parse_required("ticket 7").unwrap(),
        lasts: std::time::Duration::from_secs(600),
    };
    let opened = impersonation::actions::start(&operator, state, &wanted).await.unwrap();
    let as_member = Principal::Impersonated {
        user,
        session: opened.opened.session,
        tenant,
        by: opened.opened.by,
    };
    let account = bench.program(&admin, "Importer", TenantRole::BuiltIn(Role::User)).await;
    let (key, _) = keys::create(&admin, state, &key_of(account, 30)).await.unwrap();
    let by_key = Principal::Member {
        user: service_account::user_of(account),
        session: service_account::session_of(key.id),
        tenant,
    };
    for nobody in [
        operator,
        in_tenant,
        ctx(as_member, Some(tenant)),
        ctx(by_key, Some(tenant)),
        service_ctx(),
    ] {
        let refused = leave(&nobody, state, tenant).await;
        assert!(
            matches!(refused, Err(Error::NotAMember)),
            "{:?}: {refused:?}",
            nobody.principal()
        );
        assert_eq!(Failure::from(refused.unwrap_err()).reason(), Reason::AudienceMismatch);
    }
    assert!(get(&admin, state, user).await.is_ok());
}

#[tokio::test]
async fn only_the_tenant_of_the_token_is_left() {
    let (bench, house, admin) = start("leave_named").await;
    let elsewhere = bench.house("globex").await;
    let user = bench.member(&house, &elsewhere.email, Role::User).await;
    bench.member(&elsewhere, EMAIL, Role::TenantAdmin).await;
    let here = bench.ctx_of(user, house.tenant).await;
    for named in [elsewhere.tenant, TenantId::generate()] {
        let refused = leave(&here, &bench.state, named).await;
        let failure = Failure::from(refused.unwrap_err());
        assert_eq!(failure.reason(), Reason::FieldInvalid);
        assert_eq!(failure.violations()[0].field, "tenant_id");
    }
    let there = bench.ctx_of(user, elsewhere.tenant).await;
    for by in [&admin, &there] {
        assert!(get(by, &bench.state, user).await.is_ok());
    }
}

#[tokio::test]
async fn what_the_tenant_asks_of_log_ins_holds_for_who_leaves() {
    let (bench, house, admin) = start("leave_factor").await;
    let user = bench.member(&house, EMAIL, Role::User).await;
    let member = bench.ctx_of(user, house.tenant).await;
    let show = "UPDATE auth.sessions SET second_factor = true WHERE identity_id = ";
    bench.execute(&format!("{show} '{}'", house.admin.uuid())).await;
    let asks = login_policy::Change {
        second_factor_required: Some(true),
        ..login_policy::Change::default()
    };
    login_policy::actions::update(&admin, &bench.state, &asks)
        .await
        .unwrap();
    let refused = leave(&member, &bench.state, house.tenant).await;
    assert!(matches!(refused, Err(Error::SecondFactorNotShown)), "{refused:?}");
    bench.execute(&format!("{show} '{}'", user.uuid())).await;
    leave(&member, &bench.state, house.tenant).await.unwrap();
}

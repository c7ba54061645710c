//! What decides, on a real database.

mod sessions;

use rowhouse_auth_kit::{Grants, Role};
use rowhouse_client::reach;
use rowhouse_context::{Ctx, Principal};
use rowhouse_proto::policy::{PERMISSIONS, Permission};
use rowhouse_types::{SessionId, TenantId, UserId};

use super::actions::known;
use super::{Decision, Known};
use crate::error::Error;
use crate::member::{self, MemberState};
use crate::rights::{Query, Rights, Standing};
use crate::role::{self, NewRole, RoleTitle};
use crate::tenant::Access;
use crate::tests::bench::Bench;

fn permission(name: &str) -> &'static Permission {
    PERMISSIONS.iter().find(|known| known.name == name).unwrap()
}

/// What the services decide about a call in a session, which the explanation must agree with.
async fn rights_in(bench: &Bench, tenant: TenantId, (user, session): (UserId, SessionId)) -> Rights {
    let query = Query {
        user,
        session: Some(session),
        tenant: Some(tenant),
        platform: false,
        key: None,
        by: None,
    };
    bench.rights(query).await
}

fn lets_in(rights: &Rights, user: UserId, permission: &Permission, owner: Option<UserId>) -> bool {
    let reach = reach(&rights.grants, user, &rights.team, permission);
    let reached = reach.is_some_and(|reach| owner.is_none_or(|owner| reach.includes(owner)));
    rights.standing == Standing::Good && reached
}

/// Looks whether the explanation says of every permission and every owner what the services decide in a session. Answers how many
/// were allowed, and how many not reached.
async fn agrees(
    bench: &Bench,
    tenant: TenantId,
    known: &Known,
    session: SessionId,
    owners: &[UserId],
) -> (usize, usize) {
    let user = known.who.user;
    let rights = rights_in(bench, tenant, (user, session)).await;
    let (mut allowed, mut out_of_scope) = (0, 0);
    for permission in PERMISSIONS {
        for owner in owners.iter().copied().map(Some).chain([None]) {
            let decision = known.decide(permission, owner);
            let explained = matches!(decision, Decision::Allowed(_));
            allowed += usize::from(explained);
            out_of_scope += usize::from(matches!(decision, Decision::OutOfScope(_)));
            assert_eq!(
                explained,
                lets_in(&rights, user, permission, owner),
                "{} {} {owner:?}",
                known.who.role,
                permission.name
            );
        }
    }
    (allowed, out_of_scope)
}

/// The session of a call.
fn session_of(ctx: &Ctx) -> SessionId {
    match ctx.principal() {
        Principal::Member { session, .. } => *session,
        other => panic!("no member: {other:?}"),
    }
}

#[tokio::test]
async fn the_grant_that_gives_a_permission_is_named_or_what_stands_in_its_way() {
    let bench = Bench::start("authz_explain").await;
    let house = bench.house("acme").await;
    let admin = bench.ctx_of(house.admin, house.tenant).await;
    let auditor = NewRole {
        name: "auditor".parse().unwrap(),
        title: RoleTitle::parse_required("Auditor").unwrap(),
        grants: Grants::read(["contacts:read", "reports:*"]),
        request: None,
    };
    role::actions::create(&admin, &bench.state, &auditor).await.unwrap();
    let user = bench.member(&house, "ada@acme.example", Role::User).await;
    let give = member::Change {
        user,
        role: Some("auditor".parse().unwrap()),
        state: None,
        etag: None,
    };
    member::actions::update(&admin, &bench.state, &give).await.unwrap();
    let session = session_of(&bench.ctx_of(user, house.tenant).await);
    let look = async || known(&admin, &bench.state, user, true).await.unwrap();
    let allowed = |grant: &str| Decision::Allowed(grant.parse().unwrap());
    let now = look().await;
    assert_eq!(now.obstacle(), None);
    for (name, decision) in [
        ("contacts:read", allowed("contacts:read")),
        ("reports:export", allowed("reports:*")),
        ("contacts:delete", Decision::NotGranted),
        ("tenants:create", Decision::NotGranted),
    ] {
        assert_eq!(now.decide(permission(name), None), decision, "{name}");
    }

    let disable = |state| member::Change {
        role: None,
        state: Some(state),
        ..give.clone()
    };
    member::actions::update(&admin, &bench.state, &disable(MemberState::Disabled))
        .await
        .unwrap();
    let disabled = look().await;
    assert_eq!(
        disabled.decide(permission("contacts:read"), None),
        Decision::MemberDisabled
    );
    agrees(&bench, house.tenant, &disabled, session, &[]).await;
    member::actions::update(&admin, &bench.state, &disable(MemberState::Active))
        .await
        .unwrap();
    bench.set_access(house.tenant, Access::Suspended).await;
    assert_eq!(
        look().await.decide(permission("contacts:read"), None),
        Decision::TenantClosed
    );
    bench.set_access(house.tenant, Access::Allowed).await;
    bench
        .execute(&format!(
            "UPDATE auth.identities SET state = 'disabled' WHERE id = '{}'",
            user.uuid()
        ))
        .await;
    assert_eq!(
        look().await.decide(permission("contacts:read"), None),
        Decision::AccountDisabled
    );
}

/// The control: for every role, every permission and every owner the explanation says what the services decide.
#[tokio::test]
async fn an_explanation_never_disagrees_with_the_decision() {
    let bench = Bench::start("authz_agree").await;
    let house = bench.house("acme").await;
    let admin = bench.ctx_of(house.admin, house.tenant).await;
    let mut members = vec![house.admin];
    for role in [Role::Manager, Role::User] {
        let email = format!("{role}@acme.example");
        members.push(bench.member(&house, &email, role).await);
    }
    bench.team(&admin, &members[1..]).await;
    let mut out_of_scope = 0;
    for user in members.clone() {
        let session = session_of(&bench.ctx_of(user, house.tenant).await);
        let known = known(&admin, &bench.state, user, true).await.unwrap();
        out_of_scope += agrees(&bench, house.tenant, &known, session, &members).await.1;
    }
    assert!(
        out_of_scope > 0,
        "managers and users do not reach the administrator's records"
    );
}

#[tokio::test]
async fn nobody_is_told_of_another_tenants_members() {
    let bench = Bench::start("authz_foreign").await;
    let house = bench.house("acme").await;
    let neighbour = bench.house("globex").await;
    let there = bench.ctx_of(neighbour.admin, neighbour.tenant).await;
    for user in [house.admin, UserId::generate()] {
        let refused = known(&there, &bench.state, user, true).await.map(drop).unwrap_err();
        assert!(matches!(refused, Error::NotFound { kind: "member", .. }), "{refused:?}");
    }
}

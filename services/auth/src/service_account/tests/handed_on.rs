//! Who knows a key acts as its account: what was made with it ends when the key does for who made it.

use rowhouse_types::InvitationId;

use super::*;

/// The context of a call by a program.
fn program(tenant: TenantId, account: ServiceAccountId, key: ApiKeyId) -> Ctx {
    let principal = Principal::Member {
        user: user_of(account),
        session: session_of(key),
        tenant,
    };
    ctx(principal, Some(tenant))
}

/// A key and an invitation that were made with a key that `by` has made, of an account of the role, and a key of the same account
/// that the administrator has made.
async fn handed_on(bench: &Bench, by: &Ctx, admin: &Ctx, role: &TenantRole) -> (ApiKey, InvitationId, ApiKey) {
    let state = &bench.state;
    let mut accounts = Vec::new();
    for name in ["First", "Second"] {
        let role = role.clone();
        let new = NewAccount {
            role,
            ..new(name, Role::User)
        };
        accounts.push(create(admin, state, &new).await.unwrap().id);
    }
    let (first, _) = keys::create(by, state, accounts[0], 30).await.unwrap();
    let by_first = program(by.tenant().unwrap(), accounts[0], first.id);
    let (_, second) = keys::create(&by_first, state, accounts[1], 30).await.unwrap();
    let (_, kept) = keys::create(admin, state, accounts[1], 30).await.unwrap();
    let invite = member::Invite {
        email: "mole@acme.example".parse().unwrap(),
        role: role.clone(),
        request: None,
    };
    let sent = member::actions::invite(&by_first, state, &invite).await.unwrap();
    exchanges(bench, &second).await.unwrap();
    (second, sent.id, kept)
}

#[tokio::test]
async fn what_was_made_with_a_key_of_a_member_ends_when_they_are_removed() {
    let (bench, house, admin) = start("robot_handed_on").await;
    let other = bench.member(&house, "mallory@acme.example", Role::TenantAdmin).await;
    let by = bench.ctx_of(other, house.tenant).await;
    let role = TenantRole::BuiltIn(Role::TenantAdmin);
    let (made, sent, kept) = handed_on(&bench, &by, &admin, &role).await;
    member::actions::remove(&admin, &bench.state, other, None)
        .await
        .unwrap();
    assert!(matches!(exchanges(&bench, &made).await, Err(Error::ApiKeyInvalid)));
    assert!(bench.accept(sent, PASSWORD).await.is_err());
    exchanges(&bench, &kept).await.unwrap();
}

#[tokio::test]
async fn what_was_made_with_a_key_of_a_member_ends_when_their_role_loses_something() {
    let (bench, house, admin) = start("robot_handed_role").await;
    let state = &bench.state;
    let grants = ["service_accounts:*", "members:*", "contacts:read@own"];
    for name in ["integrator", "program"] {
        let role = NewRole {
            name: name.parse().unwrap(),
            title: RoleTitle::parse_required(name).unwrap(),
            grants: Grants::read(grants),
        };
        role::actions::create(&admin, state, &role).await.unwrap();
    }
    let other = bench.member(&house, "mallory@acme.example", Role::User).await;
    let give = member::Change {
        user: other,
        role: Some("integrator".parse().unwrap()),
        state: None,
        etag: None,
    };
    member::actions::update(&admin, state, &give).await.unwrap();
    let by = bench.ctx_of(other, house.tenant).await;
    let (made, sent, kept) = handed_on(&bench, &by, &admin, &"program".parse().unwrap()).await;
    let less = role::Change {
        name: "integrator".parse().unwrap(),
        title: None,
        grants: Some(Grants::read(["contacts:read@own"])),
        etag: None,
        only_look: false,
    };
    role::actions::update(&admin, state, &less).await.unwrap();
    assert!(matches!(exchanges(&bench, &made).await, Err(Error::ApiKeyInvalid)));
    assert!(bench.accept(sent, PASSWORD).await.is_err());
    exchanges(&bench, &kept).await.unwrap();
}

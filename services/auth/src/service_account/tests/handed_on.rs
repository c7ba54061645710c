//! Who knows a key acts as its account: what was made with it ends when the key does for who made it.

use rowhouse_types::InvitationId;

use super::*;

/// What was made with a key that somebody has made, of an account of the same role.
struct HandedOn {
    /// The key with which the rest was made, and its account.
    first: (ApiKeyId, ServiceAccountId),
    made: (ApiKeyId, ApiKey),
    sent: InvitationId,
    /// A key that the administrator has made, of the account of `made`.
    kept: ApiKey,
}

impl HandedOn {
    /// What the log names where all of it ends: the keys in the order in which they were made.
    fn named(&self) -> (serde_json::Value, serde_json::Value) {
        let keys = [self.first.0.to_string(), self.made.0.to_string()];
        (json!(keys), json!([self.sent.to_string()]))
    }
}

/// `admin` makes the accounts, and a key of the second.
async fn handed_on(bench: &Bench, by: &Ctx, admin: &Ctx, role: &TenantRole) -> HandedOn {
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
    let (first, _) = keys::create(by, state, &key_of(accounts[0], 30)).await.unwrap();
    let by_first = Bench::ctx_with(by.tenant().unwrap(), accounts[0], first.id);
    let made = keys::create(&by_first, state, &key_of(accounts[1], 30)).await.unwrap();
    let (_, kept) = keys::create(admin, state, &key_of(accounts[1], 30)).await.unwrap();
    let invite = member::Invite {
        email: "mole@acme.example".parse().unwrap(),
        role: role.clone(),
        request: None,
    };
    let sent = member::actions::invite(&by_first, state, &invite).await.unwrap();
    exchanges(bench, &made.1).await.unwrap();
    HandedOn {
        first: (first.id, accounts[0]),
        made: (made.0.id, made.1),
        sent: sent.id,
        kept,
    }
}

#[tokio::test]
async fn what_was_made_with_a_key_of_a_member_ends_when_they_are_removed() {
    let (bench, house, admin) = start("robot_handed_on").await;
    let other = bench.member(&house, "mallory@acme.example", Role::TenantAdmin).await;
    let by = bench.ctx_of(other, house.tenant).await;
    let role = TenantRole::BuiltIn(Role::TenantAdmin);
    let all = handed_on(&bench, &by, &admin, &role).await;
    member::actions::remove(&admin, &bench.state, other, None)
        .await
        .unwrap();
    assert!(matches!(
        exchanges(&bench, &all.made.1).await,
        Err(Error::ApiKeyInvalid)
    ));
    assert!(bench.accept(all.sent, PASSWORD).await.is_err());
    exchanges(&bench, &all.kept).await.unwrap();
    assert_eq!(bench.named_as_ended("member.remove", other).await, all.named());
}

/// The log names the keys and invitations that end with a program's own rights, in each of the ways.
#[tokio::test]
async fn what_a_program_has_made_ends_with_its_rights_and_the_log_names_it() {
    let role = TenantRole::BuiltIn(Role::TenantAdmin);
    for (name, way) in [
        ("robot_named_less", "demoted"),
        ("robot_named_off", "disabled"),
        ("robot_named_gone", "deleted"),
    ] {
        let (bench, _, admin) = start(name).await;
        let all = handed_on(&bench, &admin, &admin, &role).await;
        let (key, account) = all.first;
        let demoted = Change {
            role: Some(TenantRole::BuiltIn(Role::User)),
            ..change(account)
        };
        let disabled = Change {
            state: Some(AccountState::Disabled),
            ..change(account)
        };
        match way {
            "demoted" => drop(update(&admin, &bench.state, &demoted).await.unwrap()),
            "disabled" => drop(update(&admin, &bench.state, &disabled).await.unwrap()),
            _ => delete(&admin, &bench.state, account, None).await.unwrap(),
        }
        assert!(matches!(
            exchanges(&bench, &all.made.1).await,
            Err(Error::ApiKeyInvalid)
        ));
        assert!(bench.accept(all.sent, PASSWORD).await.is_err());
        // Its own keys end with the account alone: who made them may know them still.
        let (action, keys) = match way {
            "deleted" => ("service_account.delete", vec![key, all.made.0]),
            _ => ("service_account.update", vec![all.made.0]),
        };
        let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
        let named = (json!(keys), json!([all.sent.to_string()]));
        assert_eq!(bench.named_as_ended(action, account).await, named, "{way}");
    }
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
            request: None,
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
    let all = handed_on(&bench, &by, &admin, &"program".parse().unwrap()).await;
    let less = role::Change {
        name: "integrator".parse().unwrap(),
        title: None,
        grants: Some(Grants::read(["contacts:read@own"])),
        etag: None,
        only_look: false,
    };
    role::actions::update(&admin, state, &less).await.unwrap();
    assert!(matches!(
        exchanges(&bench, &all.made.1).await,
        Err(Error::ApiKeyInvalid)
    ));
    assert!(bench.accept(all.sent, PASSWORD).await.is_err());
    exchanges(&bench, &all.kept).await.unwrap();
    assert_eq!(bench.named_as_ended("role.update", "integrator").await, all.named());
}

//! Service accounts on a real database: what a key gives, and from when on no longer.

mod failed;
mod flood;
mod handed_on;
mod prune;
mod repeated;

use rowhouse_auth_kit::{Grants, Role};
use rowhouse_context::{Ctx, Principal};
use rowhouse_types::{ApiKeyId, ServiceAccountId, TenantId, UserId};
use serde_json::json;

use super::actions::{create, delete, get, list, update};
use super::{
    ACCOUNTS_MAX, AccountName, AccountState, ApiKey, Change, KEYS_MAX, ListedKey, NewAccount, ServiceAccount, keys,
    session_of, user_of,
};
use crate::account;
use crate::error::Error;
use crate::identity::{NewPassword, OfferedPassword};
use crate::member;
use crate::rights::{Query, Rights, Standing};
use crate::role::{self, NewRole, RoleTitle, TenantRole};
use crate::session;
use crate::tenant::Access;
use crate::tests::bench::{Bench, House, PASSWORD, anonymous, ctx, key_of};

async fn start(name: &str) -> (Bench, House, Ctx) {
    let bench = Bench::start(name).await;
    let house = bench.house("acme").await;
    let admin = bench.ctx_of(house.admin, house.tenant).await;
    (bench, house, admin)
}

fn new(name: &str, role: Role) -> NewAccount {
    NewAccount {
        name: AccountName::parse_required(name).unwrap(),
        role: TenantRole::BuiltIn(role),
        request: None,
    }
}

fn change(id: ServiceAccountId) -> Change {
    Change {
        id,
        name: None,
        role: None,
        state: None,
        etag: None,
    }
}

async fn robot(bench: &Bench, by: &Ctx, role: Role) -> (ServiceAccount, ListedKey, ApiKey) {
    let account = create(by, &bench.state, &new("Importer", role)).await.unwrap();
    let (listed, key) = keys::create(by, &bench.state, &key_of(account.id, 30)).await.unwrap();
    (account, listed, key)
}

async fn rights(bench: &Bench, tenant: TenantId, account: ServiceAccountId, key: ApiKeyId) -> Rights {
    bench
        .rights(Query {
            user: user_of(account),
            session: Some(session_of(key)),
            tenant: Some(tenant),
            platform: false,
            key: None,
            by: None,
        })
        .await
}

fn invite_to(email: &str) -> member::Invite {
    member::Invite {
        email: email.parse().unwrap(),
        role: TenantRole::BuiltIn(Role::User),
        request: None,
    }
}

async fn exchanges(bench: &Bench, key: &ApiKey) -> Result<(), Error> {
    keys::exchange(&anonymous(), &bench.state, key).await.map(drop)
}

#[tokio::test]
async fn a_key_gives_a_token_with_the_accounts_rights_until_it_is_revoked() {
    let (bench, house, admin) = start("robot_key").await;
    let (account, listed, key) = robot(&bench, &admin, Role::User).await;
    let (_, tenant) = keys::exchange(&anonymous(), &bench.state, &key).await.unwrap();
    assert_eq!(tenant, house.tenant);
    let now = rights(&bench, house.tenant, account.id, listed.id).await;
    assert_eq!((now.standing, now.role.as_deref()), (Standing::Good, Some("user")));
    let seen = keys::list(&admin, &bench.state, account.id, 10, "")
        .await
        .unwrap()
        .items;
    assert!(seen[0].used.is_some() && key.expose().starts_with(&seen[0].prefix));
    assert!(!bench.dump().await.contains(key.expose()), "a key is kept nowhere");

    let (other_listed, other) = keys::create(&admin, &bench.state, &key_of(account.id, 1))
        .await
        .unwrap();
    keys::revoke(&admin, &bench.state, listed.id).await.unwrap();
    assert!(matches!(exchanges(&bench, &key).await, Err(Error::ApiKeyInvalid)));
    let ended = rights(&bench, house.tenant, account.id, listed.id).await;
    assert_eq!(ended.standing, Standing::Revoked, "what was issued for it ends too");
    exchanges(&bench, &other).await.unwrap();
    let again = keys::revoke(&admin, &bench.state, listed.id).await.unwrap();
    assert!(again.revoked.is_some());
    bench
        .execute("UPDATE auth.api_keys SET expires_at = now() - interval '1 second' WHERE revoked_at IS NULL")
        .await;
    assert!(matches!(exchanges(&bench, &other).await, Err(Error::ApiKeyInvalid)));
    assert_eq!(
        rights(&bench, house.tenant, account.id, other_listed.id).await.standing,
        Standing::Revoked
    );
    let stranger = ApiKey::generate().unwrap();
    assert!(matches!(exchanges(&bench, &stranger).await, Err(Error::ApiKeyInvalid)));
}

#[tokio::test]
async fn a_token_does_not_outlast_its_key() {
    let (bench, _, admin) = start("robot_ends").await;
    let (_, _, key) = robot(&bench, &admin, Role::User).await;
    // A token of its own would last five.
    bench
        .execute("UPDATE auth.api_keys SET expires_at = now() + interval '4 minutes'")
        .await;
    let (token, _) = keys::exchange(&anonymous(), &bench.state, &key).await.unwrap();
    let ends = "SELECT floor(extract(epoch FROM expires_at))::bigint FROM auth.api_keys";
    assert_eq!(token.expires.timestamp(), bench.count(ends).await);
}

#[tokio::test]
async fn what_changes_about_an_account_counts_at_once() {
    let (bench, house, admin) = start("robot_change").await;
    let (account, listed, key) = robot(&bench, &admin, Role::Manager).await;
    let state = &bench.state;
    let standing = async || rights(&bench, house.tenant, account.id, listed.id).await;
    assert!(standing().await.grants.scope("reports:run").is_some());
    let demoted = Change {
        role: Some(TenantRole::BuiltIn(Role::User)),
        ..change(account.id)
    };
    update(&admin, state, &demoted).await.unwrap();
    assert!(standing().await.grants.scope("reports:run").is_none());
    let set = |to| Change {
        state: Some(to),
        ..change(account.id)
    };
    update(&admin, state, &set(AccountState::Disabled)).await.unwrap();
    assert_eq!(standing().await.standing, Standing::Revoked);
    assert!(matches!(exchanges(&bench, &key).await, Err(Error::ApiKeyInvalid)));
    update(&admin, state, &set(AccountState::Active)).await.unwrap();
    exchanges(&bench, &key).await.unwrap();
    bench.set_access(house.tenant, Access::Suspended).await;
    assert!(matches!(exchanges(&bench, &key).await, Err(Error::TenantSuspended)));
    assert_eq!(standing().await.standing, Standing::TenantSuspended);
    bench.set_access(house.tenant, Access::Allowed).await;
    let version = async || bench.count("SELECT version FROM auth.rights_clock").await;
    let before = version().await;
    delete(&admin, state, account.id, None).await.unwrap();
    assert_eq!(version().await, before + 1);
    assert_eq!(standing().await.standing, Standing::Revoked);
    assert!(matches!(exchanges(&bench, &key).await, Err(Error::ApiKeyInvalid)));
    assert_eq!(bench.count("SELECT count(*) FROM auth.api_keys").await, 0);
}

#[tokio::test]
async fn nobody_makes_or_takes_over_an_account_that_can_do_more_than_they() {
    let (bench, house, admin) = start("robot_cover").await;
    let state = &bench.state;
    let role = NewRole {
        name: "integrator".parse().unwrap(),
        title: RoleTitle::parse_required("Integrator").unwrap(),
        grants: Grants::read(["service_accounts:*", "contacts:read@own"]),
        request: None,
    };
    role::actions::create(&admin, state, &role).await.unwrap();
    let user = bench.member(&house, "ada@acme.example", Role::User).await;
    let give = member::Change {
        user,
        role: Some("integrator".parse().unwrap()),
        state: None,
        etag: None,
    };
    member::actions::update(&admin, state, &give).await.unwrap();
    let by = bench.ctx_of(user, house.tenant).await;
    let (mighty, key, _) = robot(&bench, &admin, Role::TenantAdmin).await;
    let own = create(
        &by,
        state,
        &NewAccount {
            role: "integrator".parse().unwrap(),
            ..new("Own", Role::User)
        },
    )
    .await
    .unwrap();
    let raise = Change {
        role: Some(TenantRole::BuiltIn(Role::TenantAdmin)),
        ..change(own.id)
    };
    let lower = Change {
        role: Some("integrator".parse().unwrap()),
        ..change(mighty.id)
    };
    for refused in [
        create(&by, state, &new("More", Role::User)).await.map(drop),
        keys::create(&by, state, &key_of(mighty.id, 1)).await.map(drop),
        update(&by, state, &raise).await.map(drop),
        update(&by, state, &lower).await.map(drop),
        delete(&by, state, mighty.id, None).await,
    ] {
        assert!(matches!(refused, Err(Error::RoleNotCovered { .. })), "{refused:?}");
    }
    keys::create(&by, state, &key_of(own.id, 1)).await.unwrap();
    // A key that others may have is ended by whoever may.
    keys::revoke(&by, state, key.id).await.unwrap();
    // A role that a service account has is held.
    let deleted = role::actions::delete(&admin, state, &"integrator".parse().unwrap(), None).await;
    assert!(
        matches!(
            deleted,
            Err(Error::RoleHeld {
                members: 1,
                service_accounts: 1,
                ..
            })
        ),
        "{deleted:?}"
    );
}

#[tokio::test]
async fn a_key_ends_with_the_rights_of_whoever_knows_it() {
    let (bench, house, admin) = start("robot_creator").await;
    let state = &bench.state;
    let other = bench.member(&house, "mallory@acme.example", Role::TenantAdmin).await;
    let (account, _, _) = robot(&bench, &admin, Role::TenantAdmin).await;
    let set = |role: Option<Role>, to: Option<member::MemberState>| member::Change {
        user: other,
        role: role.map(TenantRole::BuiltIn),
        state: to,
        etag: None,
    };
    for way in ["demoted", "disabled", "removed"] {
        let by = bench.ctx_of(other, house.tenant).await;
        let (listed, key) = keys::create(&by, state, &key_of(account.id, 1)).await.unwrap();
        let kept = keys::create(&admin, state, &key_of(account.id, 1)).await.unwrap().1;
        let sent = member::actions::invite(&by, state, &invite_to("mole@acme.example")).await;
        let sent = sent.unwrap().id;
        match way {
            "demoted" => drop(
                member::actions::update(&admin, state, &set(Some(Role::User), None))
                    .await
                    .unwrap(),
            ),
            "disabled" => {
                let disabled = set(None, Some(member::MemberState::Disabled));
                drop(member::actions::update(&admin, state, &disabled).await.unwrap());
            }
            _ => member::actions::remove(&admin, state, other, None).await.unwrap(),
        }
        assert!(
            matches!(exchanges(&bench, &key).await, Err(Error::ApiKeyInvalid)),
            "{way}"
        );
        let told = format!(
            "SELECT count(*) FROM auth.right_changes WHERE version = (SELECT version FROM auth.rights_clock) \
             AND '{}' = ANY (subjects)",
            session_of(listed.id)
        );
        assert_eq!(
            bench.count(&told).await,
            1,
            "{way}: the tokens of the key end at once too"
        );
        let action = if way == "removed" {
            "member.remove"
        } else {
            "member.update"
        };
        assert_eq!(
            bench.named_as_ended(action, other).await,
            (json!([listed.id.to_string()]), json!([sent.to_string()])),
            "{way}: the log names what ended"
        );
        exchanges(&bench, &kept).await.unwrap();
        let back = set(Some(Role::TenantAdmin), Some(member::MemberState::Active));
        if way != "removed" {
            member::actions::update(&admin, state, &back).await.unwrap();
            assert_eq!(
                bench.named_as_ended(action, other).await,
                (json!([]), json!([])),
                "{way}: the control"
            );
        }
    }

    // A role that gives more: who made the keys could perhaps not have made them for it.
    let small = create(&admin, state, &new("Small", Role::User)).await.unwrap();
    let (listed, key) = keys::create(&admin, state, &key_of(small.id, 1)).await.unwrap();
    let renamed = Change {
        name: Some(AccountName::parse_required("Smaller").unwrap()),
        ..change(small.id)
    };
    update(&admin, state, &renamed).await.unwrap();
    exchanges(&bench, &key).await.unwrap();
    let raised = Change {
        role: Some(TenantRole::BuiltIn(Role::Manager)),
        ..change(small.id)
    };
    update(&admin, state, &raised).await.unwrap();
    assert!(matches!(exchanges(&bench, &key).await, Err(Error::ApiKeyInvalid)));
    assert_eq!(
        bench.named_as_ended("service_account.update", small.id).await,
        (json!([listed.id.to_string()]), json!([]))
    );
}

#[tokio::test]
async fn a_service_account_is_nobodys_person() {
    let (bench, house, admin) = start("robot_person").await;
    let (account, listed, _) = robot(&bench, &admin, Role::TenantAdmin).await;
    let principal = Principal::Member {
        user: user_of(account.id),
        session: session_of(listed.id),
        tenant: house.tenant,
    };
    let by = ctx(principal, Some(house.tenant));
    let known = session::actions::who_am_i(&by, &bench.state).await.unwrap();
    assert_eq!(
        (known.person.display_name.as_str(), known.person.email.as_str()),
        ("Importer", "")
    );
    // It may do what its role gives, and has no account to look after.
    let invited = invite_to("bob@acme.example");
    let sent = member::actions::invite(&by, &bench.state, &invited).await.unwrap();
    assert!(
        session::manage::revoke_all(&by, &bench.state, session::Scope::All)
            .await
            .is_err()
    );
    let logged_out = session::actions::logout(&by, &bench.state).await;
    assert!(matches!(logged_out, Err(Error::NotAPerson)), "{logged_out:?}");
    let new_password = account::PasswordChange {
        current: OfferedPassword::parse(PASSWORD).unwrap(),
        new: NewPassword::parse("a fine sentence of mine").unwrap(),
    };
    let changed = account::password::change(&by, &bench.state, &new_password).await;
    assert!(matches!(changed, Err(Error::NotAPerson)), "{changed:?}");
    // It is not the administrator that a tenant needs.
    let demote = member::Change {
        user: house.admin,
        role: Some(TenantRole::BuiltIn(Role::User)),
        state: None,
        etag: None,
    };
    let refused = member::actions::update(&by, &bench.state, &demote).await;
    assert!(matches!(refused, Err(Error::LastAdministrator)), "{refused:?}");
    // What it has sent ends with its rights.
    let demoted = Change {
        role: Some(TenantRole::BuiltIn(Role::User)),
        ..change(account.id)
    };
    update(&admin, &bench.state, &demoted).await.unwrap();
    let accepted = bench.accept(sent.id, PASSWORD).await;
    assert!(accepted.is_err(), "an invitation of a program that may invite no more");
    // In another tenant it is nobody.
    let neighbour = bench.house("globex").await;
    let there = rights(&bench, neighbour.tenant, account.id, listed.id).await;
    assert_eq!(there.standing, Standing::Revoked);
}

#[tokio::test]
async fn accounts_and_keys_are_bounded_named_once_and_listed_in_pages() {
    let (bench, _, admin) = start("robot_bounds").await;
    let state = &bench.state;
    let (account, first, _) = robot(&bench, &admin, Role::User).await;
    let taken = create(&admin, state, &new("IMPORTER", Role::User)).await;
    assert!(matches!(taken, Err(Error::ServiceAccountExists)), "{taken:?}");
    for _ in 1..KEYS_MAX {
        keys::create(&admin, state, &key_of(account.id, 1)).await.unwrap();
    }
    let more = keys::create(&admin, state, &key_of(account.id, 1)).await.map(drop);
    assert!(matches!(more, Err(Error::TooManyApiKeys { .. })), "{more:?}");
    keys::revoke(&admin, state, first.id).await.unwrap();
    keys::create(&admin, state, &key_of(account.id, 1)).await.unwrap();
    let (mut seen, mut token) = (Vec::new(), String::new());
    loop {
        let page = keys::list(&admin, state, account.id, 4, &token).await.unwrap();
        seen.extend(page.items.iter().map(|key| key.id));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(seen.len(), usize::try_from(KEYS_MAX).unwrap() + 1);
    assert!(seen.is_sorted_by(|one, next| one > next) && seen.ends_with(&[first.id]));

    bench
        .execute(&format!(
            "INSERT INTO auth.service_accounts (tenant_id, id, display_name, role) \
             SELECT tenant_id, gen_random_uuid(), 'R' || n, 'user' \
             FROM auth.service_accounts, generate_series(2, {ACCOUNTS_MAX}) AS n"
        ))
        .await;
    let more = create(&admin, state, &new("One more", Role::User)).await;
    assert!(matches!(more, Err(Error::TooManyServiceAccounts { .. })), "{more:?}");
    let page = list(&admin, state, None, 60, "").await.unwrap();
    let rest = list(&admin, state, None, 60, &page.next_page_token).await.unwrap();
    assert_eq!(
        (page.items.len(), rest.items.len(), rest.next_page_token.as_str()),
        (60, 40, "")
    );
}

#[tokio::test]
async fn nobody_meets_another_tenants_accounts_or_keys() {
    let (bench, _, admin) = start("robot_foreign").await;
    let (account, listed, _) = robot(&bench, &admin, Role::User).await;
    let neighbour = bench.house("globex").await;
    let there = bench.ctx_of(neighbour.admin, neighbour.tenant).await;
    let state = &bench.state;
    for id in [account.id, ServiceAccountId::generate()] {
        for refused in [
            get(&there, state, id).await.map(drop),
            update(&there, state, &change(id)).await.map(drop),
            delete(&there, state, id, None).await,
            keys::create(&there, state, &key_of(id, 1)).await.map(drop),
            keys::list(&there, state, id, 10, "").await.map(drop),
        ] {
            assert!(
                matches!(
                    refused,
                    Err(Error::NotFound {
                        kind: "service account",
                        ..
                    })
                ),
                "{refused:?}"
            );
        }
    }
    for id in [listed.id, ApiKeyId::generate()] {
        let refused = keys::revoke(&there, state, id).await;
        assert!(
            matches!(refused, Err(Error::NotFound { kind: "API key", .. })),
            "{refused:?}"
        );
    }
    assert!(list(&there, state, None, 10, "").await.unwrap().items.is_empty());
    let person = get(&admin, state, ServiceAccountId::from_uuid(UserId::generate().uuid())).await;
    assert!(matches!(person, Err(Error::NotFound { .. })));
}

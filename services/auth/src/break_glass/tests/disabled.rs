//! Accounts that are disabled and enabled by command, on a real database.

use rowhouse_auth_kit::Role;
use rowhouse_context::Ctx;
use rowhouse_types::{ApiKeyId, Email, InvitationId, ServiceAccountId, UserId};

use super::EMAIL;
use crate::authz::{self, Decision};
use crate::break_glass::{Reason, disable, enable};
use crate::error::Error;
use crate::member::{self, Invite, MemberState};
use crate::rights::Standing;
use crate::role::TenantRole;
use crate::service_account::{self, ApiKey, keys};
use crate::tests::bench::{Bench, House, PASSWORD, anonymous, key_of};

fn why() -> Reason {
    Reason::parse_required("somebody else is in it").unwrap()
}

fn ada() -> Email {
    EMAIL.parse().unwrap()
}

/// A tenant, and Ada, who administers it too.
async fn start(name: &str) -> (Bench, House, UserId) {
    let bench = Bench::start(name).await;
    let house = bench.house("acme").await;
    let user = bench.member(&house, EMAIL, Role::TenantAdmin).await;
    (bench, house, user)
}

/// What somebody hands on: a key of a service account, and an invitation.
async fn hand_on(bench: &Bench, by: &Ctx, account: ServiceAccountId, to: &str) -> (ApiKeyId, ApiKey, InvitationId) {
    let (listed, key) = keys::create(by, &bench.state, &key_of(account, 30)).await.unwrap();
    let invite = Invite {
        email: to.parse().unwrap(),
        role: TenantRole::BuiltIn(Role::User),
        request: None,
    };
    let sent = member::actions::invite(by, &bench.state, &invite).await.unwrap();
    (listed.id, key, sent.id)
}

async fn audited(bench: &Bench, of: &str) -> i64 {
    bench
        .count(&format!("SELECT count(*) FROM auth.audit WHERE {of}"))
        .await
}

#[tokio::test]
async fn nothing_of_an_account_that_is_disabled_is_honoured_in_any_tenant() {
    let (bench, house, user) = start("disabled").await;
    let (db, elsewhere) = (&bench.state.db, bench.house("globex").await);
    bench.join(&elsewhere, EMAIL, Role::User).await;
    let here = bench.login(EMAIL, PASSWORD, Some(house.tenant)).await.unwrap();
    let there = bench.login(EMAIL, PASSWORD, Some(elsewhere.tenant)).await.unwrap();
    let admin = bench.ctx_of(house.admin, house.tenant).await;
    let account = bench.program(&admin, "Importer", TenantRole::BuiltIn(Role::User)).await;
    let (key_id, key, sent) = hand_on(&bench, &Bench::ctx_in(&here), account, "mole@acme.example").await;
    let (_, kept, kept_sent) = hand_on(&bench, &admin, account, "bob@acme.example").await;

    assert!(disable(db, &ada(), &why()).await.unwrap());
    for pair in [&here, &there] {
        assert_eq!(bench.standing(pair).await, Standing::Revoked);
    }
    let again = bench.login(EMAIL, PASSWORD, Some(elsewhere.tenant)).await;
    assert!(matches!(again, Err(Error::LoginFailed)));
    let exchanged = async |key: &ApiKey| keys::exchange(&anonymous(), &bench.state, key).await.map(drop);
    assert!(matches!(exchanged(&key).await, Err(Error::ApiKeyInvalid)));
    assert!(bench.accept(sent, PASSWORD).await.is_err());
    exchanged(&kept).await.unwrap();
    bench.accept(kept_sent, PASSWORD).await.unwrap();
    let known = authz::actions::known(&admin, &bench.state, user, true).await.unwrap();
    assert_eq!(known.obstacle(), Some(Decision::AccountDisabled));

    // Why is the platform's matter; the tenants' logs say what of theirs has ended.
    let platform = format!(
        "action = 'account.disable' AND target = '{user}' AND tenant_id IS NULL AND actor = 'service:auth' \
         AND reason = '{}' AND after = '{{\"sessions_ended\": 2, \"api_keys_ended\": 1, \"invitations_ended\": 1}}'",
        why().as_str()
    );
    assert_eq!(audited(&bench, &platform).await, 1);
    for tenant in [house.tenant, elsewhere.tenant] {
        let own = format!(
            "action = 'account.disable' AND target = '{user}' AND tenant_id = '{}' AND actor = 'service:auth' \
             AND reason IS NULL AND after = '{{\"sessions_ended\": 1}}'",
            tenant.uuid()
        );
        assert_eq!(audited(&bench, &own).await, 1);
    }
    for (action, target) in [
        ("api_key.revoke", key_id.to_string()),
        ("invitation.revoke", sent.to_string()),
    ] {
        let own = format!(
            "action = '{action}' AND target = '{target}' AND tenant_id = '{}' \
             AND reason = 'the account of who made it was disabled'",
            house.tenant.uuid()
        );
        assert_eq!(audited(&bench, &own).await, 1, "{action}");
    }
    assert!(!disable(db, &ada(), &why()).await.unwrap(), "nothing is left to end");
    assert_eq!(audited(&bench, "action = 'account.disable'").await, 3);

    assert!(enable(db, &ada(), &why()).await.unwrap());
    let after = bench.login(EMAIL, PASSWORD, Some(house.tenant)).await.unwrap();
    assert_eq!(bench.standing(&after).await, Standing::Good);
    assert_eq!(
        bench.standing(&here).await,
        Standing::Revoked,
        "what has ended stays so"
    );
    assert!(matches!(exchanged(&key).await, Err(Error::ApiKeyInvalid)));
    assert!(!enable(db, &ada(), &why()).await.unwrap());
    let enabled =
        format!("action = 'account.enable' AND target = '{user}' AND tenant_id IS NULL AND reason IS NOT NULL");
    assert_eq!(audited(&bench, &enabled).await, 1);
    let told = "action = 'account.enable' AND tenant_id IS NOT NULL AND reason IS NULL";
    assert_eq!(audited(&bench, told).await, 2);
    assert_eq!(
        audited(&bench, "audit::text LIKE '%@%'").await,
        0,
        "the log holds no addresses"
    );
}

#[tokio::test]
async fn an_operators_role_is_taken_first_and_nobody_is_no_account() {
    let (bench, _, user) = start("disabled_operator").await;
    let db = &bench.state.db;
    let grant = format!(
        "INSERT INTO auth.platform_grants (identity_id, role) VALUES ('{}', 'super_admin')",
        user.uuid()
    );
    bench.execute(&grant).await;
    let refused = disable(db, &ada(), &why()).await;
    assert!(
        matches!(refused, Err(Error::Field { field: "--email", .. })),
        "{refused:?}"
    );
    bench.login(EMAIL, PASSWORD, None).await.unwrap();
    let nobody: Email = "nobody@acme.example".parse().unwrap();
    for refused in [disable(db, &nobody, &why()).await, enable(db, &nobody, &why()).await] {
        assert!(
            matches!(refused, Err(Error::NotFound { kind: "account", .. })),
            "{refused:?}"
        );
    }
}

#[tokio::test]
async fn it_is_acknowledged_when_every_lease_has_confirmed_it() {
    let (bench, house, user) = start("disabled_acknowledge").await;
    let here = bench.login(EMAIL, PASSWORD, Some(house.tenant)).await.unwrap();
    let account = bench
        .program(&Bench::ctx_in(&here), "Importer", TenantRole::BuiltIn(Role::User))
        .await;
    let (key, ..) = hand_on(&bench, &Bench::ctx_in(&here), account, "mole@acme.example").await;
    let db = bench.state.db.clone();
    let ending = async move { disable(&db, &ada(), &why()).await };
    let (disabled, subjects) = bench.acknowledged(ending).await;
    assert!(disabled);
    for subject in [user.to_string(), service_account::session_of(key).to_string()] {
        assert!(subjects.contains(&subject), "{subject}");
    }
}

/// Without the tenants' locks a key that is being made while the account is disabled would stay good.
#[tokio::test]
async fn what_is_being_handed_on_meanwhile_is_waited_for_and_ends_too() {
    let (bench, house, user) = start("disabled_race").await;
    let here = bench.login(EMAIL, PASSWORD, Some(house.tenant)).await.unwrap();
    let by = Bench::ctx_in(&here);
    let account = bench.program(&by, "Importer", TenantRole::BuiltIn(Role::User)).await;
    let (db, state) = (bench.state.db.clone(), bench.state.clone());
    let making = async move { keys::create(&by, &state, &key_of(account, 30)).await.map(drop) };
    let disabling = async move { disable(&db, &ada(), &why()).await };
    let rows = format!("auth.tenants WHERE id = '{}'", house.tenant.uuid());
    let (made, disabled) = bench.meet(&rows, making, disabling).await;
    assert!(disabled.unwrap());
    // Whoever comes first: a key that was made ends, and later none is made any more.
    assert!(matches!(made, Ok(()) | Err(Error::Revoked)), "{made:?}");
    let good = format!(
        "SELECT count(*) FROM auth.api_keys WHERE created_by = '{}' AND revoked_at IS NULL",
        user.uuid()
    );
    assert_eq!(bench.count(&good).await, 0);
}

#[tokio::test]
async fn whose_account_is_disabled_is_no_administrator_who_could_stay_alone() {
    let (bench, house, user) = start("disabled_last").await;
    let admin = bench.ctx_of(house.admin, house.tenant).await;
    let leave = member::Change {
        user: house.admin,
        role: None,
        state: Some(MemberState::Disabled),
        etag: None,
    };
    assert!(disable(&bench.state.db, &ada(), &why()).await.unwrap());
    let refused = member::actions::update(&admin, &bench.state, &leave).await;
    assert!(matches!(refused, Err(Error::LastAdministrator)), "{refused:?}");
    // Whoever is left can take the membership away.
    member::actions::remove(&admin, &bench.state, user, None).await.unwrap();
}

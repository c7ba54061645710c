//! What of a decision hangs on sessions: the second factor that a tenant asks for; and service accounts, whose keys stand where
//! sessions would.

use super::*;
use crate::login_policy;
use crate::role::TenantRole;
use crate::service_account::{self, AccountName, AccountState, NewAccount, keys, user_of};
use crate::tests::bench::{House, key_of};

const EMAIL: &str = "ada@acme.example";

/// As if the second factor had been shown in the session, or had not.
async fn show(bench: &Bench, session: SessionId, shown: bool) {
    set(bench, session, &format!("second_factor = {shown}")).await;
}

async fn end(bench: &Bench, session: SessionId) {
    set(bench, session, "revoked_at = now(), revoke_reason = 'logout'").await;
}

async fn set(bench: &Bench, session: SessionId, what: &str) {
    let sql = format!("UPDATE auth.sessions SET {what} WHERE id = '{}'", session.uuid());
    bench.execute(&sql).await;
}

/// As if the person had a second factor.
async fn has_one(bench: &Bench, user: UserId) {
    let sql = format!(
        "INSERT INTO auth.second_factors (identity_id, sealed_secret, confirmed_at) VALUES ('{}', '', now())",
        user.uuid()
    );
    bench.execute(&sql).await;
}

/// A tenant that asks for a second factor, its administrator, who has shown one, and Ada, who has none.
async fn asking(name: &str) -> (Bench, House, Ctx, UserId) {
    let bench = Bench::start(name).await;
    let house = bench.house("acme").await;
    let user = bench.member(&house, EMAIL, Role::Manager).await;
    let admin = bench.ctx_of(house.admin, house.tenant).await;
    show(&bench, session_of(&admin), true).await;
    let asks = login_policy::Change {
        second_factor_required: Some(true),
        ..login_policy::Change::default()
    };
    login_policy::actions::update(&admin, &bench.state, &asks)
        .await
        .unwrap();
    (bench, house, admin, user)
}

/// What an explanation says stands in the way, and how many sessions are refused.
async fn look(bench: &Bench, by: &Ctx, user: UserId) -> (Option<Decision>, i64) {
    let known = known(by, &bench.state, user, true).await.unwrap();
    (known.obstacle(), known.sessions_refused())
}

#[tokio::test]
async fn where_a_second_factor_is_asked_for_an_explanation_agrees_with_the_session() {
    let (bench, house, admin, user) = asking("authz_factor").await;
    let session = session_of(&bench.ctx_of(user, house.tenant).await);
    for shown in [false, true] {
        show(&bench, session, shown).await;
        let known = known(&admin, &bench.state, user, true).await.unwrap();
        let owners = [user, house.admin];
        let (allowed, _) = agrees(&bench, house.tenant, &known, session, &owners).await;
        assert_eq!(allowed > 0, shown, "the control: what is shown gives something");
        let decision = known.decide(permission("contacts:read"), None);
        assert_eq!(decision == Decision::SecondFactorNotShown, !shown, "{decision:?}");
    }
}

#[tokio::test]
async fn who_can_show_none_lacks_it_and_who_logs_in_anew_shows_it() {
    let (bench, house, admin, user) = asking("authz_factor_lacks").await;
    let lacks = Some(Decision::SecondFactorNotShown);
    assert_eq!(
        look(&bench, &admin, user).await,
        (lacks.clone(), 0),
        "none, and no session"
    );
    has_one(&bench, user).await;
    assert_eq!(look(&bench, &admin, user).await, (None, 0), "a log-in would show it");
    let older = session_of(&bench.ctx_of(user, house.tenant).await);
    assert_eq!(
        look(&bench, &admin, user).await,
        (lacks.clone(), 1),
        "a session without"
    );
    let newer = session_of(&bench.ctx_of(user, house.tenant).await);
    show(&bench, newer, true).await;
    assert_eq!(look(&bench, &admin, user).await, (None, 1), "one with, and one without");
    end(&bench, newer).await;
    assert_eq!(
        look(&bench, &admin, user).await,
        (lacks, 1),
        "what has ended shows nothing"
    );
    end(&bench, older).await;
    assert_eq!(look(&bench, &admin, user).await, (None, 0));
}

#[tokio::test]
async fn sessions_that_give_nothing_here_are_not_counted() {
    let (bench, house, admin, user) = asking("authz_factor_over").await;
    bench
        .execute("UPDATE auth.login_policies SET session_lifetime_s = 3600")
        .await;
    has_one(&bench, user).await;
    let neighbour = bench.house("globex").await;
    bench.join(&neighbour, EMAIL, Role::User).await;
    bench.ctx_of(user, neighbour.tenant).await;
    let opened = async || session_of(&bench.ctx_of(user, house.tenant).await);
    for over in ["expires_at = now()", "created_at = now() - interval '2 hours'"] {
        set(&bench, opened().await, over).await;
    }
    let by = format!(
        "impersonator_id = '{}', origin_id = '{}'",
        house.admin.uuid(),
        session_of(&admin).uuid()
    );
    set(&bench, opened().await, &by).await;
    let idle = format!(
        "INSERT INTO auth.refresh_tokens (token_hash, session_id, expires_at) VALUES ('', '{}', now())",
        opened().await.uuid()
    );
    bench.execute(&idle).await;
    assert_eq!(look(&bench, &admin, user).await, (None, 0));
    // The controls: one that is as good as any, and a tenant that asks for none.
    opened().await;
    assert_eq!(
        look(&bench, &admin, user).await,
        (Some(Decision::SecondFactorNotShown), 1)
    );
    let there = bench.ctx_of(neighbour.admin, neighbour.tenant).await;
    assert_eq!(look(&bench, &there, user).await, (None, 0));
}

#[tokio::test]
async fn a_service_account_is_explained_to_who_may_see_it_and_is_asked_for_no_second_factor() {
    let (bench, house, admin, _) = asking("authz_program").await;
    let state = &bench.state;
    let new = NewAccount {
        name: AccountName::parse_required("Importer").unwrap(),
        role: TenantRole::BuiltIn(Role::Manager),
        request: None,
    };
    let account = service_account::actions::create(&admin, state, &new).await.unwrap();
    let (key, _) = keys::create(&admin, state, &key_of(account.id, 1)).await.unwrap();
    let (user, session) = (user_of(account.id), service_account::session_of(key.id));
    let explained = known(&admin, state, user, true).await.unwrap();
    let owners = [user, house.admin];
    let (allowed, out_of_scope) = agrees(&bench, house.tenant, &explained, session, &owners).await;
    assert!(allowed > 0 && out_of_scope > 0, "{allowed} {out_of_scope}");

    let off = service_account::Change {
        id: account.id,
        name: None,
        role: None,
        state: Some(AccountState::Disabled),
        etag: None,
    };
    service_account::actions::update(&admin, state, &off).await.unwrap();
    let disabled = known(&admin, state, user, true).await.unwrap();
    assert_eq!(disabled.obstacle(), Some(Decision::MemberDisabled));
    let (allowed, _) = agrees(&bench, house.tenant, &disabled, session, &owners).await;
    assert_eq!(allowed, 0);

    // Who may see members and no service accounts is answered as if there were none; so is another tenant.
    let neighbour = bench.house("globex").await;
    let there = bench.ctx_of(neighbour.admin, neighbour.tenant).await;
    for (by, sees_programs) in [(&admin, false), (&there, true)] {
        let refused = known(by, state, user, sees_programs).await.map(drop).unwrap_err();
        assert!(matches!(refused, Error::NotFound { kind: "member", .. }), "{refused:?}");
    }
}

//! What was made with the keys of somebody who is an operator no more ends with their role, and in which order.

use rowhouse_auth_kit::Role;
use rowhouse_context::{Ctx, Principal};
use rowhouse_types::InvitationId;
use sqlx::AssertSqlSafe;

use super::end::{end, start, why};
use crate::error::Error;
use crate::member::{self, Invite};
use crate::operator::command::revoke;
use crate::role::TenantRole;
use crate::service_account::{ApiKey, keys};
use crate::tests::bench::{Bench, PASSWORD, anonymous, ctx, key_of};

pub(super) async fn invite(bench: &Bench, by: &Ctx, email: &str) -> InvitationId {
    let invite = Invite {
        email: email.parse().unwrap(),
        role: TenantRole::BuiltIn(Role::User),
        request: None,
    };
    member::actions::invite(by, &bench.state, &invite).await.unwrap().id
}

#[tokio::test]
async fn what_was_made_with_their_keys_ends_too() {
    let (bench, _, user, platform) = start("operator_handed_on").await;
    let (state, other) = (&bench.state, bench.house("globex").await);
    let session = platform.session.id;
    let operator = ctx(Principal::Operator { user, session }, Some(other.tenant));
    let admin = bench.ctx_of(other.admin, other.tenant).await;
    let mut accounts = Vec::new();
    for name in ["First", "Second", "Third"] {
        accounts.push(
            bench
                .program(&admin, name, TenantRole::BuiltIn(Role::TenantAdmin))
                .await,
        );
    }
    let (first, _) = keys::create(&operator, state, &key_of(accounts[0], 30)).await.unwrap();
    let by_first = Bench::ctx_with(other.tenant, accounts[0], first.id);
    let (second, second_key) = keys::create(&by_first, state, &key_of(accounts[1], 30)).await.unwrap();
    let by_second = Bench::ctx_with(other.tenant, accounts[1], second.id);
    let (_, third_key) = keys::create(&by_second, state, &key_of(accounts[2], 30)).await.unwrap();
    let (_, anothers) = keys::create(&admin, state, &key_of(accounts[2], 30)).await.unwrap();
    let sent = invite(&bench, &by_second, "mole@globex.example").await;
    let sent_by_another = invite(&bench, &admin, "ada@globex.example").await;
    // What was made with it outlives it, until the role ends.
    keys::revoke(&admin, state, first.id).await.unwrap();
    let exchanged = async |key: &ApiKey| keys::exchange(&anonymous(), state, key).await.map(drop);
    exchanged(&second_key).await.unwrap();
    exchanged(&third_key).await.unwrap();

    assert!(end(&bench, "admin@acme.example").await.unwrap());
    assert!(matches!(exchanged(&second_key).await, Err(Error::ApiKeyInvalid)));
    assert!(matches!(exchanged(&third_key).await, Err(Error::ApiKeyInvalid)));
    exchanged(&anothers).await.unwrap();
    assert!(bench.accept(sent, PASSWORD).await.is_err());
    bench.accept(sent_by_another, PASSWORD).await.unwrap();
    let counted = "SELECT count(*) FROM auth.audit WHERE action = 'platform.revoke'
        AND after->>'api_keys_ended' = '2' AND after->>'invitations_ended' = '1'";
    assert_eq!(bench.count(counted).await, 1);
    let explained = "SELECT count(*) FROM auth.audit WHERE action = 'api_key.revoke'
        AND reason = 'the operator''s role of who made it has ended'";
    assert_eq!(bench.count(explained).await, 2);
    let named = format!(
        "SELECT count(*) FROM auth.audit WHERE action = 'invitation.revoke' AND target = '{sent}' AND tenant_id = '{}'
         AND reason = 'the operator''s role of who made it has ended'",
        other.tenant.uuid()
    );
    assert_eq!(
        bench.count(&named).await,
        1,
        "the tenant's log names the invitation too"
    );
}

#[tokio::test]
async fn invitations_are_locked_before_keys_and_keys_before_sessions() {
    let (bench, house, user, platform) = start("operator_order").await;
    let session = platform.session.id;
    let operator = ctx(Principal::Operator { user, session }, Some(house.tenant));
    let importer = bench
        .program(&operator, "Importer", TenantRole::BuiltIn(Role::TenantAdmin))
        .await;
    keys::create(&operator, &bench.state, &key_of(importer, 30))
        .await
        .unwrap();
    invite(&bench, &operator, "ada@acme.example").await;
    let mut holding = bench.superuser.begin().await.unwrap();
    sqlx::raw_sql("SELECT id FROM auth.api_keys FOR UPDATE")
        .execute(&mut *holding)
        .await
        .unwrap();
    let (db, email) = (bench.state.db.clone(), house.email.parse().unwrap());
    let mut ending = tokio::spawn(async move { revoke(&db, &email, &why()).await });
    bench.until_it_waits(&mut ending).await;
    let is_free = async |rows: &str| {
        let look = format!("SELECT id FROM {rows} FOR UPDATE NOWAIT");
        sqlx::raw_sql(AssertSqlSafe(look))
            .execute(&bench.superuser)
            .await
            .is_ok()
    };
    assert!(!is_free("auth.invitations WHERE state = 'open'").await);
    assert!(is_free("auth.sessions").await);
    holding.rollback().await.unwrap();
    assert!(ending.await.unwrap().unwrap());
}

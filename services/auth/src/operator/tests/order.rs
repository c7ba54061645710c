//! The end of a role meets whoever changes the same rows in a tenant: both lock them in one order, so that neither is ended for it,
//! and what is made meanwhile with the operator's keys is waited for.

use rowhouse_auth_kit::Role;
use rowhouse_context::{Ctx, Principal};
use rowhouse_types::{ApiKeyId, ServiceAccountId};

use super::end::{start, why};
use super::handed_on::invite;
use crate::error::Error;
use crate::member;
use crate::operator::command::revoke;
use crate::role::TenantRole;
use crate::service_account::{AccountState, Change, actions, keys};
use crate::tests::bench::{Bench, House, ctx, key_of};

/// The operator, who has made a key of the first account; with that key one of the second was made.
struct Met {
    bench: Bench,
    email: String,
    operator: Ctx,
    other: House,
    admin: Ctx,
    accounts: [ServiceAccountId; 2],
    keys: [ApiKeyId; 2],
}

async fn met(name: &str, role: Role) -> Met {
    let (bench, house, user, platform) = start(name).await;
    let other = bench.house("globex").await;
    let session = platform.session.id;
    let operator = ctx(Principal::Operator { user, session }, Some(other.tenant));
    let admin = bench.ctx_of(other.admin, other.tenant).await;
    let first = bench.program(&admin, "First", TenantRole::BuiltIn(role)).await;
    let second = bench.program(&admin, "Second", TenantRole::BuiltIn(role)).await;
    let (by_operator, _) = keys::create(&operator, &bench.state, &key_of(first, 30)).await.unwrap();
    let by_first = Bench::ctx_with(other.tenant, first, by_operator.id);
    let (handed_on, _) = keys::create(&by_first, &bench.state, &key_of(second, 30))
        .await
        .unwrap();
    Met {
        bench,
        email: house.email,
        operator,
        other,
        admin,
        accounts: [first, second],
        keys: [by_operator.id, handed_on.id],
    }
}

impl Met {
    /// The change begins first and waits for these rows, then the end of the role.
    async fn meets_the_end(&self, rows: &str, change: impl Future<Output = Result<(), Error>> + Send + 'static) {
        let (db, email) = (self.bench.state.db.clone(), self.email.parse().unwrap());
        let end = async move { revoke(&db, &email, &why()).await };
        let (changed, ended) = self.bench.meet(rows, change, end).await;
        changed.unwrap();
        assert!(ended.unwrap());
    }

    /// The key that was made with another, which everybody locks after that one.
    fn handed_on(&self) -> String {
        format!("auth.api_keys WHERE id = '{}'", self.keys[1].uuid())
    }
}

#[tokio::test]
async fn who_changes_a_program_locks_the_keys_of_it_and_those_it_has_made_in_one_order() {
    let met = met("operator_meets_update", Role::User).await;
    let (state, admin) = (met.bench.state.clone(), met.admin.clone());
    // It can do more and nothing now: what it has made ends, and what it is known by.
    let change = Change {
        id: met.accounts[0],
        name: None,
        role: Some(TenantRole::BuiltIn(Role::Manager)),
        state: Some(AccountState::Disabled),
        etag: None,
    };
    let update = async move { actions::update(&admin, &state, &change).await.map(drop) };
    met.meets_the_end(&met.handed_on(), update).await;
    let live = "SELECT count(*) FROM auth.api_keys WHERE revoked_at IS NULL";
    assert_eq!(met.bench.count(live).await, 0);
}

#[tokio::test]
async fn who_removes_a_program_locks_the_keys_of_it_and_those_it_has_made_in_one_order() {
    let met = met("operator_meets_delete", Role::User).await;
    let (state, admin, id) = (met.bench.state.clone(), met.admin.clone(), met.accounts[0]);
    let delete = async move { actions::delete(&admin, &state, id, None).await };
    met.meets_the_end(&met.handed_on(), delete).await;
    let live = "SELECT count(*) FROM auth.api_keys WHERE revoked_at IS NULL";
    assert_eq!(met.bench.count(live).await, 0);
}

#[tokio::test]
async fn who_removes_a_member_locks_the_links_from_them_and_to_them_in_one_order() {
    let met = met("operator_meets_remove", Role::TenantAdmin).await;
    let Met { bench, other, .. } = &met;
    let email = "mallory@globex.example";
    let mallory = bench.member(other, email, Role::TenantAdmin).await;
    // A link to the member that the operator has sent, and a later one that either may have sent, with a key that they have made.
    let to_member = invite(bench, &met.operator, "ada@globex.example").await;
    bench
        .execute(&format!(
            "UPDATE auth.invitations SET email = '{email}' WHERE id = '{}'",
            to_member.uuid()
        ))
        .await;
    let by_mallory = bench.ctx_of(mallory, other.tenant).await;
    keys::create(&by_mallory, &bench.state, &key_of(met.accounts[0], 30))
        .await
        .unwrap();
    let by_first = Bench::ctx_with(other.tenant, met.accounts[0], met.keys[0]);
    let from_member = invite(bench, &by_first, "mole@globex.example").await;
    let (state, admin) = (bench.state.clone(), met.admin.clone());
    let remove = async move { member::actions::remove(&admin, &state, mallory, None).await };
    let rows = format!("auth.invitations WHERE id = '{}'", from_member.uuid());
    met.meets_the_end(&rows, remove).await;
    let open = "SELECT count(*) FROM auth.invitations WHERE state = 'open'";
    assert_eq!(bench.count(open).await, 0);
}

#[tokio::test]
async fn what_a_program_makes_with_their_key_meanwhile_is_waited_for_and_ends_too() {
    let met = met("operator_meets_create", Role::User).await;
    let (state, account) = (met.bench.state.clone(), met.accounts[1]);
    let by_first = Bench::ctx_with(met.other.tenant, met.accounts[0], met.keys[0]);
    let create = async move { keys::create(&by_first, &state, &key_of(account, 30)).await.map(drop) };
    // A key refers to its account: it waits where it has been found that it may be made.
    let rows = format!("auth.service_accounts WHERE id = '{}'", account.uuid());
    met.meets_the_end(&rows, create).await;
    let made = "SELECT count(*) FROM auth.api_keys";
    assert_eq!(met.bench.count(made).await, 3);
    let live = "SELECT count(*) FROM auth.api_keys WHERE revoked_at IS NULL";
    assert_eq!(met.bench.count(live).await, 0);
}

#[tokio::test]
async fn what_a_program_would_make_with_their_key_after_the_end_is_not_made() {
    let met = met("operator_meets_late", Role::User).await;
    let (state, account, tenant) = (met.bench.state.clone(), met.accounts[1], met.other.tenant);
    let by_first = Bench::ctx_with(tenant, met.accounts[0], met.keys[0]);
    let (db, email) = (state.db.clone(), met.email.parse().unwrap());
    let end = async move { revoke(&db, &email, &why()).await };
    let create = async move { keys::create(&by_first, &state, &key_of(account, 30)).await.map(drop) };
    // The end has taken the role and waits for a key; what is made meanwhile waits for the role.
    let (ended, made) = met.bench.meet(&met.handed_on(), end, create).await;
    assert!(ended.unwrap());
    assert!(matches!(made, Err(Error::Revoked)), "{made:?}");
}

//! What the tests of this service share, and the test of all its statements.

pub(crate) mod app;
pub(crate) mod bench;
pub(crate) mod logs;
pub(crate) mod repeated;
pub(crate) mod statements;
pub(crate) mod times;

use sqlx::{AssertSqlSafe, Executor as _, SqlSafeStr as _};

use self::bench::Bench;
use crate::{
    account_mail, attempt, authz, identity, impersonation, invitation, key, login_policy, member, operator, purge,
    request, rights, role, second_factor, service_account, session, team, tenant,
};

/// Statements of each store, beside the store's source.
const STORES: &[(&str, &[&str])] = &[
    (include_str!("account_mail/store.rs"), account_mail::store::STATEMENTS),
    (include_str!("attempt/device/store.rs"), attempt::device::STATEMENTS),
    (include_str!("attempt/store.rs"), attempt::STATEMENTS),
    (include_str!("authz/store.rs"), authz::STATEMENTS),
    (include_str!("identity/store.rs"), identity::STATEMENTS),
    (include_str!("impersonation/store.rs"), impersonation::STATEMENTS),
    (include_str!("invitation/store.rs"), invitation::STATEMENTS),
    (include_str!("key/store.rs"), key::STATEMENTS),
    (include_str!("login_policy/store.rs"), login_policy::STATEMENTS),
    (include_str!("member/store.rs"), member::STATEMENTS),
    (include_str!("operator/store.rs"), operator::STATEMENTS),
    (include_str!("purge/store.rs"), purge::STATEMENTS),
    (include_str!("rights/store.rs"), rights::STATEMENTS),
    (include_str!("role/store.rs"), role::STATEMENTS),
    (include_str!("second_factor/store.rs"), second_factor::STATEMENTS),
    (include_str!("service_account/store.rs"), service_account::STATEMENTS),
    (include_str!("session/store.rs"), session::STATEMENTS),
    (include_str!("session/ended/store.rs"), session::ended::STATEMENTS),
    (include_str!("team/store.rs"), team::STATEMENTS),
    (include_str!("tenant/store.rs"), tenant::STATEMENTS),
];

#[tokio::test]
async fn every_statement_is_prepared_with_the_services_own_login() {
    let bench = Bench::start("auth_statements").await;
    let mut conn = bench.state.connection().await.unwrap();
    let own = STORES.iter().flat_map(|(_, statements)| statements.iter());
    let own = own.map(|sql| (*sql).to_owned());
    let shared = [crate::audit::TABLE.statements(), request::TABLE.statements()];
    for sql in own.chain(shared.into_iter().flatten()) {
        let prepared = conn.prepare(AssertSqlSafe(sql.clone()).into_sql_str()).await;
        assert!(prepared.is_ok(), "{sql}: {:?}", prepared.err());
    }
}

/// The control: a store's constant that is not in its list would not be prepared.
#[test]
fn every_constant_of_a_store_is_in_its_list() {
    for (source, statements) in STORES {
        // LOCK TABLE cannot be prepared; a test runs it.
        let written = source.matches(": &str = ").count() - source.matches("\"LOCK TABLE").count();
        assert_eq!(written, statements.len(), "{:.60}", source);
    }
}

#[tokio::test]
async fn the_services_login_can_neither_change_the_audit_log_nor_the_schema() {
    let bench = Bench::start("auth_grants").await;
    for sql in [
        "UPDATE auth.audit SET actor = 'nobody'",
        "DELETE FROM auth.audit",
        "UPDATE auth.seals SET hash = ''",
        "DELETE FROM auth.seals",
        "DELETE FROM auth.identities",
        "INSERT INTO auth.rights_clock (version) VALUES (9)",
        "ALTER TABLE auth.audit ADD COLUMN x int",
        "TRUNCATE auth.sessions",
    ] {
        let mut conn = bench.state.connection().await.unwrap();
        let refused = sqlx::query(sql).execute(&mut *conn).await.unwrap_err();
        let code = refused
            .as_database_error()
            .and_then(|fault| fault.code().map(|code| code.into_owned()));
        assert_eq!(code.as_deref(), Some("42501"), "{sql}");
    }
}

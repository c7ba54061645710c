//! That its end stands in the log of the tenant that it was in, whoever ends it, from wherever, and with whatever else.

use rowhouse_auth_kit::Role;
use rowhouse_types::SessionId;
use serde_json::json;

use super::Office;
use crate::account::{PasswordChange, password};
use crate::break_glass::{self, disable, recover};
use crate::identity::{NewPassword, OfferedPassword};
use crate::member::{self, MemberState};
use crate::session::Scope;
use crate::session::manage::{revoke, revoke_all};
use crate::tests::bench::{Bench, PASSWORD};
use crate::tests::logs::{from_there, line, told};

const EMAIL: &str = "ada@acme.example";

#[tokio::test]
async fn the_member_ends_it_from_another_tenant_and_the_one_that_it_was_in_reads_of_it() {
    let office = Office::open("impersonation_told").await;
    let bench = &office.bench;
    let elsewhere = bench.house("globex").await;
    bench.join(&elsewhere, EMAIL, Role::User).await;
    for (tenant, is_there) in [(elsewhere.tenant, false), (office.house.tenant, true)] {
        let session = office.start().await.opened.session;
        let call = from_there(bench.ctx_of(office.member, tenant).await);
        revoke(&call, &bench.state, session).await.unwrap();
        let entry = line(
            Some(office.house.tenant),
            "impersonation.end",
            office.member,
            office.member,
        );
        let entry = entry.after(json!({ "session": session.to_string() }));
        let entry = if is_there { entry } else { entry.without_address() };
        assert_eq!(told(bench, &call).await, [entry]);
    }
}

/// In whose log, and by whom, the end of a session stands.
async fn ended(bench: &Bench, session: SessionId) -> Vec<(String, String)> {
    let ends = "SELECT coalesce(tenant_id::text, ''), actor FROM auth.audit \
        WHERE action = 'impersonation.end' AND after->>'session' = $1";
    let ends = sqlx::query_as(ends).bind(session.to_string());
    ends.fetch_all(&bench.superuser).await.unwrap()
}

#[tokio::test]
async fn it_is_told_of_when_it_ends_with_sessions_a_membership_or_the_account() {
    let office = Office::open("impersonation_told_with").await;
    let (bench, member) = (&office.bench, office.member);
    let (state, db) = (&bench.state, &bench.state.db);
    let elsewhere = bench.house("globex").await;
    bench.join(&elsewhere, EMAIL, Role::User).await;
    let theirs = bench.ctx_of(member, elsewhere.tenant).await;
    let admin = bench.ctx_of(office.house.admin, office.house.tenant).await;
    let by = |actor: &dyn ToString| vec![(office.house.tenant.uuid().to_string(), actor.to_string())];
    let start = async || office.start().await.opened.session;

    let session = start().await;
    revoke_all(&theirs, state, Scope::Others).await.unwrap();
    assert_eq!(ended(bench, session).await, by(&member), "all sessions");

    let session = start().await;
    for state_of_member in [MemberState::Disabled, MemberState::Active] {
        let change = member::Change {
            user: member,
            role: None,
            state: Some(state_of_member),
            etag: None,
        };
        member::actions::update(&admin, state, &change).await.unwrap();
    }
    assert_eq!(ended(bench, session).await, by(&office.house.admin), "disabled");

    let session = start().await;
    member::actions::remove(&admin, state, member, None).await.unwrap();
    assert_eq!(ended(bench, session).await, by(&office.house.admin), "removed");

    bench.join(&office.house, EMAIL, Role::User).await;
    let session = start().await;
    let leaving = bench.ctx_of(member, office.house.tenant).await;
    member::actions::leave(&leaving, state, office.house.tenant)
        .await
        .unwrap();
    assert_eq!(ended(bench, session).await, by(&member), "left");

    bench.join(&office.house, EMAIL, Role::User).await;
    let session = start().await;
    let change = PasswordChange {
        current: OfferedPassword::parse(PASSWORD).unwrap(),
        new: NewPassword::parse("battery horse correct").unwrap(),
    };
    password::change(&theirs, state, &change).await.unwrap();
    assert_eq!(ended(bench, session).await, by(&member), "a new password");

    let (email, why) = (EMAIL.parse().unwrap(), || {
        break_glass::Reason::parse_required("a stolen telephone").unwrap()
    });
    let session = start().await;
    recover(db, &email, &why(), |_| Ok(())).await.unwrap();
    assert_eq!(ended(bench, session).await, by(&"service:auth"), "recovered");

    let session = start().await;
    assert!(disable(db, &email, &why()).await.unwrap());
    assert_eq!(ended(bench, session).await, by(&"service:auth"), "disabled everywhere");
    let reasons = "SELECT count(*) FROM auth.audit WHERE audit::text LIKE '%telephone%' AND tenant_id IS NOT NULL";
    assert_eq!(bench.count(reasons).await, 0, "why is the platform's matter");
}

//! The end of an operator's role: from when on it gives nothing, and what ends with it.

use std::time::Duration;

use rowhouse_auth_kit::Role;
use rowhouse_context::Principal;
use rowhouse_types::UserId;

use crate::error::Error;
use crate::impersonation;
use crate::member::{self, Invite};
use crate::operator::Reason;
use crate::operator::command::{Granted, grant, revoke};
use crate::rights::Standing;
use crate::role::{self, TenantRole};
use crate::service_account::{self, AccountName, ApiKey, NewAccount, keys};
use crate::session::Pair;
use crate::tests::bench::{Bench, House, PASSWORD, anonymous, ctx, key_of};

const ROOT: &str = "root@rowhouse.example";

pub(super) fn why() -> Reason {
    Reason::parse_required("has left").unwrap()
}

/// A tenant, an operator, and another who is a member of the tenant, with their session as operator.
pub(super) async fn start(name: &str) -> (Bench, House, UserId, Pair) {
    let bench = Bench::start(name).await;
    bench.operator(ROOT).await;
    let house = bench.house("acme").await;
    let made = grant(&bench.state.db, &house.email.parse().unwrap(), &why(), |_| Ok(())).await;
    assert_eq!(made.unwrap(), Granted::Promoted);
    let pair = bench.login(&house.email, PASSWORD, None).await.unwrap();
    (bench, house.clone(), house.admin, pair)
}

pub(super) async fn end(bench: &Bench, email: &str) -> Result<bool, Error> {
    revoke(&bench.state.db, &email.parse().unwrap(), &why()).await
}

#[tokio::test]
async fn who_was_an_operator_is_none_and_stays_a_member() {
    let (bench, house, _, platform) = start("operator_end").await;
    let as_member = bench.login(&house.email, PASSWORD, Some(house.tenant)).await.unwrap();
    assert_eq!(bench.standing(&platform).await, Standing::Good);
    assert!(end(&bench, &house.email).await.unwrap());
    assert_eq!(bench.standing(&platform).await, Standing::Revoked);
    assert_eq!(bench.standing(&as_member).await, Standing::Good);
    let again = bench.login(&house.email, PASSWORD, None).await.unwrap();
    assert_eq!(again.session.tenant, Some(house.tenant));
    assert!(!end(&bench, &house.email).await.unwrap(), "nothing is left to take");
    let audited = "SELECT count(*) FROM auth.audit
        WHERE action = 'platform.revoke' AND reason = 'has left' AND tenant_id IS NULL";
    assert_eq!(bench.count(audited).await, 1);
    // Who becomes one again logs in again.
    let made = grant(&bench.state.db, &house.email.parse().unwrap(), &why(), |_| Ok(())).await;
    assert_eq!(made.unwrap(), Granted::Promoted);
    assert_eq!(bench.standing(&platform).await, Standing::Revoked);
}

#[tokio::test]
async fn what_they_have_opened_and_made_in_tenants_ends_and_nothing_of_others_does() {
    let (bench, _, user, platform) = start("operator_end_all").await;
    let (state, other) = (&bench.state, bench.house("globex").await);
    let session = platform.session.id;
    let there = ctx(Principal::Operator { user, session }, Some(other.tenant));
    let admin = bench.ctx_of(other.admin, other.tenant).await;
    let new = NewAccount {
        name: AccountName::parse_required("Importer").unwrap(),
        role: TenantRole::BuiltIn(Role::User),
        request: None,
    };
    let account = service_account::actions::create(&admin, state, &new).await.unwrap().id;
    let (_, theirs) = keys::create(&there, state, &key_of(account, 30)).await.unwrap();
    let (_, anothers) = keys::create(&admin, state, &key_of(account, 30)).await.unwrap();
    let mut sent = Vec::new();
    for (by, email) in [(&there, "mole@globex.example"), (&admin, "ada@globex.example")] {
        let invite = Invite {
            email: email.parse().unwrap(),
            role: TenantRole::BuiltIn(Role::User),
            request: None,
        };
        sent.push(member::actions::invite(by, state, &invite).await.unwrap().id);
    }
    let acts = impersonation::Start {
        tenant: other.tenant,
        user: other.admin,
        reason: why(),
        lasts: Duration::from_secs(600),
    };
    impersonation::actions::start(&Bench::ctx_in(&platform), state, &acts)
        .await
        .unwrap();

    assert!(end(&bench, "admin@acme.example").await.unwrap());
    let exchanged = async |key: &ApiKey| keys::exchange(&anonymous(), state, key).await.map(drop);
    assert!(matches!(exchanged(&theirs).await, Err(Error::ApiKeyInvalid)));
    exchanged(&anothers).await.unwrap();
    assert!(bench.accept(sent[0], PASSWORD).await.is_err());
    bench.accept(sent[1], PASSWORD).await.unwrap();
    let running = "SELECT count(*) FROM auth.sessions WHERE impersonator_id IS NOT NULL AND revoked_at IS NULL";
    assert_eq!(bench.count(running).await, 0);
    for action in ["impersonation.end", "api_key.revoke"] {
        let audited = format!(
            "SELECT count(*) FROM auth.audit WHERE action = '{action}' AND tenant_id = '{}'",
            other.tenant.uuid()
        );
        assert_eq!(bench.count(&audited).await, 1, "{action}");
    }
}

#[tokio::test]
async fn the_last_active_operator_stays_one() {
    let (bench, house, user, platform) = start("operator_last").await;
    let disable = format!(
        "UPDATE auth.identities SET state = 'disabled' WHERE id <> '{}'",
        user.uuid()
    );
    bench.execute(&disable).await;
    let refused = end(&bench, &house.email).await;
    assert!(matches!(refused, Err(Error::LastOperator)), "{refused:?}");
    assert_eq!(bench.standing(&platform).await, Standing::Good);
    assert!(end(&bench, ROOT).await.unwrap(), "one that is disabled is none to keep");
    let nobody = end(&bench, "nobody@rowhouse.example").await;
    assert!(matches!(nobody, Err(Error::NotFound { kind: "account", .. })));
}

#[tokio::test]
async fn it_is_acknowledged_when_every_lease_has_confirmed_it() {
    let (bench, house, user, platform) = start("operator_acknowledge").await;
    let (db, email) = (bench.state.db.clone(), house.email.parse().unwrap());
    let ending = async move { revoke(&db, &email, &why()).await };
    let (ended, subjects) = bench.acknowledged(ending).await;
    assert!(ended);
    for subject in [user.to_string(), platform.session.id.to_string()] {
        assert!(subjects.contains(&subject), "{subject}");
    }
}

#[tokio::test]
async fn what_they_are_making_meanwhile_is_waited_for_and_ends_too() {
    let (bench, house, user, platform) = start("operator_race").await;
    let admin = bench.ctx_of(house.admin, house.tenant).await;
    let new = NewAccount {
        name: AccountName::parse_required("Importer").unwrap(),
        role: TenantRole::BuiltIn(Role::User),
        request: None,
    };
    let account = service_account::actions::create(&admin, &bench.state, &new)
        .await
        .unwrap()
        .id;
    let (_, key) = keys::create(&admin, &bench.state, &key_of(account, 30)).await.unwrap();
    bench
        .execute("UPDATE auth.api_keys SET created_by = gen_random_uuid()")
        .await;
    let session = platform.session.id;
    let there = ctx(Principal::Operator { user, session }, Some(house.tenant));
    let mut making = bench.state.begin().await.unwrap();
    role::actions::held(&mut making, &there, house.tenant).await.unwrap();
    let (db, email) = (bench.state.db.clone(), house.email.parse().unwrap());
    let mut ending = tokio::spawn(async move { revoke(&db, &email, &why()).await });
    bench.until_it_waits(&mut ending).await;
    sqlx::query("UPDATE auth.api_keys SET created_by = $1")
        .bind(user.uuid())
        .execute(&mut *making)
        .await
        .unwrap();
    making.commit().await.unwrap();
    assert!(ending.await.unwrap().unwrap());
    let exchanged = keys::exchange(&anonymous(), &bench.state, &key).await.map(drop);
    assert!(matches!(exchanged, Err(Error::ApiKeyInvalid)));
}

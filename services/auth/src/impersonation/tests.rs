//! Who may act as whom, and that it ends with everything that it stands on.

mod logs;
mod policy;

use std::time::Duration;

use rowhouse_auth_kit::Role;
use rowhouse_context::{Ctx, Impersonator, Principal};
use rowhouse_types::{SessionId, TenantId, UserId};

use super::{Impersonation, LASTS, Reason, Start, actions};
use crate::error::Error;
use crate::rights::{Query, Standing};
use crate::session;
use crate::tests::bench::{Bench, House, ctx};

/// A tenant with a member, and an operator who has logged in twice.
struct Office {
    bench: Bench,
    house: House,
    member: UserId,
    operator: Ctx,
    colleague: Ctx,
}

impl Office {
    async fn open(name: &str) -> Self {
        let bench = Bench::start(name).await;
        let house = bench.house("acme").await;
        let member = bench.member(&house, "ada@acme.example", Role::Manager).await;
        let password = bench.operator("first@rowhouse.example").await;
        let pair = bench.login("first@rowhouse.example", &password, None).await.unwrap();
        let operator = Bench::ctx_in(&pair);
        let again = bench.login("first@rowhouse.example", &password, None).await.unwrap();
        Self {
            colleague: Bench::ctx_in(&again),
            bench,
            house,
            member,
            operator,
        }
    }

    fn as_member(&self, user: UserId) -> Start {
        Start {
            tenant: self.house.tenant,
            user,
            reason: Reason::parse_required("ticket 7").unwrap(),
            lasts: LASTS,
        }
    }

    async fn start(&self) -> Impersonation {
        let start = self.as_member(self.member);
        actions::start(&self.operator, &self.bench.state, &start).await.unwrap()
    }

    /// The sessions that are listed as going on, two a page.
    async fn running(&self, tenant: Option<TenantId>) -> Vec<SessionId> {
        let (mut seen, mut token) = (Vec::new(), String::new());
        loop {
            let page = actions::list(&self.colleague, &self.bench.state, tenant, 2, &token).await;
            let page = page.unwrap();
            seen.extend(page.items.iter().map(|running| running.session));
            token = page.next_page_token;
            if token.is_empty() {
                return seen;
            }
        }
    }

    /// What a token of this session gives that names `by`.
    async fn standing(&self, session: SessionId, by: Option<Impersonator>) -> Standing {
        let query = Query {
            user: self.member,
            session: Some(session),
            tenant: Some(self.house.tenant),
            platform: false,
            key: None,
            by,
        };
        self.bench.rights(query).await.standing
    }
}

fn by(ctx: &Ctx) -> Impersonator {
    match ctx.principal() {
        Principal::Operator { user, session } => Impersonator {
            operator: *user,
            session: *session,
        },
        other => panic!("{other:?} is no operator"),
    }
}

#[tokio::test]
async fn it_gives_the_members_rights_to_who_has_opened_it_and_to_nobody_else() {
    let office = Office::open("impersonation_rights").await;
    let opened = office.start().await.opened;
    let own = by(&office.operator);
    assert_eq!(office.standing(opened.session, Some(own)).await, Standing::Good);
    assert_eq!(
        office.standing(opened.session, None).await,
        Standing::Revoked,
        "a plain token"
    );
    let others = [
        by(&office.colleague),
        Impersonator {
            operator: office.member,
            ..own
        },
        Impersonator {
            session: opened.session,
            ..own
        },
        Impersonator {
            operator: UserId::generate(),
            session: SessionId::generate(),
        },
    ];
    for other in others {
        assert_eq!(
            office.standing(opened.session, Some(other)).await,
            Standing::Revoked,
            "{other:?}"
        );
    }
    // A session that the member has opened is not one of these.
    let theirs = office.bench.ctx_of(office.member, office.house.tenant).await;
    let Principal::Member { session, .. } = theirs.principal() else {
        panic!("a member")
    };
    assert_eq!(office.standing(*session, None).await, Standing::Good);
    assert_eq!(office.standing(*session, Some(own)).await, Standing::Revoked);
}

#[tokio::test]
async fn it_ends_when_anything_ends_that_it_stands_on() {
    // What ends, how, and how it is undone for the next.
    let ends = [
        (
            "the operator's session",
            "UPDATE auth.sessions SET revoked_at = now(), revoke_reason = 'logout' WHERE id = '{origin}'",
            "UPDATE auth.sessions SET revoked_at = NULL, revoke_reason = NULL WHERE id = '{origin}'",
        ),
        (
            "the operator's role",
            "DELETE FROM auth.platform_grants",
            "INSERT INTO auth.platform_grants (identity_id, role) VALUES ('{operator}', 'super_admin')",
        ),
        (
            "the operator's account",
            "UPDATE auth.identities SET state = 'disabled' WHERE id = '{operator}'",
            "UPDATE auth.identities SET state = 'active' WHERE id = '{operator}'",
        ),
        (
            "the membership",
            "UPDATE auth.memberships SET state = 'disabled' WHERE identity_id = '{member}'",
            "UPDATE auth.memberships SET state = 'active' WHERE identity_id = '{member}'",
        ),
        (
            "the operator's time",
            "UPDATE auth.sessions SET expires_at = now() WHERE id = '{origin}'",
            "UPDATE auth.sessions SET expires_at = now() + interval '1 day' WHERE id = '{origin}'",
        ),
        (
            "its own time",
            "UPDATE auth.sessions SET expires_at = now() WHERE id = '{session}'",
            "SELECT",
        ),
    ];
    let office = Office::open("impersonation_ends").await;
    for (what, end, undo) in ends {
        let opened = office.start().await.opened;
        let about = |sql: &str| {
            sql.replace("{origin}", &opened.by.session.uuid().to_string())
                .replace("{operator}", &opened.by.operator.uuid().to_string())
                .replace("{member}", &office.member.uuid().to_string())
                .replace("{session}", &opened.session.uuid().to_string())
        };
        assert_eq!(
            office.standing(opened.session, Some(opened.by)).await,
            Standing::Good,
            "{what}"
        );
        let runs = async || office.running(None).await.contains(&opened.session);
        assert!(runs().await, "{what}");
        office.bench.execute(&about(end)).await;
        assert_eq!(
            office.standing(opened.session, Some(opened.by)).await,
            Standing::Revoked,
            "{what}"
        );
        assert!(!runs().await, "{what}");
        office.bench.execute(&about(undo)).await;
    }
}

#[tokio::test]
async fn only_an_active_member_of_the_tenant_is_acted_as() {
    let office = Office::open("impersonation_whom").await;
    let other = office.bench.house("other").await;
    let nobody = office.as_member(UserId::generate());
    let strangers = [
        nobody,
        office.as_member(other.admin),
        office.as_member(by(&office.operator).operator),
        Start {
            tenant: TenantId::generate(),
            ..office.as_member(office.member)
        },
    ];
    for stranger in strangers {
        let refused = actions::start(&office.operator, &office.bench.state, &stranger).await;
        assert!(
            matches!(refused, Err(Error::NotFound { kind: "member", .. })),
            "{stranger:?}"
        );
    }
    let sql = format!(
        "UPDATE auth.memberships SET state = 'disabled' WHERE identity_id = '{}'",
        office.member.uuid()
    );
    office.bench.execute(&sql).await;
    let start = office.as_member(office.member);
    let refused = actions::start(&office.operator, &office.bench.state, &start).await;
    assert!(matches!(refused, Err(Error::NotFound { kind: "member", .. })));
    let member = office.bench.ctx_of(office.house.admin, office.house.tenant).await;
    assert!(
        actions::start(&member, &office.bench.state, &start).await.is_err(),
        "no operator"
    );
}

#[tokio::test]
async fn its_end_is_acknowledged_and_audited_and_ends_it_for_good() {
    let office = Office::open("impersonation_end").await;
    let started = office.start().await;
    let (state, id) = (&office.bench.state, started.opened.session);
    assert!(started.expires <= started.opened.ends);
    let renewed = actions::renew(&office.operator, state, id).await.unwrap();
    assert_eq!(renewed.opened, started.opened);
    let refused = actions::renew(&office.colleague, state, id).await;
    assert!(
        matches!(refused, Err(Error::NotFound { .. })),
        "in another of their sessions"
    );
    // Whoever has lost the session that they opened it in ends it in another.
    actions::end(&office.colleague, state, id).await.unwrap();
    actions::end(&office.operator, state, id).await.unwrap();
    assert_eq!(office.standing(id, Some(started.opened.by)).await, Standing::Revoked);
    assert!(actions::renew(&office.operator, state, id).await.is_err());
    let unknown = actions::end(&office.operator, state, SessionId::generate()).await;
    assert!(matches!(unknown, Err(Error::NotFound { .. })));
    // Another operator has nothing to do with it.
    let second = office.start().await.opened.session;
    let other = Principal::Operator {
        user: office.house.admin,
        session: by(&office.operator).session,
    };
    let other = ctx(other, None);
    for refused in [
        actions::renew(&other, state, second).await.map(drop),
        actions::end(&other, state, second).await,
    ] {
        assert!(matches!(refused, Err(Error::NotFound { .. })));
    }
    actions::renew(&office.operator, state, second).await.unwrap();
    let entries = format!(
        "SELECT count(*) FROM auth.audit WHERE tenant_id = '{}' AND actor = '{}' AND target = '{}'
             AND (action = 'impersonation.start' AND reason = 'ticket 7' OR action = 'impersonation.end')",
        office.house.tenant.uuid(),
        by(&office.operator).operator,
        office.member,
    );
    assert_eq!(office.bench.count(&entries).await, 3, "two beginnings and one end");
}

#[tokio::test]
async fn the_member_sees_it_among_their_sessions_and_may_end_it() {
    let office = Office::open("impersonation_seen").await;
    let opened = office.start().await.opened;
    let theirs = office.bench.ctx_of(office.member, office.house.tenant).await;
    let listed = session::manage::list(&theirs, &office.bench.state, 10, "")
        .await
        .unwrap()
        .items;
    let seen = listed
        .iter()
        .find(|listed| listed.id == opened.session)
        .expect("it is there");
    assert!(seen.impersonated && seen.expires <= opened.ends);
    assert_eq!(listed.iter().filter(|listed| listed.impersonated).count(), 1);
    session::manage::revoke(&theirs, &office.bench.state, opened.session)
        .await
        .unwrap();
    assert_eq!(
        office.standing(opened.session, Some(opened.by)).await,
        Standing::Revoked
    );
}

#[tokio::test]
async fn it_ends_with_the_operators_session_at_the_latest() {
    let office = Office::open("impersonation_bounded").await;
    let sql = format!(
        "UPDATE auth.sessions SET expires_at = now() + interval '2 minutes' WHERE id = '{}'",
        by(&office.operator).session.uuid()
    );
    office.bench.execute(&sql).await;
    let started = office.start().await;
    let left = started.opened.ends - chrono::Utc::now();
    assert!(left.to_std().unwrap() <= Duration::from_secs(121), "{left}");
    assert!(started.expires <= started.opened.ends, "nor does its token outlast it");
    let principal = Principal::Member {
        user: office.member,
        session: SessionId::generate(),
        tenant: office.house.tenant,
    };
    let member = ctx(principal, Some(office.house.tenant));
    let refused = actions::renew(&member, &office.bench.state, started.opened.session).await;
    assert!(refused.is_err(), "no operator");
}

/// What the tenant asks of sessions holds for these too; whether a second factor was shown, the operator's own session says.
#[tokio::test]
async fn the_tenants_policy_about_log_ins_holds() {
    let office = Office::open("impersonation_policy").await;
    let policy = format!(
        "INSERT INTO auth.login_policies (tenant_id, session_lifetime_s, second_factor_required) VALUES ('{}', 900, true)",
        office.house.tenant.uuid()
    );
    office.bench.execute(&policy).await;
    let start = Start {
        lasts: super::LASTS_MAX,
        ..office.as_member(office.member)
    };
    let opened = actions::start(&office.operator, &office.bench.state, &start)
        .await
        .unwrap()
        .opened;
    let left = (opened.ends - chrono::Utc::now()).to_std().unwrap();
    assert!(left <= Duration::from_secs(901), "{left:?}");
    let lacks = Standing::SecondFactorNotShown;
    assert_eq!(office.standing(opened.session, Some(opened.by)).await, lacks);
    let shown = |shown: bool| {
        let id = opened.by.session.uuid();
        format!("UPDATE auth.sessions SET second_factor = {shown} WHERE id = '{id}'")
    };
    office.bench.execute(&shown(true)).await;
    assert_eq!(office.standing(opened.session, Some(opened.by)).await, Standing::Good);
    office.bench.execute(&shown(false)).await;
    assert_eq!(office.standing(opened.session, Some(opened.by)).await, lacks);
    let renewed = actions::renew(&office.operator, &office.bench.state, opened.session).await;
    assert!(matches!(renewed, Err(Error::SecondFactorNotShown)));
}

#[tokio::test]
async fn a_new_token_ends_when_the_tenant_has_come_to_end_the_session() {
    let office = Office::open("impersonation_stricter").await;
    let opened = office.start().await.opened;
    let stricter = format!(
        "UPDATE auth.sessions SET created_at = now() - interval '11 minutes' WHERE impersonator_id IS NOT NULL;
         INSERT INTO auth.login_policies (tenant_id, session_lifetime_s) VALUES ('{}', 900)",
        office.house.tenant.uuid()
    );
    office.bench.execute(&stricter).await;
    let renewed = actions::renew(&office.operator, &office.bench.state, opened.session).await;
    let renewed = renewed.unwrap();
    let ends = "SELECT floor(extract(epoch FROM created_at + interval '15 minutes'))::bigint FROM auth.sessions
                WHERE impersonator_id IS NOT NULL";
    let ends = office.bench.count(ends).await;
    assert_eq!(renewed.opened.ends.timestamp(), ends, "it is told when it ends");
    assert_eq!(renewed.expires.timestamp(), ends);
}

/// As in the last second of the operator's own session; no policy can ask for so little.
#[tokio::test]
async fn none_begins_of_which_nothing_is_left() {
    let office = Office::open("impersonation_over").await;
    let policy = format!(
        "ALTER TABLE auth.login_policies DROP CONSTRAINT login_policies_session_lifetime;
         INSERT INTO auth.login_policies (tenant_id, session_lifetime_s) VALUES ('{}', 0)",
        office.house.tenant.uuid()
    );
    office.bench.execute(&policy).await;
    let start = office.as_member(office.member);
    let refused = actions::start(&office.operator, &office.bench.state, &start).await;
    assert!(matches!(refused.map(drop), Err(Error::Revoked)));
    let opened = "SELECT count(*) FROM auth.sessions WHERE impersonator_id IS NOT NULL";
    assert_eq!(office.bench.count(opened).await, 0);
}

#[tokio::test]
async fn nobody_acts_in_a_tenant_that_is_suspended() {
    let office = Office::open("impersonation_suspended").await;
    let opened = office.start().await.opened;
    office
        .bench
        .set_access(office.house.tenant, crate::tenant::Access::Suspended)
        .await;
    let start = office.as_member(office.member);
    let refused = actions::start(&office.operator, &office.bench.state, &start).await;
    assert!(matches!(refused, Err(Error::TenantSuspended)));
    let refused = actions::renew(&office.operator, &office.bench.state, opened.session).await;
    assert!(matches!(refused, Err(Error::TenantSuspended)));
}

#[tokio::test]
async fn who_acts_as_whom_is_listed_in_pages_until_it_ends() {
    let office = Office::open("impersonation_list").await;
    let elsewhere = office.bench.house("other").await;
    let mut opened = Vec::new();
    for _ in 0..3 {
        opened.push(office.start().await.opened);
    }
    let there = Start {
        tenant: elsewhere.tenant,
        ..office.as_member(elsewhere.admin)
    };
    let from = office.operator.clone().with_origin(None, Some("192.0.2.1".to_owned()));
    let there = actions::start(&from, &office.bench.state, &there).await.unwrap().opened;
    let here: Vec<SessionId> = opened.iter().rev().map(|opened| opened.session).collect();
    let all: Vec<SessionId> = std::iter::once(there.session).chain(here.clone()).collect();
    assert_eq!(
        office.running(None).await,
        all,
        "the latest first, and nobody's own log-ins"
    );
    assert_eq!(office.running(Some(office.house.tenant)).await, here);
    assert_eq!(office.running(Some(TenantId::generate())).await, []);
    let listed = actions::list(&office.colleague, &office.bench.state, Some(elsewhere.tenant), 10, "").await;
    let listed = listed.unwrap().items;
    assert_eq!(
        (listed[0].user, listed[0].operator, listed[0].ends),
        (elsewhere.admin, there.by.operator, there.ends)
    );
    assert_eq!(listed[0].address.as_deref(), Some("192.0.2.1"));
    // A page goes on in its own list alone.
    let first = actions::list(&office.colleague, &office.bench.state, None, 2, "")
        .await
        .unwrap();
    let tenant = Some(office.house.tenant);
    let mixed = actions::list(
        &office.colleague,
        &office.bench.state,
        tenant,
        2,
        &first.next_page_token,
    )
    .await;
    assert!(matches!(mixed, Err(Error::PageToken)));

    actions::end(&office.operator, &office.bench.state, there.session)
        .await
        .unwrap();
    assert_eq!(office.running(None).await, here);
    let stricter = format!(
        "UPDATE auth.sessions SET created_at = now() - interval '20 minutes' WHERE impersonator_id IS NOT NULL;
         INSERT INTO auth.login_policies (tenant_id, session_lifetime_s) VALUES ('{}', 900)",
        office.house.tenant.uuid()
    );
    office.bench.execute(&stricter).await;
    assert_eq!(office.running(None).await, [], "the tenant's bound holds here too");
}

#[tokio::test]
async fn who_is_an_operator_no_more_starts_none_in_a_session_that_is_left() {
    let office = Office::open("impersonation_no_role").await;
    office.bench.execute("DELETE FROM auth.platform_grants").await;
    let start = office.as_member(office.member);
    let refused = actions::start(&office.operator, &office.bench.state, &start).await;
    assert!(matches!(refused.map(drop), Err(Error::Revoked)));
}

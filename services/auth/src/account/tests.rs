//! One's own account on a real database.

mod alike;
mod failed;
mod logs;
mod recovery;
mod shown;

use rowhouse_auth_kit::Role;
use rowhouse_status::{Failure, Reason};
use rowhouse_types::{SessionId, TenantId};

use super::PasswordChange;
use super::actions::tenants;
use super::password::change as change_password;
use crate::error::Error;
use crate::identity::{NewPassword, OfferedPassword};
use crate::member::{MemberState, actions::update};
use crate::rights::Standing;
use crate::role::TenantRole;
use crate::session::manage::{list, revoke, revoke_all, switch};
use crate::session::{Pair, Scope};
use crate::tenant::Access;
use crate::tests::bench::{Bench, House, PASSWORD};
use crate::{identity, invitation, mail, member, session};

/// What the password is changed to.
const OTHER: &str = "battery horse correct";

fn to(current: &str, new: &str) -> PasswordChange {
    PasswordChange {
        current: OfferedPassword::parse(current).unwrap(),
        new: NewPassword::parse(new).unwrap(),
    }
}

async fn start(name: &str) -> (Bench, House, Pair) {
    let bench = Bench::start(name).await;
    let house = bench.house("acme").await;
    let pair = bench.login(&house.email, PASSWORD, None).await.unwrap();
    (bench, house, pair)
}

#[tokio::test]
async fn a_new_password_ends_every_other_session_of_the_account_and_of_nobody_else() {
    let (bench, house, own) = start("account_password").await;
    let elsewhere = bench.house("globex").await;
    bench.member(&elsewhere, &house.email, Role::User).await;
    let others = [
        bench.login(&house.email, PASSWORD, Some(house.tenant)).await.unwrap(),
        bench
            .login(&house.email, PASSWORD, Some(elsewhere.tenant))
            .await
            .unwrap(),
    ];
    let stranger = bench.login(&elsewhere.email, PASSWORD, None).await.unwrap();
    let ctx = Bench::ctx_in(&own);
    change_password(&ctx, &bench.state, &to(PASSWORD, OTHER)).await.unwrap();

    for ended in &others {
        assert_eq!(bench.standing(ended).await, Standing::Revoked);
        let refreshed = session::refresh::refresh(&ctx, &bench.state, &ended.refresh_token).await;
        assert!(matches!(refreshed, Err(Error::RefreshTokenInvalid)));
    }
    assert_eq!(bench.standing(&own).await, Standing::Good);
    assert_eq!(bench.standing(&stranger).await, Standing::Good);
    let old = bench.login(&house.email, PASSWORD, Some(house.tenant)).await;
    assert!(matches!(old, Err(Error::LoginFailed)));
    assert!(bench.login(&house.email, OTHER, Some(house.tenant)).await.is_ok());
    // Each tenant is told of its own.
    for tenant in [house.tenant, elsewhere.tenant] {
        let audited = format!(
            "SELECT count(*) FROM auth.audit WHERE action = 'password.change' AND tenant_id = '{}' \
             AND after->>'sessions_ended' = '1'",
            tenant.uuid()
        );
        assert_eq!(bench.count(&audited).await, 1);
    }
}

#[tokio::test]
async fn a_new_password_is_not_the_name_of_a_tenant_that_one_is_in() {
    const NAME: &str = "harbour tea company";
    let (bench, house, own) = start("account_name").await;
    let ctx = Bench::ctx_in(&own);
    let elsewhere = bench.house("globex").await;
    let name = |tenant: TenantId| {
        format!(
            "UPDATE auth.tenants SET display_name = 'Harbour Tea Company' WHERE id = '{}'",
            tenant.uuid()
        )
    };
    bench.execute(&name(house.tenant)).await;
    let refused = change_password(&ctx, &bench.state, &to(PASSWORD, NAME)).await;
    assert!(
        matches!(
            refused,
            Err(Error::Field {
                field: "new_password",
                ..
            })
        ),
        "{refused:?}"
    );
    // The control: of a tenant that one is not in, it is any sentence.
    bench.execute("UPDATE auth.tenants SET display_name = 'Acme'").await;
    bench.execute(&name(elsewhere.tenant)).await;
    change_password(&ctx, &bench.state, &to(PASSWORD, NAME)).await.unwrap();
}

#[tokio::test]
async fn a_wrong_current_password_changes_nothing() {
    let (bench, house, own) = start("account_wrong").await;
    let ctx = Bench::ctx_in(&own);
    let refused = change_password(&ctx, &bench.state, &to(OTHER, OTHER)).await;
    let failure = Failure::from(refused.unwrap_err());
    assert_eq!(failure.reason(), Reason::FieldInvalid);
    assert_eq!(failure.violations()[0].field, "current_password");
    assert!(bench.login(&house.email, PASSWORD, None).await.is_ok());
    assert_eq!(
        bench
            .count("SELECT count(*) FROM auth.audit WHERE action = 'password.change'")
            .await,
        0
    );
}

#[tokio::test]
async fn of_two_changes_at_once_under_one_password_the_second_is_refused() {
    let (bench, house, own) = start("account_twice").await;
    let calls = [OTHER, "a third password"].map(|new| {
        let (state, ctx) = (bench.state.clone(), Bench::ctx_in(&own));
        tokio::spawn(async move { change_password(&ctx, &state, &to(PASSWORD, new)).await })
    });
    let mut done = 0;
    for call in calls {
        match call.await.unwrap() {
            Ok(()) => done += 1,
            Err(error) => assert!(
                matches!(
                    error,
                    Error::Field {
                        field: "current_password",
                        ..
                    }
                ),
                "{error:?}"
            ),
        }
    }
    assert_eq!(done, 1);
    assert!(bench.login(&house.email, PASSWORD, None).await.is_err());
}

/// A log-in whose password was right when it was compared, and is not when its session would be opened.
#[tokio::test]
async fn a_log_in_that_the_change_overtakes_opens_nothing() {
    let (bench, house, _) = start("account_overtaken").await;
    let mut changing = bench.state.begin().await.unwrap();
    identity::lock(&mut changing, house.admin).await.unwrap().unwrap();
    let sessions = "SELECT count(*) FROM auth.sessions";
    let before = bench.count(sessions).await;
    let (state, email) = (bench.state.clone(), house.email.clone());
    let mut logging_in = tokio::spawn(async move {
        let attempt = session::Attempt {
            email: email.parse().unwrap(),
            password: OfferedPassword::parse(PASSWORD).unwrap(),
            tenant: None,
            second_factor: None,
            device: None,
        };
        session::actions::login(&crate::tests::bench::anonymous(), &state, &attempt).await
    });
    bench.until_it_waits(&mut logging_in).await;
    identity::set_password(&mut changing, house.admin, "another hash")
        .await
        .unwrap();
    changing.commit().await.unwrap();
    assert!(matches!(logging_in.await.unwrap().map(drop), Err(Error::LoginFailed)));
    assert_eq!(bench.count(sessions).await, before);
}

/// The same for somebody who joins another tenant with the password that they had.
#[tokio::test]
async fn an_acceptance_that_the_change_overtakes_joins_nothing() {
    let (bench, house, _) = start("account_accepting").await;
    let neighbour = bench.house("globex").await;
    let admin = bench.ctx_of(neighbour.admin, neighbour.tenant).await;
    let invite = member::Invite {
        email: house.email.parse().unwrap(),
        role: TenantRole::BuiltIn(Role::User),
        request: None,
    };
    let sent = member::actions::invite(&admin, &bench.state, &invite).await.unwrap();
    let mail = mail::actions::invitation_mail(&admin, &bench.state, sent.id)
        .await
        .unwrap();
    let mut changing = bench.state.begin().await.unwrap();
    identity::lock(&mut changing, house.admin).await.unwrap().unwrap();
    let state = bench.state.clone();
    let mut accepting = tokio::spawn(async move {
        let acceptance = crate::tests::bench::acceptance(mail.token, PASSWORD);
        invitation::accept(&crate::tests::bench::anonymous(), &state, &acceptance).await
    });
    bench.until_it_waits(&mut accepting).await;
    identity::set_password(&mut changing, house.admin, "another hash")
        .await
        .unwrap();
    changing.commit().await.unwrap();
    assert!(matches!(accepting.await.unwrap(), Err(Error::LoginFailed)));
}

/// A session that is being opened while all are ended: the end waits for it.
#[tokio::test]
async fn what_is_being_opened_is_ended_too() {
    let (bench, house, own) = start("account_opening").await;
    let mut opening = bench.state.begin().await.unwrap();
    assert!(identity::hold(&mut opening, house.admin, None).await.unwrap());
    let late = SessionId::generate();
    sqlx::query(
        "INSERT INTO auth.sessions (id, identity_id, tenant_id, expires_at) VALUES ($1, $2, $3, now() + interval '1 day')",
    )
    .bind(late.uuid())
    .bind(house.admin.uuid())
    .bind(house.tenant.uuid())
    .execute(&mut *opening)
    .await
    .unwrap();
    let (state, ctx) = (bench.state.clone(), Bench::ctx_in(&own));
    let mut ending = tokio::spawn(async move { revoke_all(&ctx, &state, Scope::Others).await });
    bench.until_it_waits(&mut ending).await;
    opening.commit().await.unwrap();
    assert_eq!(ending.await.unwrap().unwrap(), 1);
    let left = format!(
        "SELECT count(*) FROM auth.sessions WHERE id = '{}' AND revoked_at IS NULL",
        late.uuid()
    );
    assert_eq!(bench.count(&left).await, 0);
}

#[tokio::test]
async fn the_list_holds_the_sessions_that_can_be_used_the_newest_first() {
    let (bench, house, first) = start("account_list").await;
    bench.house("globex").await;
    let mut expected = vec![first.session.id];
    for _ in 0..3 {
        expected.push(bench.login(&house.email, PASSWORD, None).await.unwrap().session.id);
    }
    let gone = bench.login(&house.email, PASSWORD, None).await.unwrap();
    session::actions::logout(&Bench::ctx_in(&gone), &bench.state)
        .await
        .unwrap();
    // Nobody can refresh this one any more, though its last day has not come.
    let idle = bench.login(&house.email, PASSWORD, None).await.unwrap();
    bench
        .execute(&format!(
            "UPDATE auth.refresh_tokens SET expires_at = now() WHERE session_id = '{}'",
            idle.session.id.uuid()
        ))
        .await;
    expected.reverse();

    let ctx = Bench::ctx_in(&first);
    let (mut seen, mut token) = (Vec::new(), String::new());
    loop {
        let page = list(&ctx, &bench.state, 3, &token).await.unwrap();
        assert!(
            page.items
                .iter()
                .all(|listed| listed.current == (listed.id == first.session.id))
        );
        seen.extend(page.items.into_iter().map(|listed| listed.id));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
        let stolen = bench.login("admin@globex.example", PASSWORD, None).await.unwrap();
        let refused = list(&Bench::ctx_in(&stolen), &bench.state, 3, &token).await;
        assert!(matches!(refused, Err(Error::PageToken)));
    }
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn a_session_is_listed_until_its_tenant_ends_it() {
    let (bench, house, own) = start("account_list_policy").await;
    let elsewhere = bench.house("globex").await;
    bench.member(&elsewhere, &house.email, Role::User).await;
    let there = bench.login(&house.email, PASSWORD, Some(elsewhere.tenant)).await;
    let (own_id, there) = (own.session.id, there.unwrap());
    let id = there.session.id;
    let ctx = Bench::ctx_in(&own);
    let listed = async || {
        let sessions = list(&ctx, &bench.state, 10, "").await.unwrap().items;
        let ends = sessions.iter().map(|listed| (listed.id, listed.expires.timestamp()));
        ends.collect::<Vec<_>>()
    };
    let at = async |id: SessionId, time: &str| {
        let id = id.uuid();
        let sql = format!("SELECT floor(extract(epoch FROM {time}))::bigint FROM auth.sessions WHERE id = '{id}'");
        bench.count(&sql).await
    };
    let here = (own_id, at(own_id, "expires_at").await);
    assert_eq!(listed().await, [(id, at(id, "expires_at").await), here]);

    // What the one tenant asks for ends nothing in the other.
    let stricter = format!(
        "INSERT INTO auth.login_policies (tenant_id, session_lifetime_s) VALUES ('{}', 900);
         UPDATE auth.sessions SET created_at = now() - interval '11 minutes'",
        elsewhere.tenant.uuid()
    );
    bench.execute(&stricter).await;
    let ends = at(id, "created_at + interval '15 minutes'").await;
    assert_eq!(listed().await, [(id, ends), here]);
    assert_eq!(bench.standing(&there).await, Standing::Good);
    bench
        .execute("UPDATE auth.sessions SET created_at = now() - interval '16 minutes'")
        .await;
    assert_eq!(listed().await, [here]);
    assert_eq!(bench.standing(&there).await, Standing::Revoked);
}

#[tokio::test]
async fn one_ends_ones_own_sessions_and_nobody_elses() {
    let (bench, house, own) = start("account_revoke").await;
    let other = bench.login(&house.email, PASSWORD, None).await.unwrap();
    bench.house("globex").await;
    let stranger = bench.login("admin@globex.example", PASSWORD, None).await.unwrap();
    let ctx = Bench::ctx_in(&own);
    for id in [stranger.session.id, SessionId::generate()] {
        let refused = revoke(&ctx, &bench.state, id).await.unwrap_err();
        assert!(
            matches!(refused, Error::NotFound { kind: "session", .. }),
            "{refused:?}"
        );
    }
    for _ in 0..2 {
        revoke(&ctx, &bench.state, other.session.id).await.unwrap();
    }
    let standings = [&own, &other, &stranger].map(|pair| bench.standing(pair));
    let [own_standing, other_standing, stranger_standing] = standings;
    assert_eq!(own_standing.await, Standing::Good);
    assert_eq!(other_standing.await, Standing::Revoked);
    assert_eq!(stranger_standing.await, Standing::Good);
    assert_eq!(
        bench
            .count("SELECT count(*) FROM auth.audit WHERE action = 'session.revoke'")
            .await,
        1
    );
}

#[tokio::test]
async fn all_sessions_end_but_ones_own_or_with_it() {
    let (bench, house, own) = start("account_revoke_all").await;
    let mut others = Vec::new();
    for _ in 0..2 {
        others.push(bench.login(&house.email, PASSWORD, None).await.unwrap());
    }
    let ctx = Bench::ctx_in(&own);
    assert_eq!(revoke_all(&ctx, &bench.state, Scope::Others).await.unwrap(), 2);
    assert_eq!(bench.standing(&own).await, Standing::Good);
    for ended in &others {
        assert_eq!(bench.standing(ended).await, Standing::Revoked);
    }
    assert_eq!(revoke_all(&ctx, &bench.state, Scope::Others).await.unwrap(), 0);
    assert_eq!(revoke_all(&ctx, &bench.state, Scope::All).await.unwrap(), 1);
    assert_eq!(bench.standing(&own).await, Standing::Revoked);
}

#[tokio::test]
async fn switching_opens_a_session_in_another_of_ones_tenants_that_ends_when_the_first_does() {
    let (bench, house, own) = start("account_switch").await;
    let elsewhere = bench.house("globex").await;
    let foreign = bench.house("initech").await;
    bench.member(&elsewhere, &house.email, Role::User).await;
    bench
        .execute("UPDATE auth.sessions SET expires_at = now() + interval '1 hour'")
        .await;
    let ctx = Bench::ctx_in(&own);
    let there = switch(&ctx, &bench.state, elsewhere.tenant).await.unwrap();
    assert_eq!(
        (there.session.user, there.session.tenant),
        (house.admin, Some(elsewhere.tenant))
    );
    assert_eq!(bench.standing(&there).await, Standing::Good);
    assert_eq!(bench.standing(&own).await, Standing::Good);
    let ends = "SELECT count(DISTINCT expires_at) FROM auth.sessions WHERE tenant_id IS NOT NULL AND revoked_at IS NULL
        AND identity_id = (SELECT identity_id FROM auth.memberships GROUP BY 1 HAVING count(*) > 1)
        AND expires_at < now() + interval '2 hours'";
    assert_eq!(bench.count(ends).await, 1);

    for tenant in [foreign.tenant, TenantId::generate()] {
        let refused = switch(&ctx, &bench.state, tenant).await.map(drop).unwrap_err();
        assert!(matches!(refused, Error::NotFound { kind: "tenant", .. }), "{refused:?}");
    }
    bench.set_access(elsewhere.tenant, Access::Suspended).await;
    let refused = switch(&ctx, &bench.state, elsewhere.tenant).await.map(drop);
    assert!(matches!(refused, Err(Error::TenantSuspended)));
    bench.set_access(elsewhere.tenant, Access::Allowed).await;
    // A call that was let in before its session ended.
    session::actions::logout(&ctx, &bench.state).await.unwrap();
    let refused = switch(&ctx, &bench.state, elsewhere.tenant).await.map(drop);
    assert!(matches!(refused, Err(Error::Revoked)));
}

#[tokio::test]
async fn the_tenants_are_those_whose_active_member_one_is() {
    let (bench, house, own) = start("account_tenants").await;
    let mut joined = vec![house.tenant];
    for name in ["globex", "initech", "umbrella", "hooli"] {
        let other = bench.house(name).await;
        bench.member(&other, &house.email, Role::User).await;
        joined.push(other.tenant);
        if name == "umbrella" {
            bench.set_access(other.tenant, Access::Suspended).await;
        }
        if name == "hooli" {
            let admin = bench.ctx_of(other.admin, other.tenant).await;
            let change = member::Change {
                user: house.admin,
                role: None,
                state: Some(MemberState::Disabled),
                etag: None,
            };
            update(&admin, &bench.state, &change).await.unwrap();
            joined.pop();
        }
    }
    bench.house("foreign").await;
    joined.sort();
    let ctx = Bench::ctx_in(&own);
    let (mut seen, mut suspended, mut token) = (Vec::new(), 0, String::new());
    loop {
        let page = tenants(&ctx, &bench.state, 2, &token).await.unwrap();
        suspended += page
            .items
            .iter()
            .filter(|tenant| tenant.access == Access::Suspended)
            .count();
        seen.extend(page.items.into_iter().map(|membership| membership.tenant));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!((seen, suspended), (joined, 1));
}

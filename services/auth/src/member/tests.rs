//! Members on a real database.

mod by_themselves;
mod leaving;

use futures_util::future::join_all;
use rowhouse_auth_kit::Role;
use rowhouse_context::{Ctx, Principal};
use rowhouse_status::{Failure, Reason};
use rowhouse_types::{Etag, IdempotencyKey, Limits, SessionId, UserId};

use super::actions::{get, invite, list, update};
use super::{Change, Invite, MemberState};
use crate::error::Error;
use crate::rights::Standing;
use crate::role::TenantRole;
use crate::tests::bench::{Bench, House, PASSWORD, ctx};
use crate::tests::repeated::{a_day_passes, is_reused};

fn invite_to(email: &str, role: Role) -> Invite {
    Invite {
        email: email.parse().unwrap(),
        role: TenantRole::BuiltIn(role),
        request: None,
    }
}

fn to_role(user: UserId, role: Role) -> Change {
    Change {
        user,
        role: Some(TenantRole::BuiltIn(role)),
        state: None,
        etag: None,
    }
}

fn to_state(user: UserId, state: MemberState) -> Change {
    Change {
        user,
        role: None,
        state: Some(state),
        etag: None,
    }
}

async fn start(name: &str) -> (Bench, House, Ctx) {
    let bench = Bench::start(name).await;
    let house = bench.house("acme").await;
    let ctx = bench.ctx_of(house.admin, house.tenant).await;
    (bench, house, ctx)
}

#[tokio::test]
async fn nobody_gives_more_than_they_hold() {
    let (bench, house, admin) = start("member_cover").await;
    let user = bench.member(&house, "ada@acme.example", Role::Manager).await;
    let manager = bench.ctx_of(user, house.tenant).await;
    let more = invite(
        &manager,
        &bench.state,
        &invite_to("bob@acme.example", Role::TenantAdmin),
    )
    .await;
    assert!(matches!(&more, Err(Error::RoleNotCovered { permission }) if permission == "audit:*"));
    assert!(
        invite(&manager, &bench.state, &invite_to("bob@acme.example", Role::User))
            .await
            .is_ok()
    );
    let raised = update(&manager, &bench.state, &to_role(user, Role::TenantAdmin)).await;
    assert!(matches!(raised, Err(Error::RoleNotCovered { .. })));
    assert!(
        invite(&admin, &bench.state, &invite_to("eve@acme.example", Role::TenantAdmin))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn an_operator_may_invite_into_any_open_tenant() {
    let (bench, house, _) = start("member_operator").await;
    let password = bench.operator("root@rowhouse.example").await;
    let pair = bench.login("root@rowhouse.example", &password, None).await.unwrap();
    let principal = Principal::Operator {
        user: pair.session.user,
        session: pair.session.id,
    };
    let operator = ctx(principal, Some(house.tenant));
    assert!(
        invite(
            &operator,
            &bench.state,
            &invite_to("ada@acme.example", Role::TenantAdmin)
        )
        .await
        .is_ok()
    );
}

#[tokio::test]
async fn who_lost_their_rights_meanwhile_invites_nobody() {
    let (bench, house, _) = start("member_lost").await;
    let forged = Principal::Member {
        user: house.admin,
        session: SessionId::generate(),
        tenant: house.tenant,
    };
    let call = ctx(forged, Some(house.tenant));
    let refused = invite(&call, &bench.state, &invite_to("ada@acme.example", Role::User)).await;
    assert!(matches!(refused, Err(Error::Revoked)));
}

#[tokio::test]
async fn a_member_is_not_invited_again() {
    let (bench, house, ctx) = start("member_exists").await;
    bench.member(&house, "ada@acme.example", Role::User).await;
    let again = invite(&ctx, &bench.state, &invite_to("ADA@acme.example", Role::Manager)).await;
    assert!(matches!(again, Err(Error::MemberExists)));
    let refused = Failure::from(again.unwrap_err());
    assert_eq!(refused.reason(), Reason::ResourceAlreadyExists);
    assert_eq!(refused.violations()[0].field, "email");
    let neighbour = bench.house("globex").await;
    let there = bench.ctx_of(neighbour.admin, neighbour.tenant).await;
    assert!(
        invite(&there, &bench.state, &invite_to("ada@acme.example", Role::User))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn a_repeated_request_sends_one_invitation() {
    let (bench, _, ctx) = start("member_request").await;
    let asked = Invite {
        request: Some(IdempotencyKey::generate()),
        ..invite_to("ada@acme.example", Role::User)
    };
    let calls = (0..6).map(|_| {
        let (state, ctx, asked) = (bench.state.clone(), ctx.clone(), asked.clone());
        tokio::spawn(async move { invite(&ctx, &state, &asked).await.unwrap() })
    });
    let answers = join_all(calls.collect::<Vec<_>>()).await;
    let answers: Vec<_> = answers.into_iter().map(|answer| answer.unwrap()).collect();
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    let sent = "SELECT count(*) FROM auth.invitations WHERE email = 'ada@acme.example'";
    assert_eq!(bench.count(sent).await, 1);

    bench.accept(answers[0].id, PASSWORD).await.unwrap();
    let later = invite(&ctx, &bench.state, &asked).await.unwrap();
    assert_eq!(
        later, answers[0],
        "a repeated call is answered whatever became of its invitation"
    );
    let other = Invite {
        request: asked.request,
        ..invite_to("bob@acme.example", Role::User)
    };
    is_reused(invite(&ctx, &bench.state, &other).await);
    a_day_passes(&bench).await;
    assert!(
        invite(&ctx, &bench.state, &other).await.is_ok(),
        "after a day the id is free again"
    );
}

#[tokio::test]
async fn two_administrators_who_demote_each_other_leave_one() {
    let (bench, house, first) = start("member_last").await;
    let second_user = bench.member(&house, "ada@acme.example", Role::TenantAdmin).await;
    let second = bench.ctx_of(second_user, house.tenant).await;
    let calls = [
        (first, to_role(second_user, Role::User)),
        (second, to_state(house.admin, MemberState::Disabled)),
    ];
    let calls = calls.map(|(ctx, change)| {
        let state = bench.state.clone();
        tokio::spawn(async move { update(&ctx, &state, &change).await })
    });
    let answers = join_all(calls).await;
    let done = answers.iter().filter(|answer| answer.as_ref().unwrap().is_ok()).count();
    assert_eq!(done, 1, "{answers:?}");
    let left = "SELECT count(*) FROM auth.memberships WHERE role = 'tenant_admin' AND state = 'active'";
    assert_eq!(bench.count(left).await, 1);
}

#[tokio::test]
async fn disabling_ends_the_sessions_here_and_nowhere_else() {
    let (bench, house, admin) = start("member_disable").await;
    let elsewhere = bench.house("globex").await;
    let user = bench.member(&house, &elsewhere.email, Role::User).await;
    let here = bench
        .login(&elsewhere.email, PASSWORD, Some(house.tenant))
        .await
        .unwrap();
    let there = bench
        .login(&elsewhere.email, PASSWORD, Some(elsewhere.tenant))
        .await
        .unwrap();
    update(&admin, &bench.state, &to_state(user, MemberState::Disabled))
        .await
        .unwrap();
    assert_eq!(bench.standing(&here).await, Standing::Revoked);
    assert_eq!(bench.standing(&there).await, Standing::Good);
    let refused = bench.login(&elsewhere.email, PASSWORD, Some(house.tenant)).await;
    assert!(matches!(refused, Err(Error::LoginFailed)));

    update(&admin, &bench.state, &to_state(user, MemberState::Active))
        .await
        .unwrap();
    assert_eq!(
        bench.standing(&here).await,
        Standing::Revoked,
        "an ended session stays so"
    );
    assert!(
        bench
            .login(&elsewhere.email, PASSWORD, Some(house.tenant))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn a_stale_etag_is_rejected_and_a_repeated_change_changes_nothing() {
    let (bench, house, ctx) = start("member_etag").await;
    let user = bench.member(&house, "ada@acme.example", Role::User).await;
    let before = get(&ctx, &bench.state, user).await.unwrap();
    let change = Change {
        etag: Some(before.etag),
        ..to_role(user, Role::Manager)
    };
    let after = update(&ctx, &bench.state, &change).await.unwrap();
    assert_eq!(
        (after.role.clone(), after.etag),
        (
            TenantRole::BuiltIn(Role::Manager),
            Etag::from_revision(before.etag.revision() + 1)
        )
    );
    assert!(matches!(
        update(&ctx, &bench.state, &change).await,
        Err(Error::EtagMismatch)
    ));
    let repeated = update(&ctx, &bench.state, &to_role(user, Role::Manager)).await.unwrap();
    assert_eq!(repeated, after);
    assert_eq!(get(&ctx, &bench.state, user).await.unwrap(), after);
    let audited = "SELECT count(*) FROM auth.audit WHERE action = 'member.update' \
        AND before->>'role' = 'user' AND after->>'role' = 'manager'";
    assert_eq!(bench.count(audited).await, 1);
}

#[tokio::test]
async fn another_tenants_member_is_like_one_that_never_was() {
    let (bench, house, _) = start("member_foreign").await;
    let neighbour = bench.house("globex").await;
    let there = bench.ctx_of(neighbour.admin, neighbour.tenant).await;
    for user in [house.admin, UserId::generate()] {
        let error = get(&there, &bench.state, user).await.unwrap_err();
        assert!(matches!(error, Error::NotFound { kind: "member", .. }), "{error:?}");
        let error = update(&there, &bench.state, &to_state(user, MemberState::Disabled))
            .await
            .unwrap_err();
        assert!(matches!(error, Error::NotFound { kind: "member", .. }), "{error:?}");
    }
}

#[tokio::test]
async fn pages_hold_every_member_once_the_earliest_first() {
    let (bench, house, ctx) = start("member_pages").await;
    let mut expected = vec![house.admin];
    for n in 0..4 {
        expected.push(bench.member(&house, &format!("m{n}@acme.example"), Role::User).await);
    }
    // Members of one moment are told apart by their ids.
    bench
        .execute("UPDATE auth.memberships SET created_at = '2026-01-01' WHERE role = 'user'")
        .await;
    bench
        .execute("UPDATE auth.memberships SET created_at = '2025-01-01' WHERE role = 'tenant_admin'")
        .await;
    expected[1..].sort();
    bench.house("globex").await;
    let (mut seen, mut token) = (Vec::new(), String::new());
    loop {
        let page = list(&ctx, &bench.state, None, 2, &token).await.unwrap();
        assert!(page.items.len() <= 2);
        seen.extend(page.items.iter().map(|member| member.user));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn seats_are_members_and_open_invitations_and_bound_what_is_new() {
    let (bench, house, admin) = start("member_seats").await;
    let two = bench.within(seats(2)).await;
    invite(&admin, &two, &invite_to("bob@acme.example", Role::User))
        .await
        .unwrap();
    // The administrator and the invitation; the same address again takes no other seat.
    invite(&admin, &two, &invite_to("BOB@acme.example", Role::Manager))
        .await
        .unwrap();
    let refused = invite(&admin, &two, &invite_to("carl@acme.example", Role::User)).await;
    let failure = Failure::from(refused.unwrap_err());
    assert_eq!(failure.reason(), Reason::QuotaExceeded);
    // An invitation that has run out takes none.
    bench
        .execute("UPDATE auth.invitations SET expires_at = now() WHERE state = 'open'")
        .await;
    invite(&admin, &two, &invite_to("carl@acme.example", Role::User))
        .await
        .unwrap();
    // A plan below what is used takes nothing away.
    let one = bench.within(seats(1)).await;
    let refused = invite(&admin, &one, &invite_to("dora@acme.example", Role::User)).await;
    assert!(matches!(refused, Err(Error::QuotaExceeded { tenant, limit: "seats", most: 1 }) if tenant == house.tenant));
}

#[tokio::test]
async fn simultaneous_invitations_never_pass_the_seats() {
    let (bench, _, admin) = start("member_seats_race").await;
    let state = bench.within(seats(4)).await;
    let calls = (0..8).map(|number| {
        let (admin, state) = (admin.clone(), state.clone());
        async move {
            invite(
                &admin,
                &state,
                &invite_to(&format!("p{number}@acme.example"), Role::User),
            )
            .await
        }
    });
    let sent = join_all(calls).await.into_iter().filter(Result::is_ok).count();
    assert_eq!(sent, 3);
}

#[tokio::test]
async fn a_days_invitations_are_bounded_by_the_plans_mails() {
    let (bench, house, admin) = start("member_mails").await;
    // The administrator's own invitation was one.
    let limits = Limits {
        mails_per_day: Some(2),
        ..Limits::default()
    };
    let two = bench.within(limits).await;
    bench
        .execute("UPDATE auth.invitations SET created_at = now() - interval '25 hours'")
        .await;
    for address in ["bob@acme.example", "carl@acme.example"] {
        invite(&admin, &two, &invite_to(address, Role::User)).await.unwrap();
    }
    let refused = invite(&admin, &two, &invite_to("dora@acme.example", Role::User)).await;
    assert!(matches!(
        refused,
        Err(Error::QuotaExceeded { tenant, limit: "mails_per_day", most: 2 }) if tenant == house.tenant
    ));
    // A day later.
    bench
        .execute("UPDATE auth.invitations SET created_at = created_at - interval '24 hours'")
        .await;
    invite(&admin, &two, &invite_to("dora@acme.example", Role::User))
        .await
        .unwrap();
}

fn seats(most: u32) -> Limits {
    Limits {
        seats: Some(most),
        ..Limits::default()
    }
}

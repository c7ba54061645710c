//! Members who are removed, and invitations that are withdrawn.

use rowhouse_auth_kit::Role;
use rowhouse_types::{Etag, InvitationId, Limits, UserId};
use serde_json::json;

use super::{invite_to, start, to_role, to_state};
use crate::error::Error;
use crate::member::MemberState;
use crate::member::actions::{get, invitations, invite, list, remove, resend, revoke_invitation, update};
use crate::rights::Standing;
use crate::role::TenantRole;
use crate::tests::bench::{Bench, PASSWORD};

#[tokio::test]
async fn who_is_removed_is_out_here_and_nowhere_else() {
    let (bench, house, admin) = start("remove").await;
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
    remove(&admin, &bench.state, user, None).await.unwrap();

    assert_eq!(bench.standing(&here).await, Standing::Revoked);
    assert_eq!(bench.standing(&there).await, Standing::Good);
    let again = bench.login(&elsewhere.email, PASSWORD, Some(house.tenant)).await;
    assert!(matches!(again, Err(Error::LoginFailed)));
    for gone in [
        get(&admin, &bench.state, user).await.map(drop),
        update(&admin, &bench.state, &to_role(user, Role::Manager))
            .await
            .map(drop),
        remove(&admin, &bench.state, user, None).await,
    ] {
        assert!(matches!(gone, Err(Error::NotFound { kind: "member", .. })), "{gone:?}");
    }
    let members = list(&admin, &bench.state, None, 50, "").await.unwrap().items;
    assert_eq!(
        members.iter().map(|member| member.user).collect::<Vec<_>>(),
        [house.admin]
    );
    let audited = "SELECT count(*) FROM auth.audit WHERE action = 'member.remove' AND before->>'role' = 'user'";
    assert_eq!(bench.count(audited).await, 1);
}

#[tokio::test]
async fn who_was_removed_can_be_invited_again_and_is_what_the_new_invitation_says() {
    let (bench, house, admin) = start("remove_rejoin").await;
    let user = bench.member(&house, "ada@acme.example", Role::Manager).await;
    let before = get(&admin, &bench.state, user).await.unwrap();
    remove(&admin, &bench.state, user, Some(before.etag)).await.unwrap();
    // The seat is free.
    let two = bench
        .within(Limits {
            seats: Some(2),
            ..Limits::default()
        })
        .await;
    let sent = invite(&admin, &two, &invite_to("ada@acme.example", Role::User))
        .await
        .unwrap();
    assert_eq!(bench.accept(sent.id, PASSWORD).await.unwrap().user, user);
    let after = get(&admin, &bench.state, user).await.unwrap();
    assert_eq!(
        (after.role, after.state),
        (TenantRole::BuiltIn(Role::User), MemberState::Active)
    );
    assert!(
        after.etag.revision() > before.etag.revision() + 1,
        "an etag of the first time names nothing now"
    );
    assert!(bench.login("ada@acme.example", PASSWORD, None).await.is_ok());
}

#[tokio::test]
async fn a_removal_revokes_the_links_that_the_member_sent_and_those_that_were_sent_to_them() {
    let (bench, house, admin) = start("remove_links").await;
    let user = bench.member(&house, "ada@acme.example", Role::TenantAdmin).await;
    let ada = bench.ctx_of(user, house.tenant).await;
    let theirs = invite(&ada, &bench.state, &invite_to("bob@acme.example", Role::User))
        .await
        .unwrap();
    let kept = invite(&admin, &bench.state, &invite_to("carl@acme.example", Role::User))
        .await
        .unwrap();
    // A second founding invites the same address once more.
    let founding = crate::tests::bench::founding(house.tenant, "ada@acme.example");
    let ctx = crate::tests::bench::service_ctx();
    let back = crate::tenant::actions::create_first_administrator(&ctx, &bench.state, &founding)
        .await
        .unwrap();
    remove(&admin, &bench.state, user, None).await.unwrap();
    for revoked in [theirs.id, back] {
        let refused = bench.accept(revoked, PASSWORD).await;
        assert!(matches!(refused, Err(Error::NotFound { .. })), "{refused:?}");
    }
    assert!(bench.accept(kept.id, PASSWORD).await.is_ok());
    let named = json!([theirs.id.to_string(), back.to_string()]);
    assert_eq!(bench.named_as_ended("member.remove", user).await, (json!([]), named));
}

#[tokio::test]
async fn what_a_member_sent_outlives_neither_their_access_nor_the_right_to_give_it() {
    let (bench, house, admin) = start("sender_links").await;
    for (name, change) in [
        ("ada", to_role as fn(UserId, Role) -> _),
        ("eve", |user, _| to_state(user, MemberState::Disabled)),
    ] {
        let user = bench
            .member(&house, &format!("{name}@acme.example"), Role::TenantAdmin)
            .await;
        let sender = bench.ctx_of(user, house.tenant).await;
        let sent = invite(&sender, &bench.state, &invite_to("bob@acme.example", Role::TenantAdmin))
            .await
            .unwrap();
        update(&admin, &bench.state, &change(user, Role::Manager))
            .await
            .unwrap();
        let refused = bench.accept(sent.id, PASSWORD).await;
        assert!(matches!(refused, Err(Error::NotFound { .. })), "{name}: {refused:?}");
        let named = (json!([]), json!([sent.id.to_string()]));
        assert_eq!(bench.named_as_ended("member.update", user).await, named, "{name}");
    }
    // Who gains keeps what they sent.
    let user = bench.member(&house, "ida@acme.example", Role::Manager).await;
    bench
        .execute("UPDATE auth.invitations SET invited_by = NULL WHERE state = 'open'")
        .await;
    let sent = invite(&admin, &bench.state, &invite_to("fay@acme.example", Role::User))
        .await
        .unwrap();
    let by_ida = format!(
        "UPDATE auth.invitations SET invited_by = '{}' WHERE id = '{}'",
        user.uuid(),
        sent.id.uuid()
    );
    bench.execute(&by_ida).await;
    update(&admin, &bench.state, &to_role(user, Role::TenantAdmin))
        .await
        .unwrap();
    assert!(bench.accept(sent.id, PASSWORD).await.is_ok());
}

#[tokio::test]
async fn the_last_administrator_and_a_mightier_member_are_not_removed() {
    let (bench, house, admin) = start("remove_last").await;
    let refused = remove(&admin, &bench.state, house.admin, None).await;
    assert!(matches!(refused, Err(Error::LastAdministrator)));
    let user = bench.member(&house, "ada@acme.example", Role::Manager).await;
    // The stack would not let a manager in; the action looks for itself.
    let manager = bench.ctx_of(user, house.tenant).await;
    bench.member(&house, "eve@acme.example", Role::TenantAdmin).await;
    let refused = remove(&manager, &bench.state, house.admin, None).await;
    assert!(matches!(refused, Err(Error::RoleNotCovered { .. })), "{refused:?}");
    let stale = remove(&admin, &bench.state, user, Some(Etag::from_revision(9))).await;
    assert!(matches!(stale, Err(Error::EtagMismatch)));
    assert!(
        remove(&admin, &bench.state, house.admin, None).await.is_ok(),
        "another administers"
    );
}

#[tokio::test]
async fn two_administrators_who_remove_each_other_leave_one() {
    let (bench, house, first) = start("remove_each_other").await;
    let user = bench.member(&house, "ada@acme.example", Role::TenantAdmin).await;
    let second = bench.ctx_of(user, house.tenant).await;
    let calls = [(first, user), (second, house.admin)].map(|(ctx, whom)| {
        let state = bench.state.clone();
        tokio::spawn(async move { remove(&ctx, &state, whom, None).await })
    });
    let mut done = 0;
    for call in calls {
        done += usize::from(call.await.unwrap().is_ok());
    }
    assert_eq!(done, 1);
}

#[tokio::test]
async fn open_invitations_are_listed_and_no_others() {
    let (bench, house, admin) = start("invitation_list").await;
    let mut expected: Vec<InvitationId> = Vec::new();
    for name in ["ada", "bob", "carl"] {
        let asked = invite_to(&format!("{name}@acme.example"), Role::User);
        expected.push(invite(&admin, &bench.state, &asked).await.unwrap().id);
    }
    bench.member(&house, "accepted@acme.example", Role::User).await;
    let revoked = invite(&admin, &bench.state, &invite_to("revoked@acme.example", Role::User))
        .await
        .unwrap();
    revoke_invitation(&admin, &bench.state, revoked.id).await.unwrap();
    invite(&admin, &bench.state, &invite_to("late@acme.example", Role::User))
        .await
        .unwrap();
    bench
        .execute("UPDATE auth.invitations SET expires_at = now() WHERE email LIKE 'late%'")
        .await;
    let neighbour = bench.house("globex").await;
    let there = bench.ctx_of(neighbour.admin, neighbour.tenant).await;
    invite(&there, &bench.state, &invite_to("ada@globex.example", Role::User))
        .await
        .unwrap();

    let (mut seen, mut token) = (Vec::new(), String::new());
    loop {
        let page = invitations(&admin, &bench.state, 2, &token).await.unwrap();
        seen.extend(page.items.iter().map(|open| open.id));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn a_link_that_was_sent_again_replaces_the_old_one_and_takes_its_seat() {
    let (bench, _, admin) = start("invitation_resend").await;
    let two = bench
        .within(Limits {
            seats: Some(2),
            mails_per_day: Some(3),
            ..Limits::default()
        })
        .await;
    let first = invite(&admin, &two, &invite_to("ada@acme.example", Role::Manager))
        .await
        .unwrap();
    let second = resend(&admin, &two, first.id).await.unwrap();
    assert_eq!(
        (&second.email, second.role),
        (&first.email, TenantRole::BuiltIn(Role::Manager))
    );
    assert_ne!(second.id, first.id);
    // The administrator's own mail was the first of the day.
    let refused = resend(&admin, &two, second.id).await;
    assert!(
        matches!(
            refused,
            Err(Error::QuotaExceeded {
                limit: "mails_per_day",
                ..
            })
        ),
        "{refused:?}"
    );
    assert!(matches!(
        bench.accept(first.id, PASSWORD).await,
        Err(Error::NotFound { .. })
    ));
    assert!(bench.accept(second.id, PASSWORD).await.is_ok());
    for closed in [first.id, second.id] {
        let refused = resend(&admin, &bench.state, closed).await;
        assert!(
            matches!(refused, Err(Error::NotFound { kind: "invitation", .. })),
            "{refused:?}"
        );
    }
}

#[tokio::test]
async fn another_tenants_invitation_is_like_one_that_never_was() {
    let (bench, _, admin) = start("invitation_foreign").await;
    let sent = invite(&admin, &bench.state, &invite_to("ada@acme.example", Role::User))
        .await
        .unwrap();
    let neighbour = bench.house("globex").await;
    let there = bench.ctx_of(neighbour.admin, neighbour.tenant).await;
    for id in [sent.id, InvitationId::generate()] {
        for refused in [
            resend(&there, &bench.state, id).await.map(drop),
            revoke_invitation(&there, &bench.state, id).await,
        ] {
            assert!(
                matches!(refused, Err(Error::NotFound { kind: "invitation", .. })),
                "{refused:?}"
            );
        }
    }
    revoke_invitation(&admin, &bench.state, sent.id).await.unwrap();
    assert!(matches!(
        bench.accept(sent.id, PASSWORD).await,
        Err(Error::NotFound { .. })
    ));
    let again = revoke_invitation(&admin, &bench.state, sent.id).await;
    assert!(matches!(again, Err(Error::NotFound { .. })));
}

#[tokio::test]
async fn nobody_resends_what_they_may_not_give() {
    let (bench, house, admin) = start("invitation_cover").await;
    let sent = invite(&admin, &bench.state, &invite_to("bob@acme.example", Role::TenantAdmin))
        .await
        .unwrap();
    let user = bench.member(&house, "ada@acme.example", Role::Manager).await;
    let manager = bench.ctx_of(user, house.tenant).await;
    let refused = resend(&manager, &bench.state, sent.id).await;
    assert!(matches!(refused, Err(Error::RoleNotCovered { .. })));
}

#[tokio::test]
async fn the_account_of_a_removed_member_goes_with_the_tenant() {
    let bench = Bench::start("remove_purge").await;
    let house = bench.house("acme").await;
    let admin = bench.ctx_of(house.admin, house.tenant).await;
    let user = bench.member(&house, "ada@acme.example", Role::User).await;
    remove(&admin, &bench.state, user, None).await.unwrap();
    bench.set_access(house.tenant, crate::tenant::Access::Suspended).await;
    let operation = rowhouse_types::OperationId::generate();
    let ctx = crate::tests::bench::service_ctx();
    while !crate::purge::purge(&ctx, &bench.state, house.tenant, operation)
        .await
        .unwrap()
        .done
    {}
    assert_eq!(bench.count("SELECT count(*) FROM auth.identities").await, 0);
}

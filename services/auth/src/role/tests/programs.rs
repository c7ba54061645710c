//! A change of a role concerns the service accounts that have it, and says so.

use rowhouse_context::Principal;
use rowhouse_types::ServiceAccountId;

use super::*;
use crate::service_account;
use crate::tests::bench::{anonymous, ctx, key_of};

/// What the log says of whom a change of a role concerns.
async fn logged(bench: &Bench, role: &str) -> serde_json::Value {
    sqlx::query_scalar("SELECT after->'service_accounts' FROM auth.audit WHERE action = 'role.update' AND target = $1")
        .bind(role)
        .fetch_one(&bench.superuser)
        .await
        .unwrap()
}

#[tokio::test]
async fn who_changes_a_role_sees_which_service_accounts_it_concerns_and_the_log_names_them() {
    let (bench, house, admin) = start("role_programs").await;
    for name in ["integrator", "auditor"] {
        create(&admin, &bench.state, &role(name, &["contacts:read"]))
            .await
            .unwrap();
    }
    let mut concerned = Vec::new();
    for name in ["Importer", "Exporter"] {
        concerned.push(bench.program(&admin, name, own("integrator")).await);
    }
    bench.program(&admin, "Another", TenantRole::BuiltIn(Role::User)).await;
    member_with(&bench, &admin, "ada@acme.example", "auditor").await;

    let wider = to("integrator", &["contacts:*"]);
    let look = Change {
        only_look: true,
        ..wider.clone()
    };
    let would = update(&admin, &bench.state, &look).await.unwrap().holders;
    assert_eq!((would.members, would.service_accounts), (0, 2));
    let named = own("integrator");
    let first = service_account::actions::list(&admin, &bench.state, Some(&named), 1, "")
        .await
        .unwrap();
    let token = &first.next_page_token;
    let second = service_account::actions::list(&admin, &bench.state, Some(&named), 1, token)
        .await
        .unwrap();
    let seen: Vec<ServiceAccountId> = first
        .items
        .iter()
        .chain(&second.items)
        .map(|account| account.id)
        .collect();
    assert_eq!((&seen, second.next_page_token.as_str()), (&concerned, ""));
    let mixed = service_account::actions::list(&admin, &bench.state, None, 1, token).await;
    assert!(
        matches!(mixed, Err(Error::PageToken)),
        "a page goes on in its own list alone"
    );
    let listed = list(&admin, &bench.state, 50, "").await.unwrap().items;
    let counts: Vec<(&str, i64)> = listed
        .iter()
        .map(|listed| (listed.role.name(), listed.holders.service_accounts))
        .collect();
    let expected = [
        ("tenant_admin", 0),
        ("manager", 0),
        ("user", 1),
        ("auditor", 0),
        ("integrator", 2),
    ];
    assert_eq!(counts, expected);

    // Nobody widens what programs can do beyond what they hold themselves.
    create(&admin, &bench.state, &role("deputy", &["contacts:read", "roles:*"]))
        .await
        .unwrap();
    let deputy = member_with(&bench, &admin, "bob@acme.example", "deputy").await;
    let deputy = bench.ctx_of(deputy, house.tenant).await;
    let refused = update(&deputy, &bench.state, &wider).await;
    assert!(matches!(refused, Err(Error::RoleNotCovered { .. })), "{refused:?}");

    let after = update(&admin, &bench.state, &wider).await.unwrap();
    assert_eq!(after.holders, would);
    let ids: Vec<String> = concerned.iter().map(ToString::to_string).collect();
    assert_eq!(logged(&bench, "integrator").await, serde_json::json!(ids));
    update(&admin, &bench.state, &to("auditor", &["contacts:*"]))
        .await
        .unwrap();
    assert_eq!(logged(&bench, "auditor").await, serde_json::json!([]));
}

/// What somebody with the role has handed on, before it loses something and before it does not.
#[tokio::test]
async fn what_members_have_handed_on_ends_when_their_role_loses_something() {
    let (bench, house, admin) = start("role_narrowed").await;
    let grants = ["contacts:*", "members:*", "service_accounts:*"];
    create(&admin, &bench.state, &role("deputy", &grants)).await.unwrap();
    create(&admin, &bench.state, &role("writer", &["contacts:*"]))
        .await
        .unwrap();
    let deputy = member_with(&bench, &admin, "bob@acme.example", "deputy").await;
    let deputy = bench.ctx_of(deputy, house.tenant).await;
    let importer = bench.program(&admin, "Importer", own("writer")).await;
    let robot = bench.program(&admin, "Robot", own("deputy")).await;
    let (own_key, _) = service_account::keys::create(&admin, &bench.state, &key_of(robot, 1))
        .await
        .unwrap();
    let principal = Principal::Member {
        user: service_account::user_of(robot),
        session: service_account::session_of(own_key.id),
        tenant: house.tenant,
    };
    let robot = ctx(principal, Some(house.tenant));
    let mut keys = Vec::new();
    for by in [&deputy, &robot, &admin] {
        let made = service_account::keys::create(by, &bench.state, &key_of(importer, 1)).await;
        keys.push(made.unwrap().1);
    }
    for (by, email) in [(&deputy, "eve@acme.example"), (&admin, "ada@acme.example")] {
        let invite = invite_to(email, own("writer"));
        member::actions::invite(by, &bench.state, &invite).await.unwrap();
    }
    let good = async || {
        let mut good = Vec::new();
        for key in &keys {
            good.push(
                service_account::keys::exchange(&anonymous(), &bench.state, key)
                    .await
                    .is_ok(),
            );
        }
        let open = "SELECT count(*) FROM auth.invitations WHERE state = 'open'";
        (good, bench.count(open).await)
    };
    assert_eq!(good().await, (vec![true, true, true], 2));
    // The control: more than before ends nothing.
    let wider = [grants.as_slice(), &["reports:read"]].concat();
    update(&admin, &bench.state, &to("deputy", &wider)).await.unwrap();
    assert_eq!(good().await, (vec![true, true, true], 2));
    let narrower = ["contacts:read", "members:*", "service_accounts:*"];
    update(&admin, &bench.state, &to("deputy", &narrower)).await.unwrap();
    assert_eq!(good().await, (vec![false, false, true], 1));
    let ended =
        "SELECT coalesce(sum(jsonb_array_length(after->'keys_ended')), 0) FROM auth.audit WHERE action = 'role.update'";
    assert_eq!(bench.count(ended).await, 2, "the log names those that ended");
}

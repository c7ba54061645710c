//! A change of a role concerns the service accounts that have it, and says so.

use rowhouse_types::ServiceAccountId;

use super::*;
use crate::service_account::{self, AccountName, NewAccount};

async fn program(bench: &Bench, by: &Ctx, name: &str, role: TenantRole) -> ServiceAccountId {
    let new = NewAccount {
        name: AccountName::parse_required(name).unwrap(),
        role,
    };
    let made = service_account::actions::create(by, &bench.state, &new).await;
    made.unwrap().id
}

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
        concerned.push(program(&bench, &admin, name, own("integrator")).await);
    }
    program(&bench, &admin, "Another", TenantRole::BuiltIn(Role::User)).await;
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

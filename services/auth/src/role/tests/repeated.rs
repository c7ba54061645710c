//! Roles that are created again with the same request id.

use rowhouse_types::IdempotencyKey;

use super::*;
use crate::tests::repeated::{a_day_passes, answers_alike, is_reused};

#[tokio::test]
async fn a_repeated_request_makes_one_role_and_answers_it() {
    let (bench, house, admin) = start("role_request").await;
    let state = &bench.state;
    let asked = NewRole {
        request: Some(IdempotencyKey::generate()),
        ..role("auditor", &["contacts:read"])
    };
    let by = |ctx: &Ctx, new: &NewRole| {
        let (ctx, state, new) = (ctx.clone(), state.clone(), new.clone());
        async move { create(&ctx, &state, &new).await }
    };
    answers_alike(&bench, || by(&admin, &asked)).await;
    let noted = "SELECT count(*) FROM auth.audit WHERE action = 'role.create'";
    assert_eq!(bench.count(noted).await, 1);

    // As it is by then, also where the bound is reached.
    update(&admin, state, &to("auditor", &["contacts:*"])).await.unwrap();
    member_with(&bench, &admin, "ada@acme.example", "auditor").await;
    bench
        .execute(&format!(
            "INSERT INTO auth.roles (tenant_id, name, display_name, permissions) \
             SELECT tenant_id, 'r' || n, 'R', permissions FROM auth.roles, generate_series(10, {OWN_ROLES_MAX} + 8) AS n"
        ))
        .await;
    let known = get(&admin, state, &own("auditor")).await.unwrap();
    assert_eq!(by(&admin, &asked).await.unwrap(), known);

    // Something else, and somebody else.
    let chief = bench.member(&house, "chief@acme.example", Role::TenantAdmin).await;
    let chief = bench.ctx_of(chief, house.tenant).await;
    is_reused(by(&chief, &asked).await);
    for other in [
        NewRole {
            name: "auditors".parse().unwrap(),
            ..asked.clone()
        },
        NewRole {
            title: RoleTitle::parse_required("Auditor").unwrap(),
            ..asked.clone()
        },
        NewRole {
            grants: Grants::read(["contacts:*"]),
            ..asked.clone()
        },
    ] {
        is_reused(by(&admin, &other).await);
    }
    // The control: without what is remembered it would be another call, and refused.
    a_day_passes(&bench).await;
    let refused = by(&admin, &asked).await;
    assert!(matches!(refused, Err(Error::TooManyRoles { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_repeated_request_brings_no_role_back_and_gives_nothing_more() {
    let (bench, house, admin) = start("role_request_late").await;
    let state = &bench.state;
    let asked = NewRole {
        request: Some(IdempotencyKey::generate()),
        ..role("auditor", &["contacts:read"])
    };
    create(&admin, state, &asked).await.unwrap();
    let neighbour = bench.house("globex").await;
    let there = bench.ctx_of(neighbour.admin, neighbour.tenant).await;
    create(&there, state, &asked)
        .await
        .expect("each tenant has ids of its own");

    delete(&admin, state, &asked.name, None).await.unwrap();
    let gone = create(&admin, state, &asked).await;
    assert!(matches!(gone, Err(Error::NotFound { kind: "role", .. })), "{gone:?}");
    // Who has lost their rights since is told nothing.
    let chief = bench.member(&house, "chief@acme.example", Role::TenantAdmin).await;
    let chief = bench.ctx_of(chief, house.tenant).await;
    let lowered = to_role(house.admin, TenantRole::BuiltIn(Role::User));
    member::actions::update(&chief, state, &lowered).await.unwrap();
    let refused = create(&admin, state, &asked).await;
    assert!(matches!(refused, Err(Error::RoleNotCovered { .. })), "{refused:?}");
}

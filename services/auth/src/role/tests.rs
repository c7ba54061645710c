//! Roles of tenants' own on a real database.

mod programs;
mod repeated;

use rowhouse_auth_kit::{Grants, Role};
use rowhouse_context::Ctx;
use rowhouse_status::{Failure, Reason};
use rowhouse_types::Etag;

use super::actions::{create, delete, get, list, update};
use super::{Change, Known, Listed, NewRole, OWN_ROLES_MAX, RoleTitle, TenantRole};
use crate::error::Error;
use crate::member::{self, Invite, MemberState};
use crate::rights::{Query, Standing};
use crate::tenant::Access;
use crate::tests::bench::{Bench, House, PASSWORD, service_ctx};
use crate::{purge, rights};

fn role(name: &str, permissions: &[&str]) -> NewRole {
    NewRole {
        name: name.parse().unwrap(),
        title: RoleTitle::parse_required(name).unwrap(),
        grants: Grants::read(permissions),
        request: None,
    }
}

fn to(name: &str, permissions: &[&str]) -> Change {
    Change {
        name: name.parse().unwrap(),
        title: None,
        grants: Some(Grants::read(permissions)),
        etag: None,
        only_look: false,
    }
}

fn own(name: &str) -> TenantRole {
    name.parse().unwrap()
}

fn invite_to(email: &str, role: TenantRole) -> Invite {
    Invite {
        email: email.parse().unwrap(),
        role,
        request: None,
    }
}

fn to_role(user: rowhouse_types::UserId, role: TenantRole) -> member::Change {
    member::Change {
        user,
        role: Some(role),
        state: None,
        etag: None,
    }
}

fn etag(listed: &Listed) -> Etag {
    match &listed.role {
        Known::Own(role) => role.etag,
        Known::BuiltIn(role) => panic!("{role} has none"),
    }
}

async fn start(name: &str) -> (Bench, House, Ctx) {
    let bench = Bench::start(name).await;
    let house = bench.house("acme").await;
    let ctx = bench.ctx_of(house.admin, house.tenant).await;
    (bench, house, ctx)
}

/// A member with a role of the tenant's own.
async fn member_with(bench: &Bench, ctx: &Ctx, email: &str, name: &str) -> rowhouse_types::UserId {
    let sent = member::actions::invite(ctx, &bench.state, &invite_to(email, own(name)))
        .await
        .unwrap();
    bench.accept(sent.id, PASSWORD).await.unwrap().user
}

#[tokio::test]
async fn a_role_of_the_tenants_own_gives_what_it_lists_and_a_change_counts_at_once() {
    let (bench, house, admin) = start("role_gives").await;
    create(&admin, &bench.state, &role("auditor", &["contacts:read", "reports:*"]))
        .await
        .unwrap();
    let user = member_with(&bench, &admin, "ada@acme.example", "auditor").await;
    let query = Query {
        user,
        session: None,
        tenant: Some(house.tenant),
        platform: false,
        key: None,
        by: None,
    };
    let before = bench.rights(query).await;
    assert_eq!(
        (before.standing, before.role.as_deref()),
        (Standing::Good, Some("auditor"))
    );
    assert_eq!(before.grants.to_strings(), ["contacts:read", "reports:*"]);

    let answer = update(&admin, &bench.state, &to("auditor", &["contacts:read"]))
        .await
        .unwrap();
    assert_eq!(answer.holders.members, 1, "the answer says how many it concerns");
    let after = bench.rights(query).await;
    assert!(after.grants.scope("contacts:read").is_some() && after.grants.scope("reports:read").is_none());
    assert!(after.version > before.version);
    let told = format!(
        "SELECT count(*) FROM auth.right_changes WHERE version = {} AND subjects = ARRAY['{}']",
        after.version.0, house.tenant
    );
    assert_eq!(
        bench.count(&told).await,
        1,
        "every service drops what it knows of the tenant"
    );
    let audited = "SELECT count(*) FROM auth.audit WHERE action = 'role.update' \
        AND before->'permissions' = '[\"contacts:read\", \"reports:*\"]' AND after->'permissions' = '[\"contacts:read\"]'";
    assert_eq!(bench.count(audited).await, 1);
}

#[tokio::test]
async fn looking_at_a_change_changes_nothing_and_repeating_it_neither() {
    let (bench, _, admin) = start("role_look").await;
    let created = create(&admin, &bench.state, &role("auditor", &["contacts:read"]))
        .await
        .unwrap();
    member_with(&bench, &admin, "ada@acme.example", "auditor").await;
    let look = Change {
        only_look: true,
        ..to("auditor", &["contacts:*"])
    };
    let would = update(&admin, &bench.state, &look).await.unwrap();
    assert_eq!(would.holders.members, 1);
    assert!(matches!(&would.role, Known::Own(role) if role.grants.to_strings() == ["contacts:*"]));
    let kept = get(&admin, &bench.state, &own("auditor")).await.unwrap();
    assert_eq!(etag(&kept), etag(&created));

    let stale = Change {
        etag: Some(Etag::from_revision(9)),
        ..to("auditor", &["contacts:*"])
    };
    assert!(matches!(
        update(&admin, &bench.state, &stale).await,
        Err(Error::EtagMismatch)
    ));
    let changed = update(&admin, &bench.state, &to("auditor", &["contacts:*"]))
        .await
        .unwrap();
    let repeated = update(&admin, &bench.state, &to("auditor", &["contacts:*"]))
        .await
        .unwrap();
    assert_eq!(repeated, changed);
    assert_eq!(
        bench
            .count("SELECT count(*) FROM auth.audit WHERE action = 'role.update'")
            .await,
        1
    );
}

#[tokio::test]
async fn nobody_makes_changes_takes_or_removes_a_role_that_gives_more_than_they_hold() {
    let (bench, house, admin) = start("role_cover").await;
    let every = ["contacts:*", "members:*", "roles:*"];
    create(&admin, &bench.state, &role("deputy", &every)).await.unwrap();
    create(&admin, &bench.state, &role("reporter", &["reports:run"]))
        .await
        .unwrap();
    let deputy = member_with(&bench, &admin, "ada@acme.example", "deputy").await;
    let reporter = member_with(&bench, &admin, "bob@acme.example", "reporter").await;
    let chief = bench.member(&house, "chief@acme.example", Role::TenantAdmin).await;
    let caller = bench.ctx_of(deputy, house.tenant).await;
    let refused = [
        create(&caller, &bench.state, &role("boss", &["contacts:read", "reports:run"]))
            .await
            .map(drop),
        create(&caller, &bench.state, &role("any", &["*:*"])).await.map(drop),
        create(&admin, &bench.state, &role("any", &["*:read"])).await.map(drop),
        update(&caller, &bench.state, &to("reporter", &["contacts:read"]))
            .await
            .map(drop),
        update(&caller, &bench.state, &to("deputy", &["reports:run"]))
            .await
            .map(drop),
        delete(&caller, &bench.state, &"reporter".parse().unwrap(), None).await,
        member::actions::update(&caller, &bench.state, &to_role(deputy, TenantRole::ADMINISTRATOR))
            .await
            .map(drop),
        member::actions::update(&caller, &bench.state, &to_role(deputy, own("reporter")))
            .await
            .map(drop),
        member::actions::remove(&caller, &bench.state, reporter, None).await,
        member::actions::update(&caller, &bench.state, &to_role(reporter, own("deputy")))
            .await
            .map(drop),
        member::actions::update(&caller, &bench.state, &to_role(chief, own("deputy")))
            .await
            .map(drop),
        member::actions::invite(&caller, &bench.state, &invite_to("eve@acme.example", own("reporter")))
            .await
            .map(drop),
    ];
    for answer in refused {
        assert!(matches!(answer, Err(Error::RoleNotCovered { .. })), "{answer:?}");
    }
    // What the deputy holds may be passed on, in whole or in part.
    assert!(
        create(
            &caller,
            &bench.state,
            &role("helper", &["contacts:read", "members:read"])
        )
        .await
        .is_ok()
    );
    let user = bench.member(&house, "eve@acme.example", Role::User).await;
    let given = member::actions::update(&caller, &bench.state, &to_role(user, own("deputy"))).await;
    assert!(given.is_ok(), "{given:?}");
}

#[tokio::test]
async fn a_role_that_is_held_or_promised_stays() {
    let (bench, house, admin) = start("role_held").await;
    create(&admin, &bench.state, &role("auditor", &["contacts:read"]))
        .await
        .unwrap();
    let name = "auditor".parse().unwrap();
    let asked = invite_to("ada@acme.example", own("auditor"));
    let sent = member::actions::invite(&admin, &bench.state, &asked).await.unwrap();
    let refused = delete(&admin, &bench.state, &name, None).await.unwrap_err();
    assert!(
        matches!(
            refused,
            Error::RoleHeld {
                members: 0,
                invitations: 1,
                ..
            }
        ),
        "{refused:?}"
    );
    assert_eq!(Failure::from(refused).reason(), Reason::StateForbids);
    let user = bench.accept(sent.id, PASSWORD).await.unwrap().user;
    let disable = member::Change {
        state: Some(MemberState::Disabled),
        role: None,
        ..to_role(user, own("auditor"))
    };
    member::actions::update(&admin, &bench.state, &disable).await.unwrap();
    let refused = delete(&admin, &bench.state, &name, None).await.unwrap_err();
    assert!(
        matches!(
            refused,
            Error::RoleHeld {
                members: 1,
                invitations: 0,
                ..
            }
        ),
        "{refused:?}"
    );
    // The database itself does not let it go.
    let by_hand = sqlx::query("DELETE FROM auth.roles").execute(&bench.superuser).await;
    assert!(by_hand.is_err());
    member::actions::remove(&admin, &bench.state, user, None).await.unwrap();
    // An invitation that has run out promises nothing.
    let late = invite_to("bob@acme.example", own("auditor"));
    member::actions::invite(&admin, &bench.state, &late).await.unwrap();
    bench
        .execute("UPDATE auth.invitations SET expires_at = now() WHERE state = 'open'")
        .await;
    let stale = delete(&admin, &bench.state, &name, Some(Etag::from_revision(9))).await;
    assert!(matches!(stale, Err(Error::EtagMismatch)));
    delete(&admin, &bench.state, &name, None).await.unwrap();
    let gone = delete(&admin, &bench.state, &name, None).await;
    assert!(matches!(gone, Err(Error::NotFound { kind: "role", .. })));
    // Who was removed can come back as something else.
    let again = member::actions::invite(&admin, &bench.state, &invite_to("ada@acme.example", own("auditor"))).await;
    assert!(matches!(again, Err(Error::RoleUnknown { field: "role" })), "{again:?}");
    bench.member(&house, "ada@acme.example", Role::User).await;
}

/// Whoever gives a role and whoever deletes it hold the tenant's row, so one of the two is refused.
#[tokio::test]
async fn a_role_is_not_deleted_while_it_is_being_given() {
    let (bench, house, admin) = start("role_race").await;
    for round in 0..4 {
        let name = format!("auditor_{round}");
        create(&admin, &bench.state, &role(&name, &["contacts:read"]))
            .await
            .unwrap();
        let user = bench
            .member(&house, &format!("ada{round}@acme.example"), Role::User)
            .await;
        let (state, ctx, given) = (bench.state.clone(), admin.clone(), to_role(user, own(&name)));
        let giving = tokio::spawn(async move { member::actions::update(&ctx, &state, &given).await.map(drop) });
        let (state, ctx, deleted) = (bench.state.clone(), admin.clone(), name.parse().unwrap());
        let deleting = tokio::spawn(async move { delete(&ctx, &state, &deleted, None).await });
        match (giving.await.unwrap(), deleting.await.unwrap()) {
            (Ok(()), Err(Error::RoleHeld { members: 1, .. }))
            | (Err(Error::RoleUnknown { field: "member.role" }), Ok(())) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_tenant_knows_its_own_roles_and_no_others() {
    let (bench, house, admin) = start("role_foreign").await;
    create(&admin, &bench.state, &role("auditor", &["contacts:read"]))
        .await
        .unwrap();
    let neighbour = bench.house("globex").await;
    let there = bench.ctx_of(neighbour.admin, neighbour.tenant).await;
    for name in ["auditor", "never_was"] {
        for refused in [
            get(&there, &bench.state, &own(name)).await.map(drop),
            update(&there, &bench.state, &to(name, &["contacts:read"]))
                .await
                .map(drop),
            delete(&there, &bench.state, &name.parse().unwrap(), None).await,
        ] {
            assert!(
                matches!(refused, Err(Error::NotFound { kind: "role", .. })),
                "{refused:?}"
            );
        }
        let invited = member::actions::invite(&there, &bench.state, &invite_to("ada@globex.example", own(name))).await;
        assert!(matches!(invited, Err(Error::RoleUnknown { .. })), "{invited:?}");
    }
    // The same name there is another role.
    create(&there, &bench.state, &role("auditor", &["reports:read"]))
        .await
        .unwrap();
    let user = member_with(&bench, &there, &house.email, "auditor").await;
    let query = |tenant| Query {
        user,
        session: None,
        tenant: Some(tenant),
        platform: false,
        key: None,
        by: None,
    };
    assert_eq!(
        bench.rights(query(neighbour.tenant)).await.grants.to_strings(),
        ["reports:read"]
    );
    assert_eq!(
        bench.rights(query(house.tenant)).await.role.as_deref(),
        Some("tenant_admin")
    );
    let facts = rights::read(&mut bench.state.connection().await.unwrap(), &query(house.tenant))
        .await
        .unwrap();
    assert!(
        facts
            .member
            .is_some_and(|held| held.grants.scope("roles:create").is_some())
    );
}

#[tokio::test]
async fn roles_are_listed_with_those_of_every_tenant_first_and_how_many_have_them() {
    let (bench, house, admin) = start("role_list").await;
    for name in ["zeta", "alpha", "middle"] {
        create(&admin, &bench.state, &role(name, &["contacts:read"]))
            .await
            .unwrap();
    }
    member_with(&bench, &admin, "ada@acme.example", "middle").await;
    bench.member(&house, "bob@acme.example", Role::User).await;
    let (mut seen, mut token) = (Vec::new(), String::new());
    loop {
        let page = list(&admin, &bench.state, 2, &token).await.unwrap();
        seen.extend(
            page.items
                .iter()
                .map(|listed| (listed.role.name().to_owned(), listed.holders.members)),
        );
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    let expected = [
        ("tenant_admin", 1),
        ("manager", 0),
        ("user", 1),
        ("alpha", 0),
        ("middle", 1),
        ("zeta", 0),
    ];
    assert_eq!(seen, expected.map(|(name, members)| (name.to_owned(), members)));
    let members = member::actions::list(&admin, &bench.state, Some(&own("middle")), 50, "")
        .await
        .unwrap();
    let emails: Vec<&str> = members.items.iter().map(|member| member.email.as_str()).collect();
    assert_eq!(emails, ["ada@acme.example"]);
}

#[tokio::test]
async fn a_name_is_given_once_and_roles_are_bounded() {
    let (bench, house, admin) = start("role_bound").await;
    create(&admin, &bench.state, &role("auditor", &["contacts:read"]))
        .await
        .unwrap();
    let again = create(&admin, &bench.state, &role("auditor", &["contacts:*"]))
        .await
        .unwrap_err();
    assert_eq!(Failure::from(again).reason(), Reason::ResourceAlreadyExists);
    bench
        .execute(&format!(
            "INSERT INTO auth.roles (tenant_id, name, display_name, permissions) \
             SELECT '{}', 'role_' || n, 'Role', '{{contacts:read}}' FROM generate_series(2, {OWN_ROLES_MAX}) AS n",
            house.tenant.uuid()
        ))
        .await;
    let more = create(&admin, &bench.state, &role("one_more", &["contacts:read"])).await;
    assert!(matches!(more, Err(Error::TooManyRoles { .. })), "{more:?}");
    assert_eq!(list(&admin, &bench.state, 1000, "").await.unwrap().items.len(), 103);
}

#[tokio::test]
async fn roles_go_with_their_tenant() {
    let (bench, house, admin) = start("role_purge").await;
    create(&admin, &bench.state, &role("auditor", &["contacts:read"]))
        .await
        .unwrap();
    member_with(&bench, &admin, "ada@acme.example", "auditor").await;
    bench.set_access(house.tenant, Access::Suspended).await;
    let operation = rowhouse_types::OperationId::generate();
    while !purge::purge(&service_ctx(), &bench.state, house.tenant, operation)
        .await
        .unwrap()
        .done
    {}
    assert_eq!(bench.count("SELECT count(*) FROM auth.roles").await, 0);
    assert_eq!(bench.count("SELECT count(*) FROM auth.identities").await, 0);
}

//! Teams on a real database: whom they let reach what, and who may change them.

mod repeated;

use rowhouse_auth_kit::{Grants, Role};
use rowhouse_context::Ctx;
use rowhouse_types::{TeamId, TenantId, UserId};

use super::actions::{create, delete, get, list, members, remove_member, set_member, update};
use super::{Change, DEPTH_MAX, NewTeam, Obstacle, Team, TeamName};
use crate::error::Error;
use crate::member;
use crate::rights::Query;
use crate::role::{self, NewRole, RoleTitle};
use crate::tests::bench::{Bench, House};

async fn team(bench: &Bench, by: &Ctx, name: &str, parent: Option<TeamId>) -> Team {
    let new = NewTeam {
        name: TeamName::parse_required(name).unwrap(),
        parent,
        request: None,
    };
    create(by, &bench.state, &new).await.unwrap()
}

fn moved(id: TeamId, parent: Option<TeamId>) -> Change {
    Change {
        id,
        name: None,
        parent: Some(parent),
        etag: None,
    }
}

/// Whose records a member's `@team` reaches, of these people.
async fn reached(bench: &Bench, tenant: TenantId, user: UserId, people: &[UserId]) -> Vec<bool> {
    let query = Query {
        user,
        session: None,
        tenant: Some(tenant),
        platform: false,
        key: None,
        by: None,
    };
    let team: Vec<UserId> = bench.rights(query).await.team.iter().collect();
    people.iter().map(|person| team.contains(person)).collect()
}

async fn people<const N: usize>(bench: &Bench, house: &House, roles: [Role; N]) -> [UserId; N] {
    let mut people = [UserId::generate(); N];
    for (at, role) in roles.into_iter().enumerate() {
        people[at] = bench
            .member(house, &format!("p{at}@{}.example", house.tenant.uuid().simple()), role)
            .await;
    }
    people
}

#[tokio::test]
async fn a_manager_reaches_the_teams_beneath_and_a_member_their_own_team() {
    let bench = Bench::start("team_reach").await;
    let house = bench.house("acme").await;
    let admin = bench.ctx_of(house.admin, house.tenant).await;
    let [lead, mate, below, deep, beside] = people(
        &bench,
        &house,
        [Role::Manager, Role::Manager, Role::User, Role::User, Role::User],
    )
    .await;
    let north = team(&bench, &admin, "North", None).await;
    let harbour = team(&bench, &admin, "Harbour", Some(north.id)).await;
    let quay = team(&bench, &admin, "Quay", Some(harbour.id)).await;
    let south = team(&bench, &admin, "South", None).await;
    for (id, user, manages) in [
        (north.id, lead, true),
        (north.id, mate, false),
        (harbour.id, below, false),
        (quay.id, deep, false),
        (south.id, beside, true),
    ] {
        set_member(&admin, &bench.state, id, user, manages).await.unwrap();
    }
    let all = [lead, mate, below, deep, beside];
    let reached = async |user| reached(&bench, house.tenant, user, &all).await;
    assert_eq!(reached(lead).await, [true, true, true, true, false]);
    assert_eq!(
        reached(mate).await,
        [true, true, false, false, false],
        "who does not manage a team reaches only it"
    );
    assert_eq!(
        reached(below).await,
        [false; 5],
        "the role of users gives nothing for teams: nothing is looked up"
    );

    // Moved, managed no more, and gone: at once.
    update(&admin, &bench.state, &moved(quay.id, Some(south.id)))
        .await
        .unwrap();
    assert_eq!(reached(lead).await, [true, true, true, false, false]);
    set_member(&admin, &bench.state, north.id, lead, false).await.unwrap();
    assert_eq!(reached(lead).await, [true, true, false, false, false]);
    remove_member(&admin, &bench.state, north.id, lead).await.unwrap();
    assert_eq!(reached(lead).await, [false; 5]);

    // A role of the tenant's own with @team counts too.
    let new = NewRole {
        name: "dock_lead".parse().unwrap(),
        title: RoleTitle::parse_required("Dock lead").unwrap(),
        grants: Grants::read(["contacts:read@team"]),
        request: None,
    };
    role::actions::create(&admin, &bench.state, &new).await.unwrap();
    let give = member::Change {
        user: beside,
        role: Some("dock_lead".parse().unwrap()),
        state: None,
        etag: None,
    };
    member::actions::update(&admin, &bench.state, &give).await.unwrap();
    assert_eq!(reached(beside).await, [false, false, false, true, true]);
}

#[tokio::test]
async fn every_change_of_whom_a_team_reaches_is_a_change_of_rights() {
    let bench = Bench::start("team_versions").await;
    let house = bench.house("acme").await;
    let admin = bench.ctx_of(house.admin, house.tenant).await;
    let [lead, mate] = people(&bench, &house, [Role::Manager, Role::User]).await;
    let version = async || bench.count("SELECT version FROM auth.rights_clock").await;
    let subjects = async || {
        bench
            .count(&format!(
                "SELECT count(*) FROM auth.right_changes WHERE version = (SELECT version FROM auth.rights_clock) \
                 AND '{}' = ANY (subjects)",
                house.tenant
            ))
            .await
    };
    let before = version().await;
    let north = team(&bench, &admin, "North", None).await;
    let south = team(&bench, &admin, "South", None).await;
    let renamed = Change {
        name: Some(TeamName::parse_required("Nord").unwrap()),
        parent: None,
        ..moved(north.id, None)
    };
    update(&admin, &bench.state, &renamed).await.unwrap();
    assert_eq!(version().await, before, "neither an empty team nor a name is a right");

    let state = &bench.state;
    set_member(&admin, state, north.id, lead, true).await.unwrap();
    set_member(&admin, state, south.id, mate, false).await.unwrap();
    assert_eq!((version().await, subjects().await), (before + 2, 1));
    set_member(&admin, state, south.id, mate, false).await.unwrap();
    assert_eq!(version().await, before + 2, "nothing changed");
    update(&admin, state, &moved(south.id, Some(north.id))).await.unwrap();
    assert_eq!((version().await, subjects().await), (before + 3, 1));
    remove_member(&admin, state, north.id, lead).await.unwrap();
    assert_eq!((version().await, subjects().await), (before + 4, 1));
    member::actions::remove(&admin, state, mate, None).await.unwrap();
    assert_eq!(
        (version().await, subjects().await),
        (before + 5, 1),
        "who leaves the tenant leaves its teams"
    );
    assert_eq!(bench.count("SELECT count(*) FROM auth.team_members").await, 0);
    delete(&admin, state, south.id, None).await.unwrap();
    assert_eq!((version().await, subjects().await), (before + 6, 1));
    assert_eq!(
        bench
            .count("SELECT count(*) FROM auth.audit WHERE action LIKE 'team.%'")
            .await,
        8
    );
}

#[tokio::test]
async fn who_holds_something_for_their_teams_only_moves_nobody_between_teams() {
    let bench = Bench::start("team_covers").await;
    let house = bench.house("acme").await;
    let admin = bench.ctx_of(house.admin, house.tenant).await;
    let [lead] = people(&bench, &house, [Role::User]).await;
    let north = team(&bench, &admin, "North", None).await;
    let south = team(&bench, &admin, "South", None).await;
    let new = |name: &str, grants: &[&str]| NewRole {
        name: name.parse().unwrap(),
        title: RoleTitle::parse_required("Lead").unwrap(),
        grants: Grants::read(grants),
        request: None,
    };
    let state = &bench.state;
    for role in [
        new("lead", &["contacts:read@team", "teams:*"]),
        new("wide", &["contacts:read", "teams:*"]),
    ] {
        role::actions::create(&admin, state, &role).await.unwrap();
    }
    let give = |role: &str| member::Change {
        user: lead,
        role: Some(role.parse().unwrap()),
        state: None,
        etag: None,
    };
    member::actions::update(&admin, state, &give("lead")).await.unwrap();
    set_member(&admin, state, north.id, lead, true).await.unwrap();
    let by_lead = bench.ctx_of(lead, house.tenant).await;
    for refused in [
        set_member(&by_lead, state, south.id, lead, true).await.map(drop),
        set_member(&by_lead, state, north.id, lead, false).await.map(drop),
        remove_member(&by_lead, state, north.id, lead).await,
        update(&by_lead, state, &moved(south.id, Some(north.id)))
            .await
            .map(drop),
        delete(&by_lead, state, south.id, None).await,
    ] {
        let Err(Error::TeamsNotCovered { permission }) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(permission, "contacts:read@team");
    }
    // What changes nobody's reach they may.
    team(&bench, &by_lead, "East", Some(north.id)).await;

    // The control: who holds it for everybody may.
    member::actions::update(&admin, state, &give("wide")).await.unwrap();
    set_member(&by_lead, state, south.id, lead, true).await.unwrap();

    // Nor does who has a team give its reach to somebody else.
    let invite = |role: &str| new(role, &["contacts:read@team"]);
    member::actions::update(&admin, state, &give("lead")).await.unwrap();
    let refused = role::actions::create(&by_lead, state, &invite("copy"))
        .await
        .unwrap_err();
    assert!(matches!(refused, Error::RoleNotCovered { .. }), "{refused:?}");
    role::actions::create(&admin, state, &invite("copy")).await.unwrap();
}

#[tokio::test]
async fn teams_form_a_tree_with_names_of_their_own() {
    let bench = Bench::start("team_tree").await;
    let house = bench.house("acme").await;
    let admin = bench.ctx_of(house.admin, house.tenant).await;
    let state = &bench.state;
    let mut chain = vec![team(&bench, &admin, "T0", None).await];
    for at in 1..DEPTH_MAX {
        let above = chain[at - 1].id;
        chain.push(team(&bench, &admin, &format!("T{at}"), Some(above)).await);
    }
    let new = |name: &str, parent| NewTeam {
        name: TeamName::parse_required(name).unwrap(),
        parent,
        request: None,
    };
    let refused = create(&admin, state, &new("deep", Some(chain[DEPTH_MAX - 1].id))).await;
    assert!(matches!(refused, Err(Error::Team(Obstacle::TooDeep))), "{refused:?}");
    let refused = update(&admin, state, &moved(chain[1].id, Some(chain[4].id))).await;
    assert!(matches!(refused, Err(Error::Team(Obstacle::Circle))), "{refused:?}");
    let refused = delete(&admin, state, chain[3].id, None).await;
    assert!(
        matches!(refused, Err(Error::Team(Obstacle::HasTeams(1)))),
        "{refused:?}"
    );
    for taken in [
        create(&admin, state, &new("t3", None)).await,
        update(
            &admin,
            state,
            &Change {
                name: Some(TeamName::parse_required("T3").unwrap()),
                ..moved(chain[0].id, None)
            },
        )
        .await,
    ] {
        assert!(matches!(taken, Err(Error::TeamExists)), "{taken:?}");
    }
    let stale = Change {
        etag: Some(chain[5].etag),
        ..moved(chain[5].id, None)
    };
    let now = update(&admin, state, &stale).await.unwrap();
    assert_eq!((now.parent, now.name.as_str()), (None, "T5"));
    let again = Change {
        parent: Some(Some(chain[0].id)),
        ..stale
    };
    assert!(matches!(update(&admin, state, &again).await, Err(Error::EtagMismatch)));

    let mut seen = Vec::new();
    let mut token = String::new();
    loop {
        let page = list(&admin, state, 3, &token).await.unwrap();
        seen.extend(page.items.iter().map(|team| team.id));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, chain.iter().map(|team| team.id).collect::<Vec<_>>());
}

/// Whoever moves a team holds the tenant's row, so the second sees where the first has put its team. Both wait for the rows that
/// they change, after they have looked: without the tenant's, both would have seen the tree as it was.
#[tokio::test]
async fn of_two_teams_that_are_moved_beneath_each_other_at_once_one_stays() {
    let bench = Bench::start("team_circle").await;
    let house = bench.house("acme").await;
    let admin = bench.ctx_of(house.admin, house.tenant).await;
    let north = team(&bench, &admin, "North", None).await;
    let south = team(&bench, &admin, "South", None).await;
    let beneath = |id, above| {
        let (state, ctx) = (bench.state.clone(), admin.clone());
        async move { update(&ctx, &state, &moved(id, Some(above))).await }
    };
    let (first, second) = bench
        .meet("auth.teams", beneath(north.id, south.id), beneath(south.id, north.id))
        .await;
    assert_eq!(first.unwrap().parent, Some(south.id));
    assert!(matches!(second, Err(Error::Team(Obstacle::Circle))), "{second:?}");
    assert_eq!(get(&admin, &bench.state, south.id).await.unwrap().parent, None);
}

#[tokio::test]
async fn who_is_in_a_team_is_listed_in_pages() {
    let bench = Bench::start("team_members").await;
    let house = bench.house("acme").await;
    let admin = bench.ctx_of(house.admin, house.tenant).await;
    let state = &bench.state;
    let [one, other] = people(&bench, &house, [Role::User, Role::User]).await;
    let north = team(&bench, &admin, "North", None).await;
    set_member(&admin, state, north.id, one, false).await.unwrap();
    set_member(&admin, state, north.id, other, true).await.unwrap();
    let first = members(&admin, state, north.id, 1, "").await.unwrap();
    let second = members(&admin, state, north.id, 1, &first.next_page_token)
        .await
        .unwrap();
    assert!(second.next_page_token.is_empty());
    let seen: Vec<(UserId, bool)> = first
        .items
        .iter()
        .chain(&second.items)
        .map(|member| (member.user, member.manages))
        .collect();
    assert_eq!(seen, [(one, false), (other, true)]);
    assert_eq!(get(&admin, state, north.id).await.unwrap().members, 2);
    let south = team(&bench, &admin, "South", None).await;
    let foreign = members(&admin, state, south.id, 1, &first.next_page_token).await;
    assert!(matches!(foreign, Err(Error::PageToken)), "{foreign:?}");
    let nobody = remove_member(&admin, state, south.id, one).await;
    assert!(
        matches!(
            nobody,
            Err(Error::NotFound {
                kind: "team member",
                ..
            })
        ),
        "{nobody:?}"
    );
}

#[tokio::test]
async fn nobody_meets_another_tenants_teams_or_members() {
    let bench = Bench::start("team_foreign").await;
    let house = bench.house("acme").await;
    let neighbour = bench.house("globex").await;
    let here = bench.ctx_of(house.admin, house.tenant).await;
    let there = bench.ctx_of(neighbour.admin, neighbour.tenant).await;
    let state = &bench.state;
    let ours = team(&bench, &here, "North", None).await;
    let theirs = team(&bench, &there, "North", None).await;
    for id in [ours.id, TeamId::generate()] {
        let named = |name: &str| NewTeam {
            name: TeamName::parse_required(name).unwrap(),
            parent: Some(id),
            request: None,
        };
        for refused in [
            get(&there, state, id).await.map(drop),
            update(&there, state, &moved(id, None)).await.map(drop),
            update(&there, state, &moved(theirs.id, Some(id))).await.map(drop),
            create(&there, state, &named("East")).await.map(drop),
            delete(&there, state, id, None).await,
            members(&there, state, id, 10, "").await.map(drop),
            set_member(&there, state, id, neighbour.admin, true).await.map(drop),
            remove_member(&there, state, id, house.admin).await,
        ] {
            assert!(
                matches!(refused, Err(Error::NotFound { kind: "team", .. })),
                "{refused:?}"
            );
        }
    }
    for user in [house.admin, UserId::generate()] {
        let refused = set_member(&there, state, theirs.id, user, true).await;
        assert!(
            matches!(refused, Err(Error::NotFound { kind: "member", .. })),
            "{refused:?}"
        );
    }
    assert_eq!(list(&there, state, 50, "").await.unwrap().items, [theirs]);
}

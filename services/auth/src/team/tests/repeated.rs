//! Teams that are created again with the same request id.

use rowhouse_types::IdempotencyKey;

use super::*;
use crate::tests::repeated::{a_day_passes, answers_alike, is_reused};

#[tokio::test]
async fn a_repeated_request_makes_one_team_and_answers_it() {
    let bench = Bench::start("team_request").await;
    let house = bench.house("acme").await;
    let admin = bench.ctx_of(house.admin, house.tenant).await;
    let state = &bench.state;
    let above = team(&bench, &admin, "Above", None).await;
    let asked = NewTeam {
        name: TeamName::parse_required("North").unwrap(),
        parent: Some(above.id),
        request: Some(IdempotencyKey::generate()),
    };
    let by = |ctx: &Ctx, new: &NewTeam| {
        let (ctx, state, new) = (ctx.clone(), state.clone(), new.clone());
        async move { create(&ctx, &state, &new).await }
    };
    let made = answers_alike(&bench, || by(&admin, &asked)).await;
    assert_eq!(bench.count("SELECT count(*) FROM auth.teams").await, 2);
    let noted = "SELECT count(*) FROM auth.audit WHERE action = 'team.create'";
    assert_eq!(bench.count(noted).await, 2);

    // As it is by then, also where there could not be such a team any more.
    let at_the_top = update(&admin, state, &moved(made.id, None)).await.unwrap();
    delete(&admin, state, above.id, None).await.unwrap();
    assert_eq!(by(&admin, &asked).await.unwrap(), at_the_top);

    let [chief] = people(&bench, &house, [Role::TenantAdmin]).await;
    let chief = bench.ctx_of(chief, house.tenant).await;
    is_reused(by(&chief, &asked).await);
    for other in [
        NewTeam {
            name: TeamName::parse_required("South").unwrap(),
            ..asked.clone()
        },
        NewTeam {
            parent: None,
            ..asked.clone()
        },
    ] {
        is_reused(by(&admin, &other).await);
    }
    let neighbour = bench.house("globex").await;
    let there = bench.ctx_of(neighbour.admin, neighbour.tenant).await;
    let top = NewTeam {
        parent: None,
        ..asked.clone()
    };
    let theirs = by(&there, &top).await.expect("each tenant has ids of its own");
    assert_ne!(theirs.id, made.id);

    // It is not made anew where it was deleted.
    delete(&admin, state, made.id, None).await.unwrap();
    let gone = by(&admin, &asked).await;
    assert!(matches!(gone, Err(Error::NotFound { kind: "team", .. })), "{gone:?}");
    // The control: without what is remembered it is another call.
    a_day_passes(&bench).await;
    assert_ne!(by(&admin, &top).await.unwrap().id, made.id);
}

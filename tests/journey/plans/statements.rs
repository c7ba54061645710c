//! `statement_timeout_ms`: a statement that takes longer is ended and its call refused, and nobody else's is.

use anyhow::{Context as _, Result};
use rowhouse_proto::common::v1::{Limits, Placement};
use rowhouse_proto::crm::v1::{Contact, ListContactsRequest};
use tokio::task::JoinSet;

use super::transactions::{Rows, all_pass, until_served};
use super::{assert_refused, raise, tenant_with};
use crate::support::world::{Member, PLACEMENTS, World};

/// What the plan allows a statement: no matter how little, since it is waited for and not raced with.
const ALLOWED_MS: i32 = 100;

async fn contacts(member: &Member) -> Result<Vec<Contact>> {
    let listed = member
        .caller
        .contacts()
        .list_contacts(ListContactsRequest::default())
        .await?;
    Ok(listed.into_inner().contacts)
}

#[tokio::test]
async fn a_plan_bounds_how_long_a_statement_takes_and_no_other_tenants() -> Result<()> {
    let world = World::start("plan-statements").await?;
    for placement in PLACEMENTS {
        ended_in(&world, placement).await?;
    }
    Ok(())
}

/// Both tenants' statements wait for rows that the test holds; the neighbour's began to wait before, and wait still when the
/// bounded tenant's were ended.
async fn ended_in(world: &World, placement: Placement) -> Result<()> {
    let bounded = tenant_with(world, placement, "bounded", Limits::default()).await?;
    let neighbour = tenant_with(world, placement, "neighbour", Limits::default()).await?;
    let own = Rows::of(world, placement, &bounded).await?;
    let theirs = Rows::of(world, placement, &neighbour).await?;
    // The neighbour's rows took the sessions away that crm had, which may have been this tenant's too.
    until_served(&bounded.caller).await?;
    let before = contacts(&bounded).await?;

    let mut waiting = JoinSet::new();
    theirs.hold().await?;
    theirs.change(&neighbour.caller, &mut waiting);
    theirs.until_waiting(2).await?;

    own.hold().await?;
    let limits = Limits {
        statement_timeout_ms: Some(ALLOWED_MS),
        ..Limits::default()
    };
    raise(world, placement, "bounded", &bounded, limits).await?;
    let mut ended = JoinSet::new();
    own.change(&bounded.caller, &mut ended);
    while let Some(answer) = ended.join_next().await {
        let refused = answer?.err().context("the plan has ended nothing")?;
        // Without the number, which only the home has.
        assert_refused(&refused, &bounded, "statement_timeout_ms");
    }
    assert_eq!((own.waiting().await?, theirs.waiting().await?), (0, 2));

    // The control: without the bound the same statements wait until they are let go on.
    raise(world, placement, "bounded", &bounded, Limits::default()).await?;
    assert_eq!(
        contacts(&bounded).await?,
        before,
        "a statement that was ended has changed something"
    );
    let mut again = JoinSet::new();
    own.change(&bounded.caller, &mut again);
    own.until_waiting(2).await?;
    for rows in [&own, &theirs] {
        rows.release().await?;
    }
    all_pass(again).await?;
    all_pass(waiting).await
}

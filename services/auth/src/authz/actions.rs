//! Looking up what decides.

use rowhouse_context::Ctx;
use rowhouse_types::UserId;

use super::Known;
use crate::error::Error;
use crate::member;
use crate::rights::{self, Query};
use crate::state::State;

/// What is known of a member. A change between the two readings shows as one of the two, never as more rights.
pub(crate) async fn known(ctx: &Ctx, state: &State, user: UserId) -> Result<Known, Error> {
    let tenant = ctx.tenant()?;
    let member = member::actions::get(ctx, state, user).await?;
    let query = Query {
        user,
        session: None,
        tenant: Some(tenant),
        platform: false,
        key: None,
        by: None,
    };
    let facts = rights::read(&mut *state.connection().await?, &query).await?;
    Ok(Known { member, facts })
}

//! Looking up what decides.

use rowhouse_context::Ctx;
use rowhouse_types::{ServiceAccountId, UserId};

use super::{Holder, Known, store};
use crate::error::Error;
use crate::member::{self, MemberState};
use crate::rights::{self, Query};
use crate::service_account::{self, AccountState};
use crate::state::State;

/// What is known of a member, or of a service account. A change between the readings shows as one of two, never as more rights.
///
/// `sees_programs`: whether the caller may know of service accounts; to others none is there.
pub(crate) async fn known(ctx: &Ctx, state: &State, user: UserId, sees_programs: bool) -> Result<Known, Error> {
    let tenant = ctx.tenant()?;
    let who = holder(ctx, state, user, sees_programs).await?;
    let query = Query {
        user,
        session: None,
        tenant: Some(tenant),
        platform: false,
        key: None,
        by: None,
    };
    let mut conn = state.connection().await?;
    let facts = rights::read(&mut conn, &query).await?;
    // A program has none to show, and is asked for none.
    let second_factor = if who.is_program {
        None
    } else {
        store::second_factor(&mut conn, user, tenant).await?
    };
    Ok(Known {
        who,
        facts,
        second_factor,
    })
}

/// Who has the id in the tenant. Where nobody has, the answer is the same whatever was looked for.
async fn holder(ctx: &Ctx, state: &State, user: UserId, sees_programs: bool) -> Result<Holder, Error> {
    let not_found = match member::actions::get(ctx, state, user).await {
        Ok(member) => {
            return Ok(Holder {
                user,
                role: member.role,
                is_disabled: member.state == MemberState::Disabled,
                is_program: false,
            });
        }
        Err(error @ Error::NotFound { .. }) if sees_programs => error,
        Err(error) => return Err(error),
    };
    let account = ServiceAccountId::from_uuid(user.uuid());
    match service_account::actions::get(ctx, state, account).await {
        Ok(account) => Ok(Holder {
            user,
            role: account.role,
            is_disabled: account.state == AccountState::Disabled,
            is_program: true,
        }),
        Err(Error::NotFound { .. }) => Err(not_found),
        Err(error) => Err(error),
    }
}

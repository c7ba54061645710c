//! Whom a contact may be given to: an active member of the tenant whose contacts the caller reaches. With `@own` that is
//! nobody else, with `@team` the team, with everything every member.

use std::fmt;
use std::sync::Arc;

use rowhouse_client::{RightsQuery, RightsSource, Standing};
use rowhouse_context::Ctx;
use rowhouse_types::UserId;

use crate::error::Result;

/// Says who may own contacts. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Owners {
    rights: Arc<dyn RightsSource>,
}

// === impl Owners ===

impl Owners {
    /// `rights`: knows the members of tenants.
    pub(crate) fn new(rights: Arc<dyn RightsSource>) -> Self {
        Self { rights }
    }

    /// Whether contacts may be given to `owner`: not to who is out of the caller's reach, and not to who may not act in the
    /// tenant.
    pub(super) async fn admits(&self, ctx: &Ctx, owner: UserId) -> Result<bool> {
        if !ctx.reach().includes(owner) {
            return Ok(false);
        }
        let query = RightsQuery {
            user: owner,
            session: None,
            tenant: Some(ctx.tenant()?),
            platform: false,
            key: None,
            by: None,
        };
        let rights = self.rights.rights(ctx, &query).await?;
        Ok(matches!(rights.standing, Standing::Good))
    }
}

impl fmt::Debug for Owners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Owners").finish_non_exhaustive()
    }
}

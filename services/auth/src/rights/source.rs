//! How auth verifies its own callers: from its own database, for each call, so that it needs neither cache nor lease.

use std::sync::Arc;

use async_trait::async_trait;
use rowhouse_client::{RightsError, RightsQuery, RightsSource};
use rowhouse_context::Ctx;
use tokio::time::timeout_at;

use super::{Query, Standing, actions};
use crate::state::State;

/// The rights as they stand in the database.
pub(crate) struct OwnRights {
    pub(crate) state: Arc<State>,
}

#[async_trait]
impl RightsSource for OwnRights {
    async fn rights(&self, ctx: &Ctx, query: &RightsQuery) -> Result<rowhouse_client::Rights, RightsError> {
        let query = Query {
            user: query.user,
            session: query.session,
            tenant: query.tenant,
            platform: query.platform,
            key: query.key,
            by: query.by,
        };
        let read = timeout_at(ctx.deadline(), actions::rights_now(ctx, &self.state, &query)).await;
        let rights = read
            .map_err(|_| RightsError::DeadlineExceeded)?
            .map_err(|error| RightsError::Unavailable(format!("{error:?}")))?;
        Ok(rowhouse_client::Rights {
            version: rights.version.0,
            standing: match rights.standing {
                Standing::Good => rowhouse_client::Standing::Good,
                Standing::Revoked => rowhouse_client::Standing::Revoked,
                Standing::TenantSuspended => rowhouse_client::Standing::TenantSuspended,
                Standing::TenantUnknown => rowhouse_client::Standing::TenantUnknown,
                Standing::SecondFactorNotShown => rowhouse_client::Standing::SecondFactorNotShown,
                Standing::KeyRevoked => rowhouse_client::Standing::KeyRevoked,
            },
            roles: rights.role.iter().cloned().collect(),
            grants: rights.grants,
            team: rights.team,
        })
    }
}

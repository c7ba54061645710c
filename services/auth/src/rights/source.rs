//! How auth verifies its own callers: under a lease like everybody else, which it gives to itself.

use std::sync::Arc;

use async_trait::async_trait;
use rowhouse_client::{RightsAuthority, RightsError, RightsQuery, RightsSource};
use rowhouse_context::Ctx;
use rowhouse_proto::auth::v1::{RenewLeaseRequest, RenewLeaseResponse};
use tokio::time::timeout_at;

use super::{Query, Standing, actions, wire};
use crate::state::State;

/// The rights as they stand in the database, and leases of this process.
pub(crate) struct OwnRights {
    pub(crate) state: Arc<State>,
}

#[async_trait]
impl RightsSource for OwnRights {
    async fn rights(&self, ctx: &Ctx, query: &RightsQuery) -> Result<Arc<rowhouse_client::Rights>, RightsError> {
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
            .map_err(|error| unavailable(&error))?;
        Ok(Arc::new(rowhouse_client::Rights {
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
        }))
    }
}

#[async_trait]
impl RightsAuthority for OwnRights {
    async fn renew_lease(&self, ctx: &Ctx, renewal: RenewLeaseRequest) -> Result<RenewLeaseResponse, RightsError> {
        let renewal = wire::renewal(ctx, &renewal).map_err(|failure| unavailable(&failure))?;
        let news = actions::renew_lease(ctx, &self.state, &renewal).await;
        Ok(wire::news(news.map_err(|error| unavailable(&error))?))
    }
}

fn unavailable(fault: &impl std::fmt::Debug) -> RightsError {
    RightsError::Unavailable(format!("{fault:?}"))
}

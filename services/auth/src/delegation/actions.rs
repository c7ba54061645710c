//! Delegating a user's rights to a service.

use rowhouse_context::{Ctx, Principal};
use serde_json::json;

use super::Work;
use crate::audit::{self, Entry};
use crate::error::Error;
use crate::key::{AccessToken, Job};
use crate::rights::{self, Query, Rights, Standing};
use crate::state::State;

/// A short-lived token for the calling service in the user's name. What the token allows is decided when it is used:
/// the rights are looked up then as for any other token.
pub(crate) async fn issue_job_token(ctx: &Ctx, state: &State, work: &Work) -> Result<AccessToken, Error> {
    let Principal::Service { name } = ctx.principal() else {
        return Err(Error::fault("a token was asked for by nobody's service"));
    };
    let query = Query {
        user: work.user,
        session: None,
        tenant: Some(work.tenant),
        platform: work.platform,
        key: None,
        by: None,
    };
    let mut tx = state.begin().await?;
    let facts = rights::read(&mut tx, &query).await?;
    match Rights::judge(&query, &facts).standing {
        Standing::Good => {}
        Standing::Revoked | Standing::KeyRevoked => return Err(Error::Revoked),
        Standing::TenantSuspended => return Err(Error::TenantSuspended),
        Standing::TenantUnknown => return Err(Error::TenantNotReady),
        Standing::SecondFactorNotShown => return Err(Error::SecondFactorNotShown),
    }
    let entry = Entry::new("delegation.issue", work.job.as_str())
        .within(Some(work.tenant))
        .after(json!({ "user": work.user.to_string(), "platform": work.platform }));
    audit::record(&mut tx, ctx, entry).await?;
    tx.commit().await?;
    state.signer().await?.job_token(&Job {
        id: work.job.as_str().to_owned(),
        service: *name,
        user: work.user,
        tenant: work.tenant,
        platform: work.platform,
    })
}

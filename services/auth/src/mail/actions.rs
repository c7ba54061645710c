//! Handing out what mails need.

use rowhouse_context::Ctx;
use rowhouse_types::InvitationId;

use super::{Addressee, InvitationMail};
use crate::error::Error;
use crate::identity::{self, Person};
use crate::invitation;
use crate::rights::{self, Query, Rights, Standing};
use crate::state::State;

/// An open invitation with the token of its link, derived at this moment.
pub(crate) async fn invitation_mail(_ctx: &Ctx, state: &State, id: InvitationId) -> Result<InvitationMail, Error> {
    let data = invitation::for_mail(&mut *state.connection().await?, id).await?;
    // One that was accepted, withdrawn or has expired is as good as none: there is nothing to write about.
    let data = data.filter(|data| data.open).ok_or_else(|| Error::NotFound {
        kind: "invitation",
        id: id.to_string(),
    })?;
    let token = state.invitation_tokens.mailed(id, &data.nonce, &data.token_hash)?;
    Ok(InvitationMail {
        email: data.email,
        tenant_name: data.tenant_name,
        token,
        expires: data.expires,
    })
}

/// A person to write to, only while they may act in the tenant.
pub(crate) async fn recipient(_ctx: &Ctx, state: &State, addressee: Addressee) -> Result<Person, Error> {
    let Addressee { tenant, user, platform } = addressee;
    let query = Query {
        user,
        session: None,
        tenant: Some(tenant),
        platform,
        key: None,
        by: None,
    };
    let mut conn = state.connection().await?;
    let facts = rights::read(&mut conn, &query).await?;
    let not_found = || Error::NotFound {
        kind: "recipient",
        id: user.to_string(),
    };
    match Rights::judge(&query, &facts).standing {
        Standing::Good => identity::person(&mut conn, user).await?.ok_or_else(not_found),
        Standing::Revoked | Standing::KeyRevoked | Standing::TenantUnknown => Err(not_found()),
        Standing::TenantSuspended => Err(Error::TenantSuspended),
        Standing::SecondFactorNotShown => Err(Error::SecondFactorNotShown),
    }
}

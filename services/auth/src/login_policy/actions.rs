//! What may be done with a tenant's policy about log-ins.

use rowhouse_context::{Ctx, Principal};
use serde_json::{Value, json};

use super::{Change, LoginPolicy, store};
use crate::audit::{self, Entry};
use crate::error::Error;
use crate::rights::{self, Subject};
use crate::state::State;
use crate::{second_factor, tenant};

/// The tenant's policy.
pub(crate) async fn get(ctx: &Ctx, state: &State) -> Result<LoginPolicy, Error> {
    store::find(&mut *state.connection().await?, ctx.tenant()?).await
}

/// Changes the policy, and answers when no service honours the old one any more.
pub(crate) async fn update(ctx: &Ctx, state: &State, change: &Change) -> Result<LoginPolicy, Error> {
    let tenant = ctx.tenant()?;
    let mut tx = state.begin().await?;
    tenant::lock(&mut tx, tenant).await?.ok_or(Error::TenantNotReady)?;
    let before = store::find(&mut tx, tenant).await?;
    let known = before.written.map(|written| written.etag);
    if change.etag.is_some() && change.etag != known {
        return Err(Error::EtagMismatch);
    }
    let changed = before.changed(change);
    if changed == before {
        tx.rollback().await?;
        // A repeated call finds its change made, and must not answer before the first one might have.
        state.clock.acknowledge_all(ctx).await?;
        return Ok(before);
    }
    // Who asks others for it and could not act themselves afterwards would have locked the tenant.
    if changed.second_factor_required
        && !before.second_factor_required
        && let Principal::Member { session, .. } | Principal::Operator { session, .. } = ctx.principal()
        && !second_factor::actions::is_shown(&mut tx, *session).await?
    {
        return Err(Error::SecondFactorNotShown);
    }
    let after = store::upsert(&mut tx, tenant, &changed).await?;
    let entry = Entry::new("login_policy.update", tenant)
        .before(facts(&before))
        .after(facts(&after));
    audit::record(&mut tx, ctx, entry).await?;
    let version = rights::bump(&mut tx, &[Subject::Tenant(tenant)]).await?;
    tx.commit().await?;
    state.clock.acknowledge(ctx, version).await?;
    Ok(after)
}

/// What the audit log says of a policy.
fn facts(policy: &LoginPolicy) -> Value {
    let domains: Vec<String> = policy.mail_domains.iter().map(ToString::to_string).collect();
    json!({
        "second_factor_required": policy.second_factor_required,
        "session_lifetime_s": policy.session_lifetime.map(|lifetime| lifetime.as_secs()),
        "mail_domains": domains,
        "password_length_min": policy.password_length_min,
    })
}

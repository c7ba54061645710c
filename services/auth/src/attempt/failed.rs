//! Guesses that failed, for the audit logs, and what was shown although it is over: a key, a refresh token.
//!
//! They are counted together like other refusals and written afterwards: whoever guesses a thousand times fills no log, and no
//! answer waits for one.

use rowhouse_context::Ctx;
use rowhouse_middleware::{Refusal, RefusalLog as _};
use rowhouse_status::Reason;
use rowhouse_types::TenantId;
use tokio::time::Instant;

use crate::state::State;

/// A guess that failed.
#[derive(Debug)]
pub(crate) struct Failed {
    /// Where it was made.
    pub(crate) rpc: &'static str,
    pub(crate) reason: Reason,
    /// What it was about, as the API writes its id; empty where nobody knows.
    pub(crate) target: String,
}

/// Tells a tenant's log of it, or the platform's.
pub(crate) fn tell(ctx: &Ctx, state: &State, log: Option<TenantId>, failed: &Failed) {
    let origin = ctx.address().map(str::to_owned);
    let ctx = Ctx::new(ctx.request_id().clone(), ctx.principal().clone(), log, Instant::now());
    state.failed_logins.refused(Refusal {
        ctx: ctx.with_origin(None, origin),
        rpc: failed.rpc,
        reason: failed.reason.as_info(),
        permission: None,
        target: failed.target.clone(),
    });
}

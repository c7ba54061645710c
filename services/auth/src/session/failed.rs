//! Log-ins that failed, for the audit logs: of the tenant that was named where it was about a member, else of all whose member
//! it was about, else of the platform.
//!
//! An attempt on an account that does not exist goes the same way: the same statement, and an entry somewhere else.

use rowhouse_context::Ctx;
use rowhouse_status::Reason;
use rowhouse_types::TenantId;

use super::{Attempt, store};
use crate::attempt::failed::{self, Failed};
use crate::error::Error;
use crate::state::State;

/// The RPC.
const LOGIN: &str = "rowhouse.auth.v1.AuthService/Login";

/// Tells of an attempt that ended in an error. Without an answer from the database nothing is told: the log-in has failed all the
/// same.
pub(super) async fn tell(ctx: &Ctx, state: &State, attempt: &Attempt, error: &Error) {
    let Some(reason) = reason(attempt, error) else {
        return;
    };
    if let Err(error) = record(ctx, state, attempt, reason).await {
        tracing::warn!(cause = %error, "a log-in that failed was not recorded");
    }
}

/// Why, where it is one that somebody who guesses would have made.
fn reason(attempt: &Attempt, error: &Error) -> Option<Reason> {
    match error {
        // Without a code it was a question.
        Error::SecondFactorRequired if attempt.second_factor.is_some() => Some(Reason::SecondFactorRequired),
        Error::LoginFailed => Some(Reason::LoginFailed),
        Error::TooManyAttempts { .. } => Some(Reason::TooManyAttempts),
        _ => None,
    }
}

async fn record(ctx: &Ctx, state: &State, attempt: &Attempt, reason: Reason) -> Result<(), Error> {
    let about = store::about(&mut *state.connection().await?, &attempt.email, attempt.tenant).await?;
    let failed = Failed {
        rpc: LOGIN,
        reason,
        target: about.user.map(|user| user.to_string()).unwrap_or_default(),
    };
    let logs: Vec<Option<TenantId>> = match about.tenants.as_slice() {
        [] => vec![None],
        tenants => tenants.iter().copied().map(Some).collect(),
    };
    for log in logs {
        failed::tell(ctx, state, log, &failed);
    }
    Ok(())
}

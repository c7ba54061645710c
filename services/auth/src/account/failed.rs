//! Guesses of whoever is logged in at the account's password or second factor, for the audit logs: with a stolen session, that is
//! how a thief would go on. They are told as log-ins that failed are: to the log of the tenant that the session is in, or the
//! platform's, with the person as actor and target.

use rowhouse_context::{Ctx, Principal};
use rowhouse_status::Reason;

use crate::attempt::failed::{self, Failed};
use crate::error::Error;
use crate::second_factor;
use crate::state::State;

/// RPCs in which somebody who is logged in shows a password or a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shows {
    ChangePassword,
    ChangeEmail,
    SetUpSecondFactor,
    ConfirmSecondFactor,
    RenewRecoveryCodes,
    RemoveSecondFactor,
    GrantOperator,
}

// === impl Shows ===

impl Shows {
    #[cfg(test)]
    pub(super) const ALL: [Self; 7] = [
        Self::ChangePassword,
        Self::ChangeEmail,
        Self::SetUpSecondFactor,
        Self::ConfirmSecondFactor,
        Self::RenewRecoveryCodes,
        Self::RemoveSecondFactor,
        Self::GrantOperator,
    ];

    /// As `package.Service/Method`.
    pub(crate) fn rpc(self) -> &'static str {
        match self {
            Self::ChangePassword => "rowhouse.auth.v1.AccountService/ChangePassword",
            Self::ChangeEmail => "rowhouse.auth.v1.AccountService/ChangeEmail",
            Self::SetUpSecondFactor => "rowhouse.auth.v1.AccountService/SetUpSecondFactor",
            Self::ConfirmSecondFactor => "rowhouse.auth.v1.AccountService/ConfirmSecondFactor",
            Self::RenewRecoveryCodes => "rowhouse.auth.v1.AccountService/RenewRecoveryCodes",
            Self::RemoveSecondFactor => "rowhouse.auth.v1.AccountService/RemoveSecondFactor",
            Self::GrantOperator => "rowhouse.auth.v1.OperatorService/GrantOperator",
        }
    }
}

/// Hands on what became of a call, and tells where it ended with what was shown.
pub(crate) fn told<T>(ctx: &Ctx, state: &State, shows: Shows, answer: Result<T, Error>) -> Result<T, Error> {
    if let Err(error) = &answer
        && let Some(reason) = reason(error)
        && let Principal::Member { user, .. } | Principal::Operator { user, .. } = ctx.principal()
    {
        let log = match ctx.principal() {
            Principal::Member { tenant, .. } => Some(*tenant),
            _ => None,
        };
        let failed = Failed {
            rpc: shows.rpc(),
            reason,
            target: user.to_string(),
        };
        failed::tell(ctx, state, log, &failed);
    }
    answer
}

/// Why, in the words that entries about log-ins use. What is wrong with a request itself ends before the action begins, and who
/// sends no code where one is asked for ([`Error::CodeMissing`]) guesses nothing.
fn reason(error: &Error) -> Option<Reason> {
    match error {
        Error::Field { field, .. } if *field == super::actions::CURRENT_PASSWORD => Some(Reason::LoginFailed),
        Error::Field { field, .. } if *field == second_factor::CODE => Some(Reason::SecondFactorRequired),
        // Who has asked for too many mails, or chosen too many passwords that are easy to guess, is told too.
        Error::TooManyAttempts { .. } => Some(Reason::TooManyAttempts),
        _ => None,
    }
}

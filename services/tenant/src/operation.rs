//! Operations: sagas that lead a tenant from one state to another, step by step, whatever crashes meanwhile.
//!
//! A step is a call to other services that may be repeated; it counts once its record is written. This file is the
//! plan; [`saga`] carries it out, [`store`] keeps it, [`peers`] makes the calls, [`runner`] resumes what was left.

pub(crate) mod peers;
pub(crate) mod runner;
pub(crate) mod saga;
pub(crate) mod store;

#[cfg(test)]
pub(crate) mod tests;

use std::str::FromStr;
use std::time::Duration;

use rowhouse_context::RequestId;
use rowhouse_types::{HomeState, OperationId, Placement, ServerName, TenantId};
use uuid::Uuid;

use crate::tenant::State;

/// What an operation does to its tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Builds the tenant's homes, invites its administrator, and opens it.
    Provision,
    /// Closes it.
    Suspend,
    /// Opens it again.
    Resume,
    /// Makes it read-only.
    Restrict,
    /// Closes it, until it is undeleted.
    Delete,
    /// Brings a deleted one back.
    Undelete,
    /// Removes what there is of a deleted one.
    Purge,
}

/// One step of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Every participant makes its home ready.
    Prepare,
    /// auth makes the tenant known and invites the first administrator.
    Invite,
    /// auth allows the tenant's members to act.
    Allow,
    /// auth refuses the tenant's members and every participant freezes its home, both at once: while one of them is
    /// out of reach, the other holds already.
    Close,
    /// Every participant opens its home.
    Thaw,
    /// Every participant refuses writes to its home.
    Restrict,
    /// Every participant drops its home.
    Drop,
    /// Every service that keeps records of tenants outside homes removes them.
    Erase,
    /// The tenant's keys are removed from Redis. What values are made from is gone; a call with an old token may still leave
    /// there, for minutes, that it was refused.
    Forget,
}

/// An operation that this process holds the lease of.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) id: OperationId,
    /// Names this hold: a record is written only while the database still has it.
    pub(crate) lease: Uuid,
    pub(crate) kind: Kind,
    /// The step to do next.
    pub(crate) step: Step,
    /// How often this step has failed.
    pub(crate) attempts: u32,
    /// Whether the tenant's home was built ahead. Only who has just reserved it knows: false where an operation is resumed.
    pub(crate) spare: bool,
    pub(crate) tenant: TenantId,
    pub(crate) display_name: String,
    pub(crate) server: ServerName,
    pub(crate) placement: Placement,
    /// The first administrator's address, while provisioning.
    pub(crate) administrator: Option<String>,
    /// The request that began it.
    pub(crate) request: RequestId,
    pub(crate) traceparent: Option<String>,
}

/// The text is not a kind, or not a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown kind or step of an operation")]
pub(crate) struct ParseOperationError;

/// First pause after a failure, and the longest. A participant that restarts is back within seconds; one that is away
/// for an hour must not be called a thousand times a minute.
const PAUSE_FIRST: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// The longest pause before the next attempt; half of it is left to chance, so that operations that failed together do
/// not come back together.
///
/// `failures`: how often the step has failed in a row, at least 1.
pub(crate) fn pause(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    PAUSE_FIRST.saturating_mul(1 << doublings).min(PAUSE_MAX)
}

// === impl Held ===

impl Held {
    /// The same operation at another step, at which nothing has failed.
    pub(crate) fn at(&self, step: Step) -> Self {
        Self {
            step,
            attempts: 0,
            ..self.clone()
        }
    }
}

// === impl Kind ===

impl Kind {
    /// All of them.
    pub(crate) const ALL: [Self; 7] = [
        Self::Provision,
        Self::Suspend,
        Self::Resume,
        Self::Restrict,
        Self::Delete,
        Self::Undelete,
        Self::Purge,
    ];

    /// The steps, in order. The record of the last one also moves the tenant to its final state.
    pub(crate) fn steps(self) -> &'static [Step] {
        match self {
            Self::Provision => &[Step::Prepare, Step::Invite, Step::Allow],
            Self::Suspend | Self::Delete => &[Step::Close],
            Self::Resume | Self::Undelete => &[Step::Thaw, Step::Allow],
            Self::Restrict => &[Step::Restrict],
            Self::Purge => &[Step::Drop, Step::Erase, Step::Forget],
        }
    }

    /// The step after `step`; `None` after the last.
    pub(crate) fn after(self, step: Step) -> Option<Step> {
        let mut steps = self.steps().iter().skip_while(|known| **known != step);
        steps.next();
        steps.next().copied()
    }

    /// The step that it begins with.
    pub(crate) fn first_step(self) -> Step {
        match self {
            Self::Provision => Step::Prepare,
            Self::Suspend | Self::Delete => Step::Close,
            Self::Resume | Self::Undelete => Step::Thaw,
            Self::Restrict => Step::Restrict,
            Self::Purge => Step::Drop,
        }
    }

    /// The states of which a tenant must have one for the operation to begin; provisioning begins with the tenant itself.
    pub(crate) fn states_before(self) -> &'static [State] {
        match self {
            Self::Provision => &[],
            Self::Suspend => &[State::Active, State::ReadOnly],
            Self::Resume => &[State::ReadOnly, State::Suspended],
            Self::Restrict => &[State::Active],
            Self::Delete => &[State::Active, State::ReadOnly, State::Suspended],
            Self::Undelete | Self::Purge => &[State::Deleted],
        }
    }

    /// The state of the tenant while the operation runs.
    pub(crate) fn state_during(self) -> State {
        match self {
            Self::Provision => State::Provisioning,
            Self::Suspend => State::Suspending,
            Self::Resume => State::Resuming,
            Self::Restrict => State::Restricting,
            Self::Delete => State::Deleting,
            Self::Undelete => State::Undeleting,
            Self::Purge => State::Purging,
        }
    }

    /// The state of the tenant once it is done.
    pub(crate) fn state_after(self) -> State {
        match self {
            Self::Provision | Self::Resume | Self::Undelete => State::Active,
            Self::Suspend => State::Suspended,
            Self::Restrict => State::ReadOnly,
            Self::Delete => State::Deleted,
            Self::Purge => State::Purged,
        }
    }

    /// What the directory says of the tenant's homes from the moment the operation is accepted; `None` where that changes
    /// only with its steps.
    pub(crate) fn homes_at_once(self) -> Option<HomeState> {
        match self {
            Self::Suspend | Self::Delete => Some(HomeState::Frozen),
            Self::Restrict => Some(HomeState::ReadOnly),
            Self::Provision | Self::Resume | Self::Undelete | Self::Purge => None,
        }
    }

    /// Whether a step's calls may be made before the record of the step before is written. A process that has lost the lease
    /// then makes the calls of two steps before it notices, or of three where two are made at once, so only where every call is
    /// ignored once the operation is over: provisioning's are, by the operation's id, and somebody waits for it. With a spare,
    /// prepare and invite are made at once and allow beside the record of both, so access may be allowed before either is
    /// written down.
    pub(crate) fn may_run_ahead(self) -> bool {
        match self {
            Self::Provision => true,
            Self::Suspend | Self::Resume | Self::Restrict | Self::Delete | Self::Undelete | Self::Purge => false,
        }
    }

    /// How the audit log names it, when it is accepted and when it is done.
    pub(crate) fn audited_as(self) -> &'static str {
        match self {
            Self::Provision => "tenant.create",
            Self::Suspend => "tenant.suspend",
            Self::Resume => "tenant.resume",
            Self::Restrict => "tenant.set_read_only",
            Self::Delete => "tenant.delete",
            Self::Undelete => "tenant.undelete",
            Self::Purge => "tenant.purge",
        }
    }

    /// What it makes of the tenant, for messages.
    pub(crate) fn participle(self) -> &'static str {
        match self {
            Self::Provision => "provisioned",
            Self::Suspend => "suspended",
            Self::Resume => "resumed",
            Self::Restrict => "made read-only",
            Self::Delete => "deleted",
            Self::Undelete => "undeleted",
            Self::Purge => "purged",
        }
    }

    /// The event that tells the other services that it is done.
    pub(crate) fn event(self) -> Option<&'static str> {
        match self {
            Self::Provision => Some("tenant.activated.v1"),
            Self::Delete => Some("tenant.deleted.v1"),
            Self::Undelete => Some("tenant.undeleted.v1"),
            Self::Purge => Some("tenant.purged.v1"),
            Self::Suspend | Self::Resume | Self::Restrict => None,
        }
    }

    /// The word for it in the database.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Provision => "provision",
            Self::Suspend => "suspend",
            Self::Resume => "resume",
            Self::Restrict => "restrict",
            Self::Delete => "delete",
            Self::Undelete => "undelete",
            Self::Purge => "purge",
        }
    }
}

impl FromStr for Kind {
    type Err = ParseOperationError;

    fn from_str(text: &str) -> Result<Self, ParseOperationError> {
        let mut known = Self::ALL.into_iter();
        known.find(|kind| kind.as_str() == text).ok_or(ParseOperationError)
    }
}

// === impl Step ===

impl Step {
    /// All of them.
    pub(crate) const ALL: [Self; 9] = [
        Self::Prepare,
        Self::Invite,
        Self::Allow,
        Self::Close,
        Self::Thaw,
        Self::Restrict,
        Self::Drop,
        Self::Erase,
        Self::Forget,
    ];

    /// The word for it in the database.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::Invite => "invite",
            Self::Allow => "allow",
            Self::Close => "close",
            Self::Thaw => "thaw",
            Self::Restrict => "restrict",
            Self::Drop => "drop",
            Self::Erase => "erase",
            Self::Forget => "forget",
        }
    }
}

impl FromStr for Step {
    type Err = ParseOperationError;

    fn from_str(text: &str) -> Result<Self, ParseOperationError> {
        let mut known = Self::ALL.into_iter();
        known.find(|step| step.as_str() == text).ok_or(ParseOperationError)
    }
}

#[cfg(test)]
mod plan_tests {
    use super::*;

    #[test]
    fn every_operation_leads_along_allowed_transitions() {
        for kind in Kind::ALL {
            assert!(kind.state_during().may_become(kind.state_after()), "{kind:?}");
        }
        let before = |kind: Kind| kind.states_before().iter().map(move |before| (kind, *before));
        for (kind, before) in Kind::ALL.into_iter().flat_map(before) {
            assert!(before.may_become(kind.state_during()), "{kind:?} from {before}");
        }
        // And no transition is without the operation that takes it.
        for state in State::ALL {
            let taken = |next: State| {
                Kind::ALL.into_iter().any(|kind| {
                    (kind.states_before().contains(&state) && kind.state_during() == next)
                        || (kind.state_during() == state && kind.state_after() == next)
                })
            };
            assert!(
                State::ALL.into_iter().all(|next| state.may_become(next) == taken(next)),
                "{state}"
            );
        }
    }

    #[test]
    fn steps_follow_each_other_to_the_end() {
        for kind in Kind::ALL {
            let mut walked = vec![kind.first_step()];
            while let Some(next) = kind.after(*walked.last().unwrap()) {
                walked.push(next);
            }
            assert_eq!(walked, kind.steps(), "{kind:?}");
        }
        assert_eq!(Kind::Suspend.after(Step::Prepare), None);
    }

    #[test]
    fn a_tenant_is_opened_only_after_everything_else() {
        assert_eq!(Kind::Provision.steps().last(), Some(&Step::Allow));
        assert_eq!(Kind::Resume.steps().last(), Some(&Step::Allow));
        assert_eq!(Kind::Undelete.steps().last(), Some(&Step::Allow));
    }

    #[test]
    fn pauses_grow_and_have_a_limit() {
        assert_eq!(pause(1), PAUSE_FIRST);
        assert_eq!(pause(2), PAUSE_FIRST * 2);
        assert!((1..100).all(|failures| pause(failures) <= pause(failures + 1)));
        assert_eq!(pause(u32::MAX), PAUSE_MAX);
    }

    #[test]
    fn words_are_read_back() {
        assert!(Kind::ALL.iter().all(|kind| kind.as_str().parse() == Ok(*kind)));
        assert!(Step::ALL.iter().all(|step| step.as_str().parse() == Ok(*step)));
        assert_eq!("done".parse::<Step>(), Err(ParseOperationError));
    }
}

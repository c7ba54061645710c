//! The lease and the versions: which cached rights may be used now.
//!
//! Auth acknowledges a change of rights when every holder of a live lease has confirmed the change's version, or its
//! lease has run out. So while our lease lives, every change that was acknowledged and that we have not confirmed does
//! not exist; and every change that we know of is recorded here before it is confirmed. What was read at an older
//! version than the last change of its tenant, user, session or signing key, or of the operator who acts as the user, is not used,
//! whenever it arrives: a slow refill can never bring back older rights.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime};

use rowhouse_auth_kit::KeyId;
use rowhouse_proto::auth::v1::RenewLeaseResponse;
use rowhouse_types::{SessionId, TenantId, UserId};

use crate::rights::RightsQuery;

/// Longest lease that is believed, whatever auth says.
const LEASE_MAX: Duration = Duration::from_secs(2);

/// Given away at the end of each lease, for two monotonic clocks that do not run equally fast (500 ppm of 2 s is 1 ms).
const LEASE_MARGIN: Duration = Duration::from_millis(10);

/// Subjects whose last change is remembered one by one. With more, the floor rises and all entries are refilled once.
const SUBJECTS_MAX: usize = 10_000;

/// What a subject begins with that is a key of access tokens; its id follows.
const KEY_SUBJECT: &str = "signing_key:";

/// Now, by two clocks. The monotonic one counts the lease. It stands still while a machine is suspended, so the
/// calendar's clock must agree; set back or forth, it can only end a lease early.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    monotonic: Instant,
    calendar: SystemTime,
}

/// Whose rights changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Subject {
    Tenant(TenantId),
    User(UserId),
    Session(SessionId),
    Key(KeyId),
}

/// The holder's books.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// The version up to which changes are recorded here; none before the first answer.
    confirmed: Option<i64>,
    /// Nothing older counts.
    floor: i64,
    /// Upper bound of the version of each subject's last change.
    changed: HashMap<Subject, i64>,
    /// When the last answered renewal was asked, and how long the lease lasts from then.
    lease: Option<(Now, Duration)>,
    /// For the control of the tests: removes the guard.
    #[cfg(test)]
    pub(crate) believes_all_versions: bool,
}

/// What a renewal led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Renewal {
    /// The lease lives; nothing changed.
    Quiet,
    /// The lease lives; changes were recorded and are to be confirmed at once.
    Changed,
    /// Auth's version is older than one that it told before: its database was set back. There is no lease until it has
    /// passed what we know, because versions no longer tell old from new.
    SetBack,
}

// === impl Now ===

impl Now {
    pub(crate) fn read() -> Self {
        Self {
            monotonic: Instant::now(),
            calendar: SystemTime::now(),
        }
    }

    fn is_within(self, of: Self, duration: Duration) -> bool {
        // The clock of the calendar set back since then: `duration_since` fails.
        let by_calendar = self.calendar.duration_since(of.calendar);
        self.monotonic.saturating_duration_since(of.monotonic) < duration
            && by_calendar.is_ok_and(|passed| passed < duration)
    }
}

// === impl Subject ===

impl Subject {
    fn read(text: &str) -> Option<Self> {
        let tenant = text.parse().map(Self::Tenant);
        let user = || text.parse().map(Self::User);
        let session = || text.parse().map(Self::Session);
        let known = tenant.or_else(|_| user()).or_else(|_| session());
        known.ok().or_else(|| {
            let key = text.strip_prefix(KEY_SUBJECT)?;
            key.parse().ok().map(Self::Key)
        })
    }
}

// === impl Ledger ===

impl Ledger {
    /// The version to confirm with the next renewal: all changes up to it are recorded. 0 at the start.
    pub(crate) fn confirmed(&self) -> i64 {
        self.confirmed.unwrap_or(0)
    }

    /// Records an answer of auth. `asked`: read before the question was sent.
    pub(crate) fn record(&mut self, asked: Now, answer: &RenewLeaseResponse) -> Renewal {
        let version = answer.version;
        if version < self.confirmed() {
            self.lease = None;
            // Versions will be given again, so nothing that was read under them counts.
            self.floor = self.confirmed().saturating_add(1);
            self.changed.clear();
            return Renewal::SetBack;
        }
        let subjects: Option<Vec<Subject>> = answer.changed_subjects.iter().map(|text| Subject::read(text)).collect();
        let is_first = self.confirmed.is_none();
        match subjects {
            Some(subjects) if !answer.drop_all && !is_first => {
                // The answer does not say at which version each changed: its own is the upper bound.
                self.changed
                    .extend(subjects.into_iter().map(|subject| (subject, version)));
            }
            // At the start we do not know what changed before; and what we cannot read could be anything.
            _ => self.floor = self.floor.max(version),
        }
        if self.changed.len() > SUBJECTS_MAX {
            self.floor = version;
        }
        if self.floor == version {
            self.changed.clear();
        }
        let is_news = self.confirmed != Some(version);
        self.confirmed = Some(version);
        let lasts = Duration::from_millis(u64::try_from(answer.lease_ms).unwrap_or(0)).min(LEASE_MAX);
        self.lease = Some((asked, lasts.saturating_sub(LEASE_MARGIN)));
        if is_news { Renewal::Changed } else { Renewal::Quiet }
    }

    /// Whether the lease lives.
    pub(crate) fn is_live(&self, now: Now) -> bool {
        self.lease
            .is_some_and(|(asked, duration)| now.is_within(asked, duration))
    }

    /// Whether rights that auth read at `version` may be used now for `query`.
    pub(crate) fn may_use(&self, now: Now, query: &RightsQuery, version: i64) -> bool {
        #[cfg(test)]
        if self.believes_all_versions {
            return self.is_live(now);
        }
        self.is_live(now) && version >= self.oldest_usable(query)
    }

    fn oldest_usable(&self, query: &RightsQuery) -> i64 {
        let subjects = [
            Some(Subject::User(query.user)),
            query.session.map(Subject::Session),
            query.tenant.map(Subject::Tenant),
            query.key.map(Subject::Key),
            query.by.map(|by| Subject::User(by.operator)),
            query.by.map(|by| Subject::Session(by.session)),
        ];
        let changes = subjects
            .iter()
            .flatten()
            .filter_map(|subject| self.changed.get(subject));
        changes.copied().fold(self.floor, i64::max)
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

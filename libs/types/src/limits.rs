//! What a tenant may use.

use serde::{Deserialize, Serialize};

/// Bounds on what a tenant uses. An absent one does not hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Calls of its members a second, over all services.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_second: Option<u32>,
    /// Longest time for one statement in the tenant's home, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub statement_timeout_ms: Option<u32>,
    /// Contacts that are not deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contacts: Option<u32>,
    /// Reports that are not finished.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jobs_in_flight: Option<u32>,
    /// Members that are not removed, and open invitations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seats: Option<u32>,
    /// Transactions at once in the tenant's home, over all processes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrent_transactions: Option<u32>,
    /// Mails that the suite sends for the tenant within 24 hours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mails_per_day: Option<u32>,
}

// === impl Limits ===

impl Limits {
    /// These limits, where `overrides` does not say otherwise.
    #[must_use]
    pub fn with(self, overrides: Self) -> Self {
        Self {
            requests_per_second: overrides.requests_per_second.or(self.requests_per_second),
            statement_timeout_ms: overrides.statement_timeout_ms.or(self.statement_timeout_ms),
            contacts: overrides.contacts.or(self.contacts),
            jobs_in_flight: overrides.jobs_in_flight.or(self.jobs_in_flight),
            seats: overrides.seats.or(self.seats),
            concurrent_transactions: overrides.concurrent_transactions.or(self.concurrent_transactions),
            mails_per_day: overrides.mails_per_day.or(self.mails_per_day),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_override_holds_instead_of_the_plans_bound_and_leaves_the_others() {
        let plan = Limits {
            contacts: Some(10),
            seats: Some(3),
            ..Limits::default()
        };
        let overrides = Limits {
            contacts: Some(20),
            jobs_in_flight: Some(1),
            ..Limits::default()
        };
        let both = plan.with(overrides);
        assert_eq!(
            (both.contacts, both.seats, both.jobs_in_flight),
            (Some(20), Some(3), Some(1))
        );
        assert_eq!(both.requests_per_second, None);
    }
}

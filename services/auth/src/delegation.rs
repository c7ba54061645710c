//! Tokens for work that goes on after the call that asked for it (RFC 8693: `sub` the user, `act` the service), given
//! only while that user's membership and rights stand.

pub(crate) mod actions;
mod rpc;
mod wire;

use rowhouse_types::{TenantId, UserId};

pub(crate) use rpc::DelegationRpc;

/// Longest id of a job, in bytes.
const JOB_ID_BYTES_MAX: usize = 100;

/// Id of a job of any kind: a TypeID, whose kind only its service knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JobId {
    text: String,
}

/// The text is not the id of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be the id of a job")]
pub(crate) struct ParseJobIdError;

/// Work that is to go on.
#[derive(Clone, Debug)]
pub(crate) struct Work {
    pub(crate) job: JobId,
    pub(crate) tenant: TenantId,
    pub(crate) user: UserId,
    /// Whether the user asked for it as a platform operator.
    pub(crate) platform: bool,
}

// === impl JobId ===

impl JobId {
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }
}

impl std::str::FromStr for JobId {
    type Err = ParseJobIdError;

    fn from_str(text: &str) -> Result<Self, ParseJobIdError> {
        let known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if (1..=JOB_ID_BYTES_MAX).contains(&text.len()) && text.chars().all(known) {
            Ok(Self { text: text.to_owned() })
        } else {
            Err(ParseJobIdError)
        }
    }
}

#[cfg(test)]
mod rules {
    use super::*;

    #[test]
    fn only_ids_name_jobs() {
        assert!("report_01h455vb4pex5vsknk084sn02q".parse::<JobId>().is_ok());
        for text in ["", "Report", "a b", "a\n", &"a".repeat(101)] {
            assert!(text.parse::<JobId>().is_err(), "{text:?}");
        }
    }
}

#[cfg(test)]
mod tests;

//! Times as messages.

use chrono::{DateTime, Utc};
use prost_types::Timestamp;

/// A time as a message. A leap second, which shows as more than a second's nanoseconds, becomes the last moment before: the
/// message forbids it.
#[must_use]
pub fn timestamp(at: DateTime<Utc>) -> Timestamp {
    Timestamp {
        seconds: at.timestamp(),
        nanos: i32::try_from(at.timestamp_subsec_nanos().min(999_999_999)).unwrap_or_default(),
    }
}

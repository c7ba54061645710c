//! What the messages of several entities have in common.

use std::str::FromStr;

use chrono::{DateTime, Utc};
use rowhouse_proto::well_known::Timestamp;

/// A time as message.
pub(crate) fn timestamp(time: DateTime<Utc>) -> Timestamp {
    Timestamp {
        seconds: time.timestamp(),
        // A leap second shows as more than a second's nanoseconds, which the message forbids.
        nanos: i32::try_from(time.timestamp_subsec_nanos().min(999_999_999)).unwrap_or_default(),
    }
}

/// A text that may be empty, which then stands for nothing.
pub(crate) fn optional<T: FromStr>(text: &str) -> Result<Option<T>, T::Err> {
    if text.is_empty() {
        Ok(None)
    } else {
        text.parse().map(Some)
    }
}

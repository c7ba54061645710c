//! Reasons as they stand in `google.rpc.ErrorInfo`.

use crate::common::v1::ErrorReason;

impl ErrorReason {
    /// The reason for `google.rpc.ErrorInfo`: UPPER_SNAKE_CASE without the enum's prefix, as that message asks.
    #[must_use]
    pub fn as_info(self) -> &'static str {
        let name = self.as_str_name();
        name.strip_prefix("ERROR_REASON_").unwrap_or(name)
    }
}

//! Idempotency keys: what a client puts into `request_id`, so that a call can be repeated and is done once (AIP-155).

use std::str::FromStr;

use uuid::Uuid;

/// A UUID that a client chose for one call. Not the `RequestId` of metadata, which each try has anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdempotencyKey {
    uuid: Uuid,
}

/// The text is not such a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a UUID such as 0197a6de-1c8f-7c1e-a4a5-5f0e9d6f3b21")]
pub struct ParseIdempotencyKeyError;

// === impl IdempotencyKey ===

impl IdempotencyKey {
    /// A new key.
    #[must_use]
    pub fn generate() -> Self {
        Self { uuid: Uuid::now_v7() }
    }

    /// The key as stored in a database.
    #[must_use]
    pub fn uuid(self) -> Uuid {
        self.uuid
    }
}

impl FromStr for IdempotencyKey {
    type Err = ParseIdempotencyKeyError;

    fn from_str(text: &str) -> Result<Self, ParseIdempotencyKeyError> {
        match Uuid::parse_str(text) {
            // One spelling only: two texts for one UUID would be two requests to a client and one to us. The nil UUID is
            // what a client sends that forgot to choose one.
            Ok(uuid) if !uuid.is_nil() && uuid.hyphenated().to_string() == text => Ok(Self { uuid }),
            _ => Err(ParseIdempotencyKeyError),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_spelling() {
        let key = "0197a6de-1c8f-7c1e-a4a5-5f0e9d6f3b21"
            .parse::<IdempotencyKey>()
            .unwrap();
        assert_eq!(key.uuid().to_string(), "0197a6de-1c8f-7c1e-a4a5-5f0e9d6f3b21");
        for text in [
            "",
            "1",
            "a\0b",
            "0197A6DE-1C8F-7C1E-A4A5-5F0E9D6F3B21",
            "0197a6de1c8f7c1ea4a55f0e9d6f3b21",
            "{0197a6de-1c8f-7c1e-a4a5-5f0e9d6f3b21}",
            "urn:uuid:0197a6de-1c8f-7c1e-a4a5-5f0e9d6f3b21",
            "00000000-0000-0000-0000-000000000000",
        ] {
            assert_eq!(
                text.parse::<IdempotencyKey>(),
                Err(ParseIdempotencyKeyError),
                "{text:?}"
            );
        }
    }
}

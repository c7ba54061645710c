//! Texts that stand for nothing when they are empty, as proto3 has them.

use std::str::FromStr;

/// Reads a text that may be empty, which then stands for nothing.
///
/// # Errors
/// What `T` says of a text that is not empty.
pub fn optional<T: FromStr>(text: &str) -> Result<Option<T>, T::Err> {
    if text.is_empty() {
        Ok(None)
    } else {
        text.parse().map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_empty_text_stands_for_nothing() {
        assert_eq!(optional::<u8>(""), Ok(None));
        assert_eq!(optional::<u8>("7"), Ok(Some(7)));
        assert!(optional::<u8>(" ").is_err() && optional::<u8>("x").is_err());
    }
}

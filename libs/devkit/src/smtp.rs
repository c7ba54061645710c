//! A mail server that accepts everything.

/// One mail that the sink accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// Recipients of the envelope, lower case.
    pub to: Vec<String>,
    /// The sender's header.
    pub from: String,
    /// Decoded.
    pub subject: String,
    /// Without angle brackets.
    pub message_id: String,
    /// The text part, decoded.
    pub text: String,
    /// The HTML part, decoded, where there is one.
    pub html: Option<String>,
}

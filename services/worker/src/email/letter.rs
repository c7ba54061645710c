//! A mail as MIME (RFC 5322, RFC 2045): text and HTML as alternatives.

use std::time::SystemTime;

use lettre::address::AddressError;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart};
use lettre::{Address, Message};
use rowhouse_types::Email;
use uuid::Uuid;

use super::template::{Written, one_line};

/// Longest name of a recipient in a header, in characters.
const NAME_CHARS_MAX: usize = 100;

/// A mail that is to be sent. It holds an address and perhaps a secret: no `Debug`.
pub(crate) struct Letter {
    pub(super) to: Email,
    pub(super) name: String,
    pub(super) written: Written,
}

/// The parts do not make a mail.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LetterError {
    #[error("the address cannot be written to")]
    Address(#[from] AddressError),
    #[error("the mail cannot be put together")]
    Parts(#[from] lettre::error::Error),
}

// === impl Letter ===

impl Letter {
    /// The mail as it is sent. Its Message-ID is made of the event's id and so the same in every attempt: a mail that a
    /// cut connection repeats can be recognised (RFC 5322, section 3.6.4).
    pub(super) fn message(&self, from: &Mailbox, id: Uuid, now: SystemTime) -> Result<Message, LetterError> {
        // A domain in its own script goes as DNS has it: not every mail server knows SMTPUTF8.
        let address: Address = self.to.to_send().parse()?;
        let name = one_line(&self.name, NAME_CHARS_MAX);
        let to = Mailbox::new(Some(name).filter(|name| !name.is_empty()), address);
        // Mail servers answer such a mail with no notice of absence (RFC 3834).
        let automatic = HeaderValue::new(
            HeaderName::new_from_ascii_str("Auto-Submitted"),
            "auto-generated".to_owned(),
        );
        Ok(Message::builder()
            .from(from.clone())
            .to(to)
            .subject(self.written.subject.clone())
            .date(now)
            .message_id(Some(message_id(id)))
            .raw_header(automatic)
            .multipart(MultiPart::alternative_plain_html(
                self.written.text.clone(),
                self.written.html.clone(),
            ))?)
    }
}

/// The Message-ID of the mail about an event.
pub(super) fn message_id(id: Uuid) -> String {
    format!("<{id}@rowhouse>")
}

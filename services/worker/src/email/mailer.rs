//! SMTP.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use lettre::message::Mailbox;
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Tokio1Executor};
use rowhouse_config::Secret;
use uuid::Uuid;

use super::letter::{Letter, LetterError};

/// Longest wait for a connection to the mail server.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// Longest conversation. A transaction waits meanwhile, so it is far below what the database allows an idle one (30 s).
const CONVERSATION_MAX: Duration = Duration::from_secs(15);

/// Replies with 5xx that are about the connection or our log-in and not about the mail (RFC 4954, section 6; RFC 5321,
/// section 4.2.3 for 554 in place of a greeting): they pass when the server or its configuration is mended.
const NOT_ABOUT_THE_MAIL: [&str; 5] = ["530", "534", "535", "538", "554"];

/// The mail server. Cheap to clone. Each mail has a connection of its own: one that was given up in the middle of a
/// conversation must never carry another mail.
#[derive(Clone)]
pub(crate) struct Mailer {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Arc<Mailbox>,
}

/// A mail was not sent, or perhaps: after a cut nobody knows.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MailerError {
    #[error("the URL of the mail server or the sender's address cannot be understood")]
    Configuration,
    #[error(transparent)]
    Letter(#[from] LetterError),
    /// The server will never take it.
    #[error("the mail server refuses the mail (status {status})")]
    Refused {
        /// Reply code of SMTP (RFC 5321, section 4.2); its text may hold the address and is left out.
        status: String,
    },
    /// It may go better later.
    #[error("the mail server did not take the mail: {0}")]
    Later(&'static str),
}

// === impl Mailer ===

impl Mailer {
    /// `url`: `smtp://host:port`, `smtps://user:password@host`. `from`: `Name <address>`. Nothing is connected yet.
    pub(crate) fn new(url: &Secret, from: &str) -> Result<Self, MailerError> {
        let from: Mailbox = from.parse().map_err(|_| MailerError::Configuration)?;
        let builder = AsyncSmtpTransport::<Tokio1Executor>::from_url(url.expose());
        let builder = builder.map_err(|_| MailerError::Configuration)?;
        Ok(Self {
            transport: builder.timeout(Some(CONNECT_MAX)).build(),
            from: Arc::new(from),
        })
    }

    /// Sends a letter; when this has succeeded, the server has taken it.
    pub(super) async fn send(&self, letter: &Letter, id: Uuid) -> Result<(), MailerError> {
        let message = letter.message(&self.from, id, SystemTime::now())?;
        let sent = tokio::time::timeout(CONVERSATION_MAX, self.transport.send(message)).await;
        match sent {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) if error.is_permanent() => {
                let status = error.status().map(|code| code.to_string()).unwrap_or_default();
                if NOT_ABOUT_THE_MAIL.contains(&status.as_str()) {
                    return Err(MailerError::Later("it refuses to talk to us"));
                }
                Err(MailerError::Refused { status })
            }
            Ok(Err(error)) if error.is_transient() => Err(MailerError::Later("it is busy")),
            Ok(Err(error)) if error.is_timeout() => Err(MailerError::Later("it did not answer in time")),
            Ok(Err(_)) => Err(MailerError::Later("the connection failed")),
            Err(_) => Err(MailerError::Later("it took too long")),
        }
    }
}

//! One mail for one message, however often that comes.
//!
//! A row is there before anything is sent; whoever sends holds it; it is closed in the transaction that records the
//! message as processed. So no mail is lost, and one is repeated only where the end of the conversation with the mail
//! server was not seen or not recorded: between the final dot and the answer to it, SMTP itself does not know.

use std::sync::Arc;

use rowhouse_mq::{Delivery, HandlerError, Ledger};
use rowhouse_types::Email;
use sqlx::PgPool;

use super::letter::Letter;
use super::mailer::{Mailer, MailerError};
use super::store;
use super::template::{AccountText, InvitationText, ReportText, Templates, Written};
use crate::error::Error;

/// Writes and sends mails. Cheap to clone.
#[derive(Clone)]
pub(crate) struct PostOffice {
    pool: PgPool,
    ledger: Ledger,
    mailer: Mailer,
    templates: Arc<Templates>,
}

// === impl PostOffice ===

impl PostOffice {
    pub(crate) fn new(pool: PgPool, ledger: Ledger, mailer: Mailer, templates: Templates) -> Self {
        Self {
            pool,
            ledger,
            mailer,
            templates: Arc::new(templates),
        }
    }

    /// The letter with an invitation.
    pub(crate) fn invitation(&self, to: Email, text: &InvitationText) -> Result<Letter, HandlerError> {
        letter(to, String::new(), self.templates.invitation(text))
    }

    /// The letter about an account.
    pub(crate) fn account(&self, to: Email, name: &str, text: &AccountText) -> Result<Letter, HandlerError> {
        letter(to, name.to_owned(), self.templates.account(text))
    }

    /// The letter about a finished report.
    pub(crate) fn report_finished(&self, to: Email, name: &str, text: &ReportText) -> Result<Letter, HandlerError> {
        letter(to, name.to_owned(), self.templates.report_finished(text))
    }

    /// Sends the letter that a message asks for, or records that there is nothing to send.
    pub(crate) async fn deliver(
        &self,
        queue: &str,
        delivery: &Delivery,
        letter: Option<Letter>,
    ) -> Result<(), HandlerError> {
        store::open(&self.pool, delivery).await?;
        let mut transaction = self.pool.begin().await.map_err(Error::from)?;
        if !store::hold(&mut transaction, delivery).await? {
            transaction.rollback().await.map_err(Error::from)?;
            return if store::is_closed(&self.pool, delivery).await? {
                Ok(())
            } else {
                Err(HandlerError::Retry(
                    "the mail is being sent by another process".to_owned(),
                ))
            };
        }
        let state = match &letter {
            Some(letter) => {
                self.mailer.send(letter, delivery.id).await?;
                "sent"
            }
            None => "void",
        };
        store::close(&mut transaction, delivery, state).await?;
        // Nobody else can have recorded it: the row is held.
        self.ledger
            .record(&mut transaction, queue, delivery.id)
            .await
            .map_err(Error::from)?;
        transaction.commit().await.map_err(Error::from)?;
        metrics::counter!("rowhouse_mails_total", "queue" => queue.to_owned(), "state" => state).increment(1);
        Ok(())
    }
}

fn letter(to: Email, name: String, written: Result<Written, minijinja::Error>) -> Result<Letter, HandlerError> {
    // The error's text may quote what was filled in; its kind may not.
    let written =
        written.map_err(|fault| HandlerError::Park(format!("the text cannot be written: {:?}", fault.kind())))?;
    Ok(Letter { to, name, written })
}

impl From<MailerError> for HandlerError {
    fn from(error: MailerError) -> Self {
        match error {
            MailerError::Later(_) => Self::Retry(error.to_string()),
            MailerError::Refused { .. } | MailerError::Letter(_) | MailerError::Configuration => {
                Self::Park(error.to_string())
            }
        }
    }
}

//! Mails what concerns somebody's account: links, and notices of changes. The message carries the mail's id; what it
//! says, and the secret of its link, is asked of auth when it is written.

use async_trait::async_trait;
use rowhouse_mq::{Delivery, Handler, HandlerError, Queue};
use rowhouse_types::AccountMailId;

use super::{ASK_MAX, ATTEMPTS_MAX, Tools, own_ctx, park};
use crate::email::{AccountText, Letter};
use crate::peer::{AccountMailKind, PeerError};

/// Published by auth.
const WANTED: &str = "auth.account_mail.v1";

pub(super) const QUEUE: Queue = Queue {
    name: "worker.account_mails",
    bindings: &[WANTED],
    // Each holds a connection of the database while the mail server is spoken to.
    prefetch: 4,
    attempts_max: ATTEMPTS_MAX,
};

/// Mails what concerns accounts.
pub(super) struct SendAccountMail {
    tools: Tools,
}

// === impl SendAccountMail ===

impl SendAccountMail {
    pub(super) fn new(tools: Tools) -> Self {
        Self { tools }
    }

    async fn letter(&self, delivery: &Delivery, id: AccountMailId) -> Result<Option<Letter>, HandlerError> {
        let mail = match self.tools.auth.account_mail(&own_ctx(delivery, ASK_MAX), id).await {
            Ok(mail) => mail,
            // The address has no account, or the link was used or replaced meanwhile: there is nothing to write about.
            Err(PeerError::NotFound) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let page = match mail.kind {
            AccountMailKind::PasswordReset => "password/reset",
            AccountMailKind::EmailChange => "email/confirm",
            AccountMailKind::PasswordChanged
            | AccountMailKind::EmailChanged
            | AccountMailKind::SecondFactorOn
            | AccountMailKind::SecondFactorOff
            | AccountMailKind::OperatorMade
            | AccountMailKind::OperatorUnmade => "",
        };
        let text = AccountText {
            kind: mail.kind,
            name: mail.display_name.clone(),
            link: format!("{}/{page}#token={}", self.tools.app_url, mail.token),
            token: mail.token,
            time: mail.time.format("%-d %B %Y, %H:%M UTC").to_string(),
            operator: mail.operator,
        };
        Ok(Some(self.tools.post.account(mail.to, &mail.display_name, &text)?))
    }
}

#[async_trait]
impl Handler for SendAccountMail {
    async fn handle(&self, delivery: &Delivery) -> Result<(), HandlerError> {
        let id = delivery.payload.get("account_mail_id").and_then(|id| id.as_str());
        let id = id
            .and_then(|id| id.parse().ok())
            .ok_or_else(|| park("it names no mail"))?;
        let letter = self.letter(delivery, id).await?;
        self.tools.post.deliver(QUEUE.name, delivery, letter).await
    }
}

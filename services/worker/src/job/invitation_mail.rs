//! Mails an invitation. The message carries its id; the secret link is asked of auth when the mail is written.

use async_trait::async_trait;
use rowhouse_mq::{Delivery, Handler, HandlerError, Queue};
use rowhouse_types::InvitationId;

use super::{ASK_MAX, ATTEMPTS_MAX, Tools, own_ctx, park};
use crate::email::{InvitationText, Letter};
use crate::peer::PeerError;

/// Published by auth.
const CREATED: &str = "auth.invitation_created.v1";

pub(super) const QUEUE: Queue = Queue {
    name: "worker.invitation_mails",
    bindings: &[CREATED],
    // Each holds a connection of the database while the mail server is spoken to.
    prefetch: 4,
    attempts_max: ATTEMPTS_MAX,
};

/// Mails invitations.
pub(super) struct SendInvitation {
    tools: Tools,
}

// === impl SendInvitation ===

impl SendInvitation {
    pub(super) fn new(tools: Tools) -> Self {
        Self { tools }
    }

    async fn letter(&self, delivery: &Delivery, id: InvitationId) -> Result<Option<Letter>, HandlerError> {
        let mail = match self.tools.auth.invitation(&own_ctx(delivery, ASK_MAX), id).await {
            Ok(mail) => mail,
            // Accepted, withdrawn or expired meanwhile: there is nothing to write about.
            Err(PeerError::NotFound) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let text = InvitationText {
            organisation: mail.organisation,
            link: format!("{}/invitations/accept#token={}", self.tools.app_url, mail.token),
            token: mail.token,
            expires: mail.expires_at.format("%-d %B %Y, %H:%M UTC").to_string(),
        };
        Ok(Some(self.tools.post.invitation(mail.to, &text)?))
    }
}

#[async_trait]
impl Handler for SendInvitation {
    async fn handle(&self, delivery: &Delivery) -> Result<(), HandlerError> {
        let id = delivery.payload.get("invitation_id").and_then(|id| id.as_str());
        let id = id
            .and_then(|id| id.parse().ok())
            .ok_or_else(|| park("it names no invitation"))?;
        let letter = self.letter(delivery, id).await?;
        self.tools.post.deliver(QUEUE.name, delivery, letter).await
    }
}

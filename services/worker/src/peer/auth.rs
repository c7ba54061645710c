//! What auth is asked.

use chrono::{DateTime, Utc};
use rowhouse_client::{IdentifiedChannel, Peer, request};
use rowhouse_context::Ctx;
use rowhouse_proto::auth::v1 as proto;
use rowhouse_proto::auth::v1::delegation_service_client::DelegationServiceClient;
use rowhouse_proto::auth::v1::mail_data_service_client::MailDataServiceClient;
use rowhouse_types::{AccountMailId, Email, InvitationId, ReportId, TenantId, UserId};

use super::PeerError;

/// Asks auth. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Auth {
    delegation: DelegationServiceClient<IdentifiedChannel>,
    mails: MailDataServiceClient<IdentifiedChannel>,
}

/// The person behind a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Requester {
    pub(crate) tenant: TenantId,
    pub(crate) user: UserId,
    /// Whether they acted as a platform operator.
    pub(crate) platform: bool,
}

/// What the mail of an invitation needs. Its token is a secret: no `Debug`.
pub(crate) struct InvitationMail {
    pub(crate) to: Email,
    pub(crate) organisation: String,
    pub(crate) token: String,
    pub(crate) expires_at: DateTime<Utc>,
}

/// What a mail about an account is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AccountMailKind {
    PasswordReset,
    EmailChange,
    PasswordChanged,
    EmailChanged,
    SecondFactorOn,
    SecondFactorOff,
    OperatorMade,
    OperatorUnmade,
}

/// Who was made a platform operator or is none any more, and by whom. Empty in mails about something else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OperatorChange {
    pub(crate) user_id: String,
    pub(crate) email: String,
    /// Empty where a command has made the change.
    pub(crate) actor: String,
}

/// What a mail about an account needs. Its token is a secret: no `Debug`.
pub(crate) struct AccountMail {
    pub(crate) kind: AccountMailKind,
    pub(crate) to: Email,
    pub(crate) display_name: String,
    /// Empty where there is no link.
    pub(crate) token: String,
    /// When the link expires; for notices, when it happened.
    pub(crate) time: DateTime<Utc>,
    pub(crate) operator: OperatorChange,
}

/// A person to write to.
pub(crate) struct Recipient {
    pub(crate) to: Email,
    pub(crate) display_name: String,
}

// === impl Auth ===

impl Auth {
    pub(crate) fn new(peer: &Peer) -> Self {
        Self {
            delegation: DelegationServiceClient::new(peer.channel()),
            mails: MailDataServiceClient::new(peer.channel()),
        }
    }

    /// A token with which to act for the requester of a report, only while they may.
    pub(crate) async fn report_token(
        &self,
        ctx: &Ctx,
        report: ReportId,
        requester: Requester,
    ) -> Result<String, PeerError> {
        let message = proto::IssueJobTokenRequest {
            job_id: report.to_string(),
            tenant_id: requester.tenant.to_string(),
            user_id: requester.user.to_string(),
            platform: requester.platform,
        };
        let answer = self.delegation.clone().issue_job_token(request(ctx, message)).await;
        Ok(answer.map_err(PeerError::read)?.into_inner().access_token)
    }

    /// What the mail of an open invitation needs; [`PeerError::NotFound`] where it is open no longer.
    pub(crate) async fn invitation(&self, ctx: &Ctx, id: InvitationId) -> Result<InvitationMail, PeerError> {
        let message = proto::GetInvitationMailRequest {
            invitation_id: id.to_string(),
        };
        let answer = self.mails.clone().get_invitation_mail(request(ctx, message)).await;
        let mail = answer.map_err(PeerError::read)?.into_inner();
        let expires = mail.expire_time.unwrap_or_default();
        Ok(InvitationMail {
            to: address(&mail.email)?,
            organisation: mail.tenant_display_name,
            token: mail.token,
            expires_at: DateTime::from_timestamp(expires.seconds, 0).unwrap_or_default(),
        })
    }

    /// What a mail about an account needs; [`PeerError::NotFound`] where there is nothing to write about, or no longer.
    pub(crate) async fn account_mail(&self, ctx: &Ctx, id: AccountMailId) -> Result<AccountMail, PeerError> {
        let message = proto::GetAccountMailRequest {
            account_mail_id: id.to_string(),
        };
        let answer = self.mails.clone().get_account_mail(request(ctx, message)).await;
        let mail = answer.map_err(PeerError::read)?.into_inner();
        let kind = match mail.kind() {
            proto::AccountMailKind::PasswordReset => AccountMailKind::PasswordReset,
            proto::AccountMailKind::EmailChange => AccountMailKind::EmailChange,
            proto::AccountMailKind::PasswordChanged => AccountMailKind::PasswordChanged,
            proto::AccountMailKind::EmailChanged => AccountMailKind::EmailChanged,
            proto::AccountMailKind::SecondFactorOn => AccountMailKind::SecondFactorOn,
            proto::AccountMailKind::SecondFactorOff => AccountMailKind::SecondFactorOff,
            proto::AccountMailKind::OperatorMade => AccountMailKind::OperatorMade,
            proto::AccountMailKind::OperatorUnmade => AccountMailKind::OperatorUnmade,
            // A newer auth knows more kinds than this worker; the next version may have its words.
            proto::AccountMailKind::Unspecified => {
                return Err(PeerError::Later("auth asked for a mail of an unknown kind".to_owned()));
            }
        };
        let time = mail.expire_time.or(mail.create_time).unwrap_or_default();
        let change = mail.operator_change.unwrap_or_default();
        Ok(AccountMail {
            kind,
            to: address(&mail.email)?,
            display_name: mail.display_name,
            token: mail.token,
            time: DateTime::from_timestamp(time.seconds, 0).unwrap_or_default(),
            operator: OperatorChange {
                user_id: change.user_id,
                email: change.email,
                actor: change.actor,
            },
        })
    }

    /// Where to write to the requester of a job; [`PeerError::NotFound`] where they are no longer a member.
    pub(crate) async fn recipient(&self, ctx: &Ctx, requester: Requester) -> Result<Recipient, PeerError> {
        let message = proto::GetRecipientRequest {
            tenant_id: requester.tenant.to_string(),
            user_id: requester.user.to_string(),
            platform: requester.platform,
        };
        let answer = self.mails.clone().get_recipient(request(ctx, message)).await;
        let recipient = answer.map_err(PeerError::read)?.into_inner();
        Ok(Recipient {
            to: address(&recipient.email)?,
            display_name: recipient.display_name,
        })
    }
}

fn address(text: &str) -> Result<Email, PeerError> {
    // The address itself stays out of the logs.
    text.parse()
        .map_err(|_| PeerError::Later("auth answered an address that is none".to_owned()))
}

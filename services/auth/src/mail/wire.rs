//! What mails need, as messages.

use rowhouse_proto::auth::v1 as proto;
use rowhouse_proto::timestamp;
use rowhouse_status::{Failure, Violations};
use rowhouse_types::{AccountMailId, InvitationId};

use super::{Addressee, InvitationMail};
use crate::account_mail::{AccountMail, Kind, OperatorNews};
use crate::identity::Person;

pub(super) fn invitation_id(request: &proto::GetInvitationMailRequest) -> Result<InvitationId, Failure> {
    request
        .invitation_id
        .parse()
        .map_err(|fault| Failure::field("invitation_id", fault))
}

pub(super) fn invitation_mail(mail: InvitationMail) -> proto::InvitationMail {
    proto::InvitationMail {
        token: mail.token.expose().to_owned(),
        email: mail.email,
        tenant_display_name: mail.tenant_name,
        expire_time: Some(timestamp(mail.expires)),
    }
}

pub(super) fn account_mail_id(request: &proto::GetAccountMailRequest) -> Result<AccountMailId, Failure> {
    request
        .account_mail_id
        .parse()
        .map_err(|fault| Failure::field("account_mail_id", fault))
}

pub(super) fn account_mail(mail: AccountMail) -> proto::AccountMail {
    let kind = match mail.kind {
        Kind::PasswordReset => proto::AccountMailKind::PasswordReset,
        Kind::EmailChange => proto::AccountMailKind::EmailChange,
        Kind::PasswordChanged => proto::AccountMailKind::PasswordChanged,
        Kind::EmailChanged => proto::AccountMailKind::EmailChanged,
        Kind::SecondFactorOn => proto::AccountMailKind::SecondFactorOn,
        Kind::SecondFactorOff => proto::AccountMailKind::SecondFactorOff,
        Kind::OperatorMade => proto::AccountMailKind::OperatorMade,
        Kind::OperatorUnmade => proto::AccountMailKind::OperatorUnmade,
    };
    proto::AccountMail {
        kind: kind.into(),
        email: mail.email,
        display_name: mail.display_name,
        expire_time: mail.token.is_some().then(|| timestamp(mail.expires)),
        token: mail.token.map(|token| token.expose().to_owned()).unwrap_or_default(),
        create_time: Some(timestamp(mail.created)),
        operator_change: mail.news.map(operator_change),
    }
}

fn operator_change(news: OperatorNews) -> proto::OperatorChange {
    proto::OperatorChange {
        user_id: news.operator.to_string(),
        email: news.email,
        actor: news.actor.unwrap_or_default(),
    }
}

pub(super) fn addressee(request: &proto::GetRecipientRequest) -> Result<Addressee, Failure> {
    let mut violations = Violations::default();
    let tenant = violations.take("tenant_id", request.tenant_id.parse());
    let user = violations.take("user_id", request.user_id.parse());
    let platform = request.platform;
    violations.finish(
        tenant
            .zip(user)
            .map(|(tenant, user)| Addressee { tenant, user, platform }),
    )
}

pub(super) fn recipient(person: Person) -> proto::Recipient {
    proto::Recipient {
        email: person.email,
        display_name: person.display_name,
    }
}

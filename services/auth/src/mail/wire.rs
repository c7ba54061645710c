//! What mails need, as messages.

use rowhouse_proto::auth::v1 as proto;
use rowhouse_status::{Failure, Violations};
use rowhouse_types::InvitationId;

use super::{Addressee, InvitationMail};
use crate::identity::Person;
use crate::wire::timestamp;

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

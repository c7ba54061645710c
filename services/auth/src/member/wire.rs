//! Members as messages.

use rowhouse_proto::auth::v1 as proto;
use rowhouse_proto::timestamp;
use rowhouse_status::{Failure, Violations};
use rowhouse_types::{Email, Etag, InvitationId, UserId};

use super::{Change, Invite, Member, MemberState};
use crate::invitation::Invitation;
use crate::wire::{optional, wanted};

fn state(number: i32) -> Result<MemberState, &'static str> {
    match proto::MemberState::try_from(number) {
        Ok(proto::MemberState::Active) => Ok(MemberState::Active),
        Ok(proto::MemberState::Disabled) => Ok(MemberState::Disabled),
        Ok(proto::MemberState::Unspecified) | Err(_) => Err("must be MEMBER_STATE_ACTIVE or MEMBER_STATE_DISABLED"),
    }
}

pub(super) fn invite(request: &proto::InviteMemberRequest) -> Result<Invite, Failure> {
    let mut violations = Violations::default();
    let email = violations.take("email", Email::parse_new(&request.email));
    let role = violations.take("role", request.role.parse());
    let request_id = violations.take("request_id", optional(&request.request_id));
    let read = email.zip(role).zip(request_id);
    violations.finish(read.map(|((email, role), request)| Invite { email, role, request }))
}

pub(super) fn user(request: &proto::GetMemberRequest) -> Result<UserId, Failure> {
    request
        .user_id
        .parse()
        .map_err(|fault| Failure::field("user_id", fault))
}

/// Whom to remove, and the etag where one is given.
pub(super) fn removal(request: &proto::RemoveMemberRequest) -> Result<(UserId, Option<Etag>), Failure> {
    let mut violations = Violations::default();
    let user = violations.take("user_id", request.user_id.parse());
    let etag = violations.take("etag", optional(&request.etag));
    violations.finish(user.zip(etag))
}

pub(super) fn invitation_id(text: &str) -> Result<InvitationId, Failure> {
    text.parse().map_err(|fault| Failure::field("invitation_id", fault))
}

/// The change that a mask and its values ask for. Without a mask, the fields that are set count (AIP-134).
pub(super) fn change(request: &proto::UpdateMemberRequest) -> Result<Change, Failure> {
    let member = request.member.as_ref();
    let member = member.ok_or_else(|| Failure::field("member", "must be set"))?;
    let mut violations = Violations::default();
    let user = violations.take("member.user_id", member.user_id.parse());
    let etag = violations.take("member.etag", optional(&member.etag));
    let fields = [("role", !member.role.is_empty()), ("state", member.state != 0)];
    let [wants_role, wants_state] = wanted(request.update_mask.as_ref(), fields, &mut violations);
    let role = wants_role.then(|| violations.take("member.role", member.role.parse()));
    let state = wants_state.then(|| violations.take("member.state", state(member.state)));
    violations.finish(user.zip(etag).map(|(user, etag)| Change {
        user,
        role: role.flatten(),
        state: state.flatten(),
        etag,
    }))
}

pub(super) fn member(member: Member) -> proto::Member {
    let state = match member.state {
        MemberState::Active => proto::MemberState::Active,
        MemberState::Disabled => proto::MemberState::Disabled,
    };
    proto::Member {
        user_id: member.user.to_string(),
        email: member.email,
        display_name: member.display_name,
        role: member.role.to_string(),
        state: state.into(),
        create_time: Some(timestamp(member.created)),
        etag: member.etag.to_string(),
    }
}

pub(super) fn invitation(invitation: Invitation) -> proto::Invitation {
    proto::Invitation {
        id: invitation.id.to_string(),
        email: invitation.email,
        role: invitation.role.to_string(),
        expire_time: Some(timestamp(invitation.expires)),
        create_time: Some(timestamp(invitation.created)),
    }
}

#[cfg(test)]
mod tests {
    use rowhouse_auth_kit::Role;
    use rowhouse_proto::well_known::FieldMask;

    use super::*;
    use crate::role::TenantRole;

    fn update(paths: &[&str], role: &str, state: i32) -> Result<Change, Failure> {
        change(&proto::UpdateMemberRequest {
            member: Some(proto::Member {
                user_id: UserId::generate().to_string(),
                role: role.to_owned(),
                state,
                ..proto::Member::default()
            }),
            update_mask: Some(FieldMask {
                paths: paths.iter().map(|path| (*path).to_owned()).collect(),
            }),
        })
    }

    #[test]
    fn only_the_fields_in_the_mask_change() {
        let change = update(&["state"], "nonsense", 2).unwrap();
        assert_eq!((change.role, change.state), (None, Some(MemberState::Disabled)));
        let change = update(&[], "user", 0).unwrap();
        assert_eq!(
            (change.role, change.state),
            (Some(TenantRole::BuiltIn(Role::User)), None)
        );
    }

    #[test]
    fn masks_that_name_anything_else_are_refused() {
        for paths in [
            ["id"].as_slice(),
            &["*"],
            &["email"],
            &["role", "role"],
            &["role", "tenant_id"],
            &["Role"],
        ] {
            assert!(update(paths, "user", 1).is_err(), "{paths:?}");
        }
        assert!(update(&[], "", 0).is_err());
    }

    #[test]
    fn roles_of_the_platform_and_unknown_values_are_refused() {
        for role in ["super_admin", "", "USER", "2nd"] {
            assert!(update(&["role"], role, 0).is_err(), "{role:?}");
        }
        for state in [0, 3, -1] {
            assert!(update(&["state"], "", state).is_err(), "{state}");
        }
    }

    #[test]
    fn an_invitation_needs_an_address_a_role_and_at_most_a_uuid() {
        let request = |email: &str, role: &str, request_id: &str| {
            invite(&proto::InviteMemberRequest {
                email: email.to_owned(),
                role: role.to_owned(),
                request_id: request_id.to_owned(),
            })
        };
        assert!(request("ada@example.com", "user", "").is_ok());
        assert!(request("ada@example.com", "user", "7e0f2d0a-4f1b-4c0e-9c4f-3f3b2a1c0d9e").is_ok());
        assert!(request("ada@example.com", "user", "again").is_err());
        assert!(request("ada", "user", "").is_err());
        assert!(request("ada@b\u{fc}cher.example", "user", "").is_ok());
        for other_spelling in [
            "ada@xn--bcher-kva.example",
            "\"ada\"@example.com",
            "ada@\u{ff45}xample.com",
        ] {
            assert!(request(other_spelling, "user", "").is_err(), "{other_spelling}");
        }
        assert!(request("ada@example.com", "super_admin", "").is_err());
    }
}

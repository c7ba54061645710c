//! One's own account as messages.

use rowhouse_proto::auth::v1 as proto;
use rowhouse_proto::timestamp;
use rowhouse_status::{Failure, Violations};
use rowhouse_types::{Email, SessionId, TenantId};

use super::{EmailChange, PasswordChange, Reset};
use crate::identity::{NewPassword, OfferedPassword};
use crate::link::Token;
use crate::member::Membership;
use crate::second_factor::{Code, RecoveryCodes, SecondFactor, Setup};
use crate::session::{Listed, Scope};
use crate::tenant::Access;
use crate::wire::optional;

pub(super) fn password_change(request: &proto::ChangePasswordRequest) -> Result<PasswordChange, Failure> {
    let mut violations = Violations::default();
    let current = violations.take("current_password", OfferedPassword::parse(&request.current_password));
    let new = violations.take("new_password", NewPassword::parse(&request.new_password));
    if let (Some(current), Some(new)) = (&current, &new)
        && new.is_same(current)
    {
        violations.add("new_password", "must be another than the current one");
    }
    violations.finish(current.zip(new).map(|(current, new)| PasswordChange { current, new }))
}

pub(super) fn email_change(request: &proto::ChangeEmailRequest) -> Result<EmailChange, Failure> {
    let mut violations = Violations::default();
    let new = violations.take("new_email", Email::parse_new(&request.new_email));
    let current = violations.take("current_password", OfferedPassword::parse(&request.current_password));
    let code = violations.take("code", optional(&request.code));
    let all = new.zip(current).zip(code);
    violations.finish(all.map(|((new, current), code)| EmailChange { new, current, code }))
}

pub(super) fn current_password(text: &str) -> Result<OfferedPassword, Failure> {
    OfferedPassword::parse(text).map_err(|fault| Failure::field("current_password", fault))
}

pub(super) fn code(text: &str) -> Result<Code, Failure> {
    text.parse().map_err(|fault| Failure::field("code", fault))
}

/// The password, and a code of the second factor.
pub(super) fn both_factors(password: &str, code: &str) -> Result<(OfferedPassword, Code), Failure> {
    let mut violations = Violations::default();
    let password = violations.take("current_password", OfferedPassword::parse(password));
    let code = violations.take("code", code.parse());
    violations.finish(password.zip(code))
}

pub(super) fn second_factor(known: SecondFactor) -> proto::SecondFactor {
    proto::SecondFactor {
        enabled: known.enabled.is_some(),
        enable_time: known.enabled.map(timestamp),
        recovery_codes_left: i32::try_from(known.recovery_codes_left).unwrap_or(i32::MAX),
        shown: known.shown,
    }
}

pub(super) fn setup(setup: &Setup) -> proto::SetUpSecondFactorResponse {
    proto::SetUpSecondFactorResponse {
        secret: setup.secret.expose().to_owned(),
        uri: setup.uri.expose().to_owned(),
    }
}

pub(super) fn recovery_codes(codes: &RecoveryCodes) -> proto::RecoveryCodes {
    proto::RecoveryCodes { codes: codes.expose() }
}

pub(super) fn email(text: &str) -> Result<Email, Failure> {
    text.parse().map_err(|fault| Failure::field("email", fault))
}

pub(super) fn link(token: &str) -> Result<Token, Failure> {
    Token::parse(token).map_err(|fault| Failure::field("token", fault))
}

pub(super) fn reset(request: &proto::ResetPasswordRequest) -> Result<Reset, Failure> {
    let mut violations = Violations::default();
    let token = violations.take("token", Token::parse(&request.token));
    let new = violations.take("new_password", NewPassword::parse(&request.new_password));
    violations.finish(token.zip(new).map(|(token, new)| Reset { token, new }))
}

pub(super) fn session_id(request: &proto::RevokeSessionRequest) -> Result<SessionId, Failure> {
    let id = request.session_id.parse();
    id.map_err(|fault| Failure::field("session_id", fault))
}

pub(super) fn tenant_id(text: &str) -> Result<TenantId, Failure> {
    text.parse().map_err(|fault| Failure::field("tenant_id", fault))
}

pub(super) fn scope(request: &proto::RevokeSessionsRequest) -> Result<Scope, Failure> {
    match proto::SessionScope::try_from(request.scope) {
        Ok(proto::SessionScope::Others) => Ok(Scope::Others),
        Ok(proto::SessionScope::All) => Ok(Scope::All),
        Ok(proto::SessionScope::Unspecified) | Err(_) => Err(Failure::field(
            "scope",
            "must be SESSION_SCOPE_OTHERS or SESSION_SCOPE_ALL",
        )),
    }
}

pub(super) fn session(listed: Listed) -> proto::Session {
    proto::Session {
        id: listed.id.to_string(),
        tenant_id: listed.tenant.map(|tenant| tenant.to_string()).unwrap_or_default(),
        current: listed.current,
        address: listed.address.unwrap_or_default(),
        create_time: Some(timestamp(listed.created)),
        refresh_time: Some(timestamp(listed.refreshed)),
        expire_time: Some(timestamp(listed.expires)),
        impersonated: listed.impersonated,
    }
}

pub(super) fn membership(membership: Membership) -> proto::TenantMembership {
    proto::TenantMembership {
        tenant_id: membership.tenant.to_string(),
        display_name: membership.tenant_name,
        role: membership.role.to_string(),
        suspended: membership.access == Access::Suspended,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_of_a_change_is_named_at_once_and_no_password_comes_back() {
        let request = |current: &str, new: &str| {
            password_change(&proto::ChangePasswordRequest {
                current_password: current.to_owned(),
                new_password: new.to_owned(),
            })
        };
        let refused = request("", "short").unwrap_err();
        let fields: Vec<&str> = refused
            .violations()
            .iter()
            .map(|violation| violation.field.as_str())
            .collect();
        assert_eq!(fields, ["current_password", "new_password"]);
        let same = request("correct horse battery", "correct horse battery").unwrap_err();
        assert!(!format!("{same:?}").contains("horse"), "{same:?}");
        let typed_otherwise = request("zw\u{f6}lf kleine Zeichen", "zwo\u{308}lf kleine Zeichen");
        assert_eq!(typed_otherwise.unwrap_err().violations()[0].field, "new_password");
        assert!(
            request("short", "correct horse battery").is_ok(),
            "an old password may be short"
        );
    }

    #[test]
    fn a_code_may_be_left_out_of_a_change_of_address_and_is_none_where_it_is_not() {
        let read = |code: &str| {
            email_change(&proto::ChangeEmailRequest {
                new_email: "ada@elsewhere.example".to_owned(),
                current_password: "correct horse battery".to_owned(),
                code: code.to_owned(),
            })
        };
        assert!(read("").unwrap().code.is_none());
        assert!(read("012345").unwrap().code.is_some());
        assert_eq!(read("12345").unwrap_err().violations()[0].field, "code");
    }

    /// An account that is there under another spelling is found by it; none gets one.
    #[test]
    fn an_address_in_another_spelling_is_read_and_is_no_new_one() {
        for other in [
            "ada@xn--bcher-kva.example",
            "\"ada\"@example.com",
            "\u{ff41}da@example.com",
        ] {
            let refused = email_change(&proto::ChangeEmailRequest {
                new_email: other.to_owned(),
                current_password: "correct horse battery".to_owned(),
                code: String::new(),
            });
            assert_eq!(refused.unwrap_err().violations()[0].field, "new_email", "{other}");
            assert!(email(other).is_ok(), "{other}");
        }
    }

    #[test]
    fn which_sessions_end_is_said_and_not_supposed() {
        let read = |scope| scope_of(scope).ok();
        assert_eq!(read(1), Some(Scope::Others));
        assert_eq!(read(2), Some(Scope::All));
        for nothing in [0, 3, -1] {
            assert_eq!(read(nothing), None, "{nothing}");
        }
    }

    fn scope_of(scope: i32) -> Result<Scope, Failure> {
        super::scope(&proto::RevokeSessionsRequest { scope })
    }
}

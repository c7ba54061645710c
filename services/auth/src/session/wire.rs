//! Log-ins as messages.

use rowhouse_proto::auth::v1::{
    AcceptInvitationRequest, AcceptInvitationResponse, LoginRequest, RefreshRequest, TokenPair, WhoAmIResponse,
};
use rowhouse_proto::timestamp;
use rowhouse_status::{Failure, Violations};

use super::actions::Identity;
use super::{Attempt, Pair, RefreshToken};
use crate::attempt::device::DeviceSecret;
use crate::error::Error;
use crate::identity::{DisplayName, OfferedPassword};
use crate::invitation::{Acceptance, Joined};
use crate::link::Token;
use crate::wire::optional;

pub(super) fn attempt(request: &LoginRequest) -> Result<Attempt, Failure> {
    let mut violations = Violations::default();
    let email = violations.take("email", request.email.parse());
    let password = violations.take("password", OfferedPassword::parse(&request.password));
    let tenant = violations.take("tenant_id", optional(&request.tenant_id));
    let second_factor = violations.take("second_factor", optional(&request.second_factor));
    let read = email.zip(password).zip(tenant).zip(second_factor);
    violations.finish(read.map(|(((email, password), tenant), second_factor)| Attempt {
        email,
        password,
        tenant,
        second_factor,
        // A text that cannot be one of ours is answered as one that is not good, which counts as none.
        device: DeviceSecret::presented(&request.device_secret),
    }))
}

/// A text that cannot be a token of ours is answered like one that is not good: neither tells more than the other.
pub(super) fn refresh_token(request: &RefreshRequest) -> Result<RefreshToken, Failure> {
    if request.refresh_token.is_empty() {
        return Err(Failure::field("refresh_token", "must not be empty"));
    }
    RefreshToken::presented(&request.refresh_token).ok_or_else(|| Error::RefreshTokenInvalid.into())
}

pub(super) fn acceptance(request: &AcceptInvitationRequest) -> Result<Acceptance, Failure> {
    let mut violations = Violations::default();
    let token = violations.take("token", Token::parse(&request.token));
    let display_name = violations.take("display_name", DisplayName::parse_optional(&request.display_name));
    let password = violations.take("password", OfferedPassword::parse(&request.password));
    let read = token.zip(display_name).zip(password);
    violations.finish(read.map(|((token, display_name), password)| Acceptance {
        token,
        display_name,
        password,
        device: DeviceSecret::presented(&request.device_secret),
    }))
}

pub(super) fn joined(joined: Joined) -> AcceptInvitationResponse {
    AcceptInvitationResponse {
        user_id: joined.user.to_string(),
        tenant_id: joined.tenant.to_string(),
    }
}

pub(crate) fn pair(pair: Pair) -> TokenPair {
    TokenPair {
        access_token: pair.access_token,
        refresh_token: pair.refresh_token.expose().to_owned(),
        expire_time: Some(timestamp(pair.expires)),
        session_id: pair.session.id.to_string(),
        tenant_id: pair.session.tenant.map(|tenant| tenant.to_string()).unwrap_or_default(),
        user_id: pair.session.user.to_string(),
        device_secret: pair.device.map(|device| device.expose().to_owned()).unwrap_or_default(),
    }
}

pub(super) fn identity(identity: Identity) -> WhoAmIResponse {
    WhoAmIResponse {
        user_id: identity.person.id.to_string(),
        email: identity.person.email,
        display_name: identity.person.display_name,
        tenant_id: identity.tenant.map(|tenant| tenant.to_string()).unwrap_or_default(),
        roles: identity.rights.role.iter().cloned().collect(),
        permissions: identity.rights.grants.to_strings(),
        session_id: identity.session.map(|session| session.to_string()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use rowhouse_status::Reason;

    use super::*;

    #[test]
    fn every_field_of_a_login_is_checked_at_once_and_no_value_comes_back() {
        let request = LoginRequest {
            email: "hunter2".to_owned(),
            password: "p".repeat(257),
            tenant_id: "contact_01h455vb4pex5vsknk084sn02q".to_owned(),
            second_factor: "31337".to_owned(),
            device_secret: "rhd_abc".to_owned(),
        };
        let failure = attempt(&request).unwrap_err();
        let shown = format!("{failure:?}");
        assert_eq!(failure.reason(), Reason::FieldInvalid);
        for field in ["email", "password", "tenant_id", "second_factor"] {
            assert!(shown.contains(&format!("field: \"{field}\"")), "{shown}");
        }
        assert!(
            !shown.contains("hunter2") && !shown.contains("31337") && !shown.contains("ppp"),
            "{shown}"
        );
    }

    /// Of the account that began at it, before one spelling was taken of each address.
    #[test]
    fn who_has_an_address_in_another_spelling_logs_in_with_it() {
        for email in ["ada@xn--bcher-kva.example", "\"ada\"@example.com"] {
            let request = LoginRequest {
                email: email.to_owned(),
                password: "x".to_owned(),
                ..LoginRequest::default()
            };
            assert_eq!(attempt(&request).unwrap().email.as_str(), email);
        }
    }

    #[test]
    fn an_empty_tenant_is_no_tenant() {
        let request = LoginRequest {
            email: "ada@example.com".to_owned(),
            password: "x".to_owned(),
            tenant_id: String::new(),
            second_factor: String::new(),
            device_secret: String::new(),
        };
        assert_eq!(attempt(&request).unwrap().tenant, None);
    }

    #[test]
    fn what_cannot_be_a_devices_secret_counts_as_none_and_is_not_refused() {
        let shown = |secret: &str| {
            let request = LoginRequest {
                email: "ada@example.com".to_owned(),
                password: "x".to_owned(),
                device_secret: secret.to_owned(),
                ..LoginRequest::default()
            };
            attempt(&request).unwrap().device.is_some()
        };
        assert!(shown("rhd_abc"));
        for text in ["", "x", "rhr_abc", "\0", &"rhd_".repeat(100)] {
            assert!(!shown(text), "{text:?}");
        }
    }

    #[test]
    fn what_cannot_be_a_refresh_token_is_refused_like_a_bad_one() {
        let refused = |text: &str| {
            let request = RefreshRequest {
                refresh_token: text.to_owned(),
            };
            refresh_token(&request).unwrap_err().reason()
        };
        assert_eq!(refused(""), Reason::FieldInvalid);
        for text in ["x", "rhr", "eyJhbGciOiJFZERTQSJ9.e30.", &"rhr_".repeat(100)] {
            assert_eq!(refused(text), Reason::RefreshTokenInvalid, "{text}");
        }
    }

    #[test]
    fn a_password_and_a_name_have_bounds() {
        let request = |display_name: &str, password: &str| AcceptInvitationRequest {
            token: "t".to_owned(),
            display_name: display_name.to_owned(),
            password: password.to_owned(),
            device_secret: String::new(),
        };
        assert!(acceptance(&request("Ada", "a long password")).is_ok());
        assert!(
            acceptance(&request("", "a long password")).is_ok(),
            "who exists needs no name"
        );
        assert!(acceptance(&request("A\0", "a long password")).is_err());
        assert!(acceptance(&request("Ada", "")).is_err());
        assert!(acceptance(&request("Ada", &"a".repeat(257))).is_err());
        // Whether it is short for a new account is seen where it is known that there is none.
        assert!(acceptance(&request("Ada", "short")).is_ok());
    }
}

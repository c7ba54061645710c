//! Operators as messages.

use rowhouse_proto::auth::v1 as proto;
use rowhouse_proto::timestamp;
use rowhouse_status::{Failure, Violations};
use rowhouse_types::UserId;

use super::{Grant, Operator, Reason};
use crate::identity::OfferedPassword;
use crate::wire::optional;

pub(super) fn user(text: &str) -> Result<UserId, Failure> {
    text.parse().map_err(|fault| Failure::field("user_id", fault))
}

/// Whom to make an operator, and why, and what shows who asks.
pub(super) fn grant(request: &proto::GrantOperatorRequest) -> Result<Grant, Failure> {
    let mut violations = Violations::default();
    let email = violations.take("email", request.email.parse());
    let reason = violations.take("reason", Reason::parse_required(&request.reason));
    let current = violations.take("current_password", OfferedPassword::parse(&request.current_password));
    let code = violations.take("code", optional(&request.code));
    let all = email.zip(reason).zip(current).zip(code);
    violations.finish(all.map(|(((email, reason), current), code)| Grant {
        email,
        reason,
        current,
        code,
    }))
}

/// From whom to take the role, and why.
pub(super) fn revocation(request: &proto::RevokeOperatorRequest) -> Result<(UserId, Reason), Failure> {
    let mut violations = Violations::default();
    let user = violations.take("user_id", request.user_id.parse());
    let reason = violations.take("reason", Reason::parse_required(&request.reason));
    violations.finish(user.zip(reason))
}

pub(super) fn operator(operator: Operator) -> proto::Operator {
    proto::Operator {
        user_id: operator.user.to_string(),
        email: operator.email,
        display_name: operator.display_name,
        disabled: operator.disabled,
        create_time: Some(timestamp(operator.granted)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(failure: &Failure) -> Vec<&str> {
        failure
            .violations()
            .iter()
            .map(|violation| violation.field.as_str())
            .collect()
    }

    #[test]
    fn nobody_gives_or_takes_the_role_without_saying_whose_and_why() {
        let nothing = grant(&proto::GrantOperatorRequest::default()).unwrap_err();
        assert_eq!(named(&nothing), ["email", "reason", "current_password"]);
        let nothing = revocation(&proto::RevokeOperatorRequest::default()).unwrap_err();
        assert_eq!(named(&nothing), ["user_id", "reason"]);
    }

    #[test]
    fn an_address_that_could_pass_for_another_makes_nobody_an_operator() {
        let asked = proto::GrantOperatorRequest {
            email: "ADM\u{130}N@rowhouse.example".to_owned(),
            ..asked()
        };
        assert_eq!(named(&grant(&asked).unwrap_err()), ["email"]);
    }

    #[test]
    fn a_code_may_be_left_out_and_is_none_where_it_is_not() {
        assert!(grant(&asked()).unwrap().code.is_none());
        let with = |code: &str| proto::GrantOperatorRequest {
            code: code.to_owned(),
            ..asked()
        };
        assert!(grant(&with("012345")).unwrap().code.is_some());
        let refused = grant(&with("31337")).unwrap_err();
        assert_eq!(named(&refused), ["code"]);
        assert!(!format!("{refused:?}").contains("31337"), "{refused:?}");
    }

    fn asked() -> proto::GrantOperatorRequest {
        proto::GrantOperatorRequest {
            email: "ada@rowhouse.example".to_owned(),
            reason: "joins the team".to_owned(),
            current_password: "correct horse battery".to_owned(),
            code: String::new(),
        }
    }
}

//! Permissions and what decides about them, as messages.

use std::fmt;

use rowhouse_auth_kit::{Grant, Scope};
use rowhouse_proto::auth::v1 as proto;
use rowhouse_proto::policy::{PERMISSIONS, Permission, permission};
use rowhouse_status::{Failure, Violations};
use rowhouse_types::UserId;

use super::{BATCH_MAX, Decision, Known};
use crate::wire::optional;

/// Most people that an explanation names.
const TEAM_SHOWN_MAX: usize = 1_000;

const UNKNOWN: &str = "must be a permission that the catalogue lists";

/// Something that may be asked about: a permission, and the owner of the record where it is about one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question {
    pub(super) permission: &'static Permission,
    pub(super) owner: Option<UserId>,
}

/// Reads a question. `path`: what stands before its fields' names.
fn read(check: &proto::CheckRequest, path: fmt::Arguments<'_>, violations: &mut Violations) -> Option<Question> {
    let known = permission(&check.permission).ok_or(UNKNOWN);
    let permission = violations.take(format_args!("{path}permission"), known);
    let owner = violations.take(format_args!("{path}owner_id"), optional(&check.owner_id));
    permission
        .zip(owner)
        .map(|(permission, owner)| Question { permission, owner })
}

pub(super) fn check(request: &proto::CheckRequest) -> Result<Question, Failure> {
    let mut violations = Violations::default();
    let question = read(request, format_args!(""), &mut violations);
    violations.finish(question)
}

pub(super) fn checks(request: &proto::BatchCheckRequest) -> Result<Vec<Question>, Failure> {
    let (names, checks) = (&request.permissions, &request.checks);
    let count = names.len().saturating_add(checks.len());
    if count == 0 || count > BATCH_MAX {
        let description = format!("must be 1 to {BATCH_MAX} questions, those of permissions included");
        return Err(Failure::field("checks", description));
    }
    let mut violations = Violations::default();
    let mut questions = Vec::with_capacity(count);
    for (at, name) in names.iter().enumerate() {
        let known = permission(name).ok_or(UNKNOWN);
        let permission = violations.take(format_args!("permissions[{at}]"), known);
        questions.push(permission.map(|permission| Question {
            permission,
            owner: None,
        }));
    }
    for (at, check) in checks.iter().enumerate() {
        questions.push(read(check, format_args!("checks[{at}]."), &mut violations));
    }
    violations.finish(questions.into_iter().collect())
}

pub(super) fn user(request: &proto::ListMemberPermissionsRequest) -> Result<UserId, Failure> {
    let user = request.user_id.parse();
    user.map_err(|fault| Failure::field("user_id", fault))
}

/// About whom, and what.
pub(super) fn question(request: &proto::ExplainRequest) -> Result<(UserId, Question), Failure> {
    let mut violations = Violations::default();
    let user = violations.take("user_id", request.user_id.parse());
    let check = proto::CheckRequest {
        permission: request.permission.clone(),
        owner_id: request.owner_id.clone(),
    };
    let question = read(&check, format_args!(""), &mut violations);
    violations.finish(user.zip(question))
}

fn decision(decision: &Decision) -> proto::AuthzDecision {
    match decision {
        Decision::Allowed(_) => proto::AuthzDecision::Allowed,
        Decision::OutOfScope(_) => proto::AuthzDecision::OutOfScope,
        Decision::NotGranted => proto::AuthzDecision::NotGranted,
        Decision::MemberDisabled => proto::AuthzDecision::MemberDisabled,
        Decision::AccountDisabled => proto::AuthzDecision::AccountDisabled,
        Decision::TenantClosed => proto::AuthzDecision::TenantClosed,
        Decision::SecondFactorNotShown => proto::AuthzDecision::SecondFactorNotShown,
    }
}

pub(super) fn explanation(known: &Known, question: Question) -> proto::ExplainResponse {
    let decided = known.decide(question.permission, question.owner);
    let grant = match &decided {
        Decision::Allowed(grant) | Decision::OutOfScope(grant) => Some(grant),
        _ => None,
    };
    let scope = grant.map(Grant::scope);
    let team = known.facts.team.iter().filter(|_| scope == Some(Scope::Team));
    proto::ExplainResponse {
        allowed: matches!(decided, Decision::Allowed(_)),
        decision: decision(&decided).into(),
        role: known.who.role.to_string(),
        grant: grant.map(ToString::to_string).unwrap_or_default(),
        rpcs: question.permission.rpcs.iter().map(|rpc| (*rpc).to_owned()).collect(),
        version: known.facts.version.0,
        scope: match scope {
            None => proto::AuthzScope::Unspecified,
            Some(Scope::Own) => proto::AuthzScope::Own,
            Some(Scope::Team) => proto::AuthzScope::Team,
            Some(Scope::All) => proto::AuthzScope::All,
        }
        .into(),
        team_user_ids: team.take(TEAM_SHOWN_MAX).map(|user| user.to_string()).collect(),
        sessions_refused: i32::try_from(known.sessions_refused()).unwrap_or(i32::MAX),
    }
}

pub(super) fn member_permissions(known: &Known) -> proto::ListMemberPermissionsResponse {
    let allowed = |permission: &&Permission| matches!(known.decide(permission, None), Decision::Allowed(_));
    let obstacle = known.obstacle();
    proto::ListMemberPermissionsResponse {
        role: known.who.role.to_string(),
        grants: known.grants(),
        permissions: PERMISSIONS
            .iter()
            .filter(allowed)
            .map(|known| known.name.to_owned())
            .collect(),
        decision: obstacle.as_ref().map_or(proto::AuthzDecision::Allowed, decision).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_bounded_and_names_each_question_that_is_none() {
        let read = |names: Vec<&str>| {
            let question = |name: &str| proto::CheckRequest {
                permission: name.to_owned(),
                owner_id: String::new(),
            };
            checks(&proto::BatchCheckRequest {
                permissions: names.first().map(|name| (*name).to_owned()).into_iter().collect(),
                checks: names.into_iter().skip(1).map(question).collect(),
            })
        };
        assert!(read(vec![]).is_err());
        assert!(read(vec!["contacts:read"; BATCH_MAX + 1]).is_err());
        assert_eq!(read(vec!["contacts:read"; BATCH_MAX]).unwrap().len(), BATCH_MAX);
        let refused = read(vec!["contacts:read", "contacts:fly", "contacts:*"]).unwrap_err();
        let fields: Vec<&str> = refused.violations().iter().map(|fault| fault.field.as_str()).collect();
        assert_eq!(fields, ["checks[0].permission", "checks[1].permission"]);
        let refused = read(vec!["contacts:fly", "contacts:read"]).unwrap_err();
        assert_eq!(refused.violations()[0].field, "permissions[0]");
        let wrong = proto::CheckRequest {
            permission: "contacts:read".to_owned(),
            owner_id: "tenant_01jzy2v6k3e8f9a7b5c4d1g0hm".to_owned(),
        };
        assert!(check(&wrong).is_err());
    }
}

//! Permissions and what decides about them, as messages.

use rowhouse_proto::auth::v1 as proto;
use rowhouse_proto::policy::{PERMISSIONS, Permission};
use rowhouse_status::{Failure, Violations};
use rowhouse_types::UserId;

use super::{BATCH_MAX, Decision, Known};

const UNKNOWN: &str = "must be a permission that the catalogue lists";

fn find(name: &str) -> Option<&'static Permission> {
    PERMISSIONS.iter().find(|known| known.name == name)
}

pub(super) fn permission(name: &str) -> Result<&'static Permission, Failure> {
    find(name).ok_or_else(|| Failure::field("permission", UNKNOWN))
}

pub(super) fn permissions(request: &proto::BatchCheckRequest) -> Result<Vec<&'static Permission>, Failure> {
    let names = &request.permissions;
    if names.is_empty() || names.len() > BATCH_MAX {
        return Err(Failure::field(
            "permissions",
            format!("must be 1 to {BATCH_MAX} permissions"),
        ));
    }
    let mut violations = Violations::default();
    let mut read = Vec::with_capacity(names.len());
    for (at, name) in names.iter().enumerate() {
        match find(name) {
            Some(permission) => read.push(permission),
            None => violations.add(&format!("permissions[{at}]"), UNKNOWN),
        }
    }
    violations.finish(Some(read))
}

pub(super) fn user(request: &proto::ListMemberPermissionsRequest) -> Result<UserId, Failure> {
    let user = request.user_id.parse();
    user.map_err(|fault| Failure::field("user_id", fault))
}

pub(super) fn question(request: &proto::ExplainRequest) -> Result<(UserId, &'static Permission), Failure> {
    let mut violations = Violations::default();
    let user = violations.take("user_id", request.user_id.parse());
    let permission = violations.take("permission", find(&request.permission).ok_or(UNKNOWN));
    violations.finish(user.zip(permission))
}

fn decision(decision: &Decision) -> proto::AuthzDecision {
    match decision {
        Decision::Allowed(_) => proto::AuthzDecision::Allowed,
        Decision::NotGranted => proto::AuthzDecision::NotGranted,
        Decision::MemberDisabled => proto::AuthzDecision::MemberDisabled,
        Decision::AccountDisabled => proto::AuthzDecision::AccountDisabled,
        Decision::TenantClosed => proto::AuthzDecision::TenantClosed,
    }
}

pub(super) fn explanation(known: &Known, permission: &Permission) -> proto::ExplainResponse {
    let decided = known.decide(permission);
    proto::ExplainResponse {
        allowed: matches!(decided, Decision::Allowed(_)),
        decision: decision(&decided).into(),
        role: known.member.role.to_string(),
        grant: match &decided {
            Decision::Allowed(grant) => grant.to_string(),
            _ => String::new(),
        },
        rpcs: permission.rpcs.iter().map(|rpc| (*rpc).to_owned()).collect(),
        version: known.facts.version.0,
    }
}

pub(super) fn member_permissions(known: &Known) -> proto::ListMemberPermissionsResponse {
    let allowed = |permission: &&Permission| matches!(known.decide(permission), Decision::Allowed(_));
    let obstacle = known.obstacle();
    proto::ListMemberPermissionsResponse {
        role: known.member.role.to_string(),
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
    fn a_batch_is_bounded_and_names_each_permission_that_is_none() {
        let read = |names: Vec<&str>| {
            permissions(&proto::BatchCheckRequest {
                permissions: names.into_iter().map(str::to_owned).collect(),
            })
        };
        assert!(read(vec![]).is_err());
        assert!(read(vec!["contacts:read"; BATCH_MAX + 1]).is_err());
        assert_eq!(read(vec!["contacts:read"; BATCH_MAX]).unwrap().len(), BATCH_MAX);
        let refused = read(vec!["contacts:read", "contacts:fly", "contacts:*"]).unwrap_err();
        let fields: Vec<&str> = refused.violations().iter().map(|fault| fault.field.as_str()).collect();
        assert_eq!(fields, ["permissions[1]", "permissions[2]"]);
    }
}

//! The authorisation matrix: every RPC of the descriptors called by every kind of caller on the running suite. The
//! snapshot is reviewed: a line that changes is a right that changed.

use std::fmt::Write as _;

use anyhow::Result;
use rowhouse_devkit::suite::Listener;
use rowhouse_proto::policy::{Audience, POLICIES};
use tonic::Status;
use tonic::metadata::MetadataMap;
use tonic_types::StatusExt as _;

use crate::support::raw;
use crate::support::world::{House, World};

/// Reasons with which the stack refuses a caller; any other answer means that the handler was reached.
const REFUSALS: &[&str] = &[
    "CREDENTIALS_MISSING",
    "CREDENTIALS_MALFORMED",
    "TOKEN_INVALID",
    "TOKEN_EXPIRED",
    "SESSION_REVOKED",
    "SERVICE_IDENTITY_INVALID",
    "PERMISSION_MISSING",
    "AUDIENCE_MISMATCH",
    "TENANT_MISMATCH",
    "TENANT_REQUIRED",
    "TENANT_UNEXPECTED",
    "REASON_REQUIRED",
    "METHOD_UNKNOWN",
    "IMPERSONATION_FORBIDS",
];

/// Who calls. Each call gets a session of its own: one of the RPCs ends it.
#[derive(Clone, Copy)]
enum Who {
    Anonymous,
    User,
    Manager,
    Administrator,
    Operator,
    OperatorInTenant,
    OperatorAsAdministrator,
}

const CALLERS: [(&str, Who); 7] = [
    ("anonymous", Who::Anonymous),
    ("user", Who::User),
    ("manager", Who::Manager),
    ("tenant_admin", Who::Administrator),
    ("super_admin", Who::Operator),
    ("super_admin in tenant", Who::OperatorInTenant),
    ("super_admin as tenant_admin", Who::OperatorAsAdministrator),
];

/// `operator`: an operator's token. An account has so many log-ins at once, and the matrix more lines.
async fn metadata(world: &World, house: &House, operator: &str, who: Who, ends_session: bool) -> Result<MetadataMap> {
    let member = async |member: &crate::support::world::Member| -> Result<String> {
        if !ends_session {
            return Ok(member.tokens.access_token.clone());
        }
        Ok(world.log_in(&house.tenant.id, &member.email).await?.tokens.access_token)
    };
    let token = match who {
        Who::Anonymous => None,
        Who::User => Some(member(&house.user).await?),
        Who::Manager => Some(member(&house.manager).await?),
        Who::Administrator => Some(member(&house.administrator).await?),
        Who::Operator | Who::OperatorInTenant if ends_session => Some(world.operator_tokens().await?.access_token),
        Who::Operator | Who::OperatorInTenant => Some(operator.to_owned()),
        Who::OperatorAsAdministrator => Some(world.as_member(house, &house.administrator).await?.access_token),
    };
    let mut map = MetadataMap::new();
    if let Some(token) = token {
        map.insert("authorization", format!("Bearer {token}").parse()?);
    }
    if matches!(who, Who::OperatorInTenant) {
        map.insert("x-tenant-id", house.tenant.id.parse()?);
        map.insert("x-reason", "authorisation matrix".parse()?);
    }
    Ok(map)
}

fn outcome(answer: &Result<Vec<bytes::Bytes>, Status>) -> String {
    let reason = answer
        .as_ref()
        .err()
        .and_then(|status| Some(status.get_error_details().error_info()?.reason.clone()));
    match reason {
        Some(reason) if REFUSALS.contains(&reason.as_str()) => reason,
        _ => "allowed".to_owned(),
    }
}

#[tokio::test]
async fn the_matrix_is_as_reviewed() -> Result<()> {
    let world = World::start("authz").await?;
    let house = world.house("acme").await?;
    let operator = world.operator_tokens().await?.access_token;
    let mut matrix = String::new();
    for policy in POLICIES {
        writeln!(matrix, "{}", policy.path.trim_start_matches('/'))?;
        let channel = raw::channel(&world.suite, policy.path, public_listener(policy.path));
        for (name, who) in CALLERS {
            let map = metadata(&world, &house, &operator, who, policy.path.ends_with("/Logout")).await?;
            // An empty message: a handler that is reached refuses it or does no harm with it.
            let answer = raw::call(&channel, policy.path, map, &[]).await;
            writeln!(matrix, "    {name}: {}", outcome(&answer))?;
        }
    }
    insta::assert_snapshot!(matrix);
    Ok(())
}

/// What gives somebody rights or a way in would outlast the time that an operator may act as somebody else.
#[test]
fn whoever_acts_as_somebody_else_leaves_nothing_that_lasts() {
    const READING: [&str; 7] = ["Get", "List", "Check", "BatchCheck", "Explain", "Verify", "Export"];
    for policy in POLICIES.iter().filter(|policy| policy.audience == Audience::Tenant) {
        let (service, rpc) = policy.path.rsplit_once('/').unwrap();
        let reads = READING.iter().any(|verb| rpc.starts_with(verb));
        let is_of_auth = service.starts_with("/rowhouse.auth.");
        // Other services are asked in the reader's name; a report is made in the requester's, later.
        let goes_on = service.ends_with(".AuditService") || rpc == "RunReport";
        assert_eq!(
            policy.refuses_impersonation,
            is_of_auth && !reads || goes_on,
            "{}",
            policy.path
        );
    }
}

/// Everyone calls the public listener; `provision` has none, and is asked on its internal one.
fn public_listener(path: &str) -> Listener {
    match raw::process(path) {
        rowhouse_devkit::suite::Process::CrmProvision => Listener::Internal,
        _ => Listener::Public,
    }
}

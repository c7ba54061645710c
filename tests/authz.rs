//! The authorisation matrix: every RPC of the descriptors called by every kind of caller on the running suite. The
//! snapshot is reviewed: a line that changes is a right that changed.

use std::collections::HashMap;
use std::fmt::Write as _;

use anyhow::{Result, ensure};
use rowhouse_devkit::journey;
use rowhouse_devkit::suite::Listener;
use rowhouse_proto::auth::v1::{
    CreateApiKeyRequest, CreateServiceAccountRequest, ExchangeApiKeyRequest, ServiceAccount,
};
use rowhouse_proto::common::v1::Placement;
use rowhouse_proto::policy::{Audience, POLICIES};
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::support::raw;
use crate::support::second_factor::{SecondFactor, policy};
use crate::support::world::{House, Member, PASSWORD, World};

/// Reasons with which the stack refuses a caller.
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
    "SECOND_FACTOR_NOT_SHOWN",
];

/// Reasons with which a handler that was reached answers an empty message. Any other says neither that the caller was let in nor
/// that they were not: a quota, or metadata that this test has sent wrongly, must not read as a right.
const ANSWERS: &[&str] = &["FIELD_INVALID", "REFRESH_TOKEN_INVALID", "RESOURCE_NOT_FOUND"];

/// Codes that say nothing about rights: who is answered so was neither refused nor let in.
const FAULTS: [Code; 4] = [Code::Internal, Code::Unknown, Code::Unavailable, Code::DeadlineExceeded];

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
    /// A program with the administrator's role.
    Program,
    /// An administrator of a tenant that asks for a second factor, in a session in which none was shown.
    WithoutSecondFactor,
}

const CALLERS: [(&str, Who); 9] = [
    ("anonymous", Who::Anonymous),
    ("user", Who::User),
    ("manager", Who::Manager),
    ("tenant_admin", Who::Administrator),
    ("super_admin", Who::Operator),
    ("super_admin in tenant", Who::OperatorInTenant),
    ("super_admin as tenant_admin", Who::OperatorAsAdministrator),
    ("tenant_admin's program", Who::Program),
    ("tenant_admin without a second factor", Who::WithoutSecondFactor),
];

/// Those who call.
struct Callers {
    world: World,
    house: House,
    /// The operator's token. An account has so many log-ins at once, and the matrix more lines.
    operator: String,
    /// A key of the program.
    key: String,
    without_second_factor: Member,
}

// === impl Callers ===

impl Callers {
    async fn begin() -> Result<Self> {
        let world = World::start("authz").await?;
        let house = world.house("acme").await?;
        let operator = world.operator_tokens().await?.access_token;
        let mut accounts = house.administrator.caller.service_accounts();
        let service_account = Some(ServiceAccount {
            display_name: "Program".to_owned(),
            role: "tenant_admin".to_owned(),
            ..ServiceAccount::default()
        });
        let request = CreateServiceAccountRequest {
            service_account,
            ..CreateServiceAccountRequest::default()
        };
        let program = accounts.create_service_account(request).await?.into_inner();
        let request = CreateApiKeyRequest {
            service_account_id: program.id,
            lifetime_days: 1,
            ..CreateApiKeyRequest::default()
        };
        let key = accounts.create_api_key(request).await?.into_inner().key;
        let (asking, administrator) = world.tenant_in(Placement::Schema, "asking").await?;
        journey::invite(&administrator.caller, "other@asking.example", "tenant_admin").await?;
        let without_second_factor = world.join(&asking.id, "other@asking.example").await?;
        SecondFactor::set_up(&administrator.caller, PASSWORD).await?;
        let mut policies = administrator.caller.login_policy();
        policies.update_login_policy(policy(true)).await?;
        Ok(Self {
            world,
            house,
            operator,
            key,
            without_second_factor,
        })
    }

    async fn metadata(&self, who: Who, ends_session: bool) -> Result<MetadataMap> {
        let (world, house) = (&self.world, &self.house);
        let member = async |member: &Member| -> Result<String> {
            if !ends_session {
                return Ok(member.tokens.access_token.clone());
            }
            let fresh = world.log_in(&member.tokens.tenant_id, &member.email).await?;
            Ok(fresh.tokens.access_token)
        };
        let token = match who {
            Who::Anonymous => None,
            Who::User => Some(member(&house.user).await?),
            Who::Manager => Some(member(&house.manager).await?),
            Who::Administrator => Some(member(&house.administrator).await?),
            Who::Operator | Who::OperatorInTenant if ends_session => Some(world.operator_tokens().await?.access_token),
            Who::Operator | Who::OperatorInTenant => Some(self.operator.clone()),
            Who::OperatorAsAdministrator => Some(world.as_member(house, &house.administrator).await?.access_token),
            Who::Program => {
                let request = ExchangeApiKeyRequest { key: self.key.clone() };
                let mut accounts = world.anyone.service_accounts();
                Some(accounts.exchange_api_key(request).await?.into_inner().access_token)
            }
            Who::WithoutSecondFactor => Some(member(&self.without_second_factor).await?),
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
}

/// What an answer says of the caller's rights; the answer's own reason where it says nothing of them.
fn outcome(answer: &Result<Vec<bytes::Bytes>, Status>) -> Result<String, String> {
    let Err(status) = answer else {
        return Ok("allowed".to_owned());
    };
    let details = status.get_error_details();
    match details.error_info().map(|info| info.reason.as_str()) {
        Some(reason) if REFUSALS.contains(&reason) => Ok(reason.to_owned()),
        Some(reason) if ANSWERS.contains(&reason) => Ok("allowed".to_owned()),
        Some(reason) => Err(reason.to_owned()),
        None => Err(format!("{:?} without a reason", status.code())),
    }
}

#[tokio::test]
async fn the_matrix_is_as_reviewed() -> Result<()> {
    let callers = Callers::begin().await?;
    let (mut matrix, mut unclear) = (String::new(), Vec::new());
    for policy in POLICIES {
        writeln!(matrix, "{}", policy.path.trim_start_matches('/'))?;
        let channel = raw::channel(&callers.world.suite, policy.path, public_listener(policy.path));
        for (name, who) in CALLERS {
            let map = callers.metadata(who, policy.path.ends_with("/Logout")).await?;
            // An empty message: a handler that is reached refuses it or does no harm with it.
            let answer = raw::call(&channel, policy.path, map, &[]).await;
            let fault = answer.as_ref().err().filter(|status| FAULTS.contains(&status.code()));
            ensure!(fault.is_none(), "{} for {name}: {fault:?}", policy.path);
            match outcome(&answer) {
                Ok(outcome) => writeln!(matrix, "    {name}: {outcome}")?,
                Err(reason) => unclear.push(format!("{} for {name}: {reason}", policy.path)),
            }
        }
    }
    ensure!(
        unclear.is_empty(),
        "neither refused nor let in:\n{}",
        unclear.join("\n")
    );
    insta::assert_snapshot!(matrix);
    Ok(())
}

/// The control: what would once have read as a right.
#[test]
fn what_says_nothing_about_rights_is_neither_allowed_nor_refused() {
    let answered = |reason: &str| {
        let details = ErrorDetails::with_error_info(reason, "rowhouse", HashMap::new());
        outcome(&Err(Status::with_error_details(Code::FailedPrecondition, "", details)))
    };
    for reason in [
        "METADATA_INVALID",
        "QUOTA_EXCEEDED",
        "OVERLOADED",
        "TENANT_SUSPENDED",
        "",
    ] {
        assert_eq!(answered(reason), Err(reason.to_owned()));
    }
    assert!(outcome(&Err(Status::aborted("no details"))).is_err());
    assert_eq!(answered("PERMISSION_MISSING").unwrap(), "PERMISSION_MISSING");
    assert_eq!(answered("FIELD_INVALID").unwrap(), "allowed");
    assert_eq!(outcome(&Ok(Vec::new())).unwrap(), "allowed");
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

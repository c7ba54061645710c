//! T04: every RPC of every service, public and internal, with every way to misuse `x-tenant-id`.

use anyhow::Result;
use rowhouse_context::ServiceName;
use rowhouse_devkit::suite::Listener;
use rowhouse_proto::policy::{Audience, POLICIES, Policy};
use tonic::Status;
use tonic::metadata::{BinaryMetadataValue, MetadataMap};
use tonic_types::StatusExt as _;

use crate::support::raw;
use crate::support::services;
use crate::support::world::{House, World};

/// Reasons with which a call is refused for its tenant metadata.
const REFUSALS: &[&str] = &["TENANT_MISMATCH", "TENANT_METADATA_INVALID", "TENANT_UNEXPECTED"];

struct Variant {
    name: &'static str,
    /// The entries to send, for one's own tenant and another.
    entries: fn(own: &str, other: &str) -> Vec<(&'static str, String)>,
    /// Whether an RPC for a tenant accepts it.
    good: bool,
}

const VARIANTS: &[Variant] = &[
    Variant {
        name: "equal",
        entries: |own, _| vec![("x-tenant-id", own.to_owned())],
        good: true,
    },
    Variant {
        name: "other",
        entries: |_, other| vec![("x-tenant-id", other.to_owned())],
        good: false,
    },
    Variant {
        name: "equal twice",
        entries: |own, _| vec![("x-tenant-id", own.to_owned()), ("x-tenant-id", own.to_owned())],
        good: false,
    },
    Variant {
        name: "equal and other",
        entries: |own, other| vec![("x-tenant-id", own.to_owned()), ("x-tenant-id", other.to_owned())],
        good: false,
    },
    Variant {
        name: "binary",
        entries: |own, _| vec![("x-tenant-id-bin", own.to_owned())],
        good: false,
    },
    Variant {
        name: "equal and binary other",
        entries: |own, other| vec![("x-tenant-id", own.to_owned()), ("x-tenant-id-bin", other.to_owned())],
        good: false,
    },
    Variant {
        name: "upper case",
        entries: |own, _| vec![("x-tenant-id", own.to_uppercase())],
        good: false,
    },
    Variant {
        name: "empty",
        entries: |_, _| vec![("x-tenant-id", String::new())],
        good: false,
    },
    Variant {
        name: "8 KiB",
        entries: |own, _| vec![("x-tenant-id", own.repeat(8_192 / own.len()))],
        good: false,
    },
    Variant {
        name: "a list",
        entries: |own, other| vec![("x-tenant-id", format!("{own},{other}"))],
        good: false,
    },
];

fn metadata(token: Option<&str>, service: Option<&str>, entries: Vec<(&'static str, String)>) -> MetadataMap {
    let mut map = MetadataMap::new();
    if let Some(token) = token {
        map.insert("authorization", format!("Bearer {token}").parse().unwrap());
    }
    if let Some(token) = service {
        map.insert("x-service-authorization", token.parse().unwrap());
    }
    for (key, value) in entries {
        if key.ends_with("-bin") {
            map.append_bin(key, BinaryMetadataValue::from_bytes(value.as_bytes()));
        } else {
            map.append(key, value.parse().unwrap());
        }
    }
    map
}

fn reason(status: &Status) -> String {
    status
        .get_error_details()
        .error_info()
        .map(|info| info.reason.clone())
        .unwrap_or_default()
}

/// How each RPC is called: on which listener, with whose token.
async fn callers(world: &World, house: &House, policy: &Policy) -> Result<(Listener, Option<String>, Option<String>)> {
    let member = Some(house.administrator.tokens.access_token.clone());
    Ok(match policy.audience {
        Audience::Public => (Listener::Public, None, None),
        Audience::Tenant | Audience::OneSelf => (Listener::Public, member, None),
        Audience::Platform => (
            Listener::Public,
            Some(world.operator_tokens().await?.access_token),
            None,
        ),
        Audience::Internal => {
            let caller: ServiceName = policy.callers[0].parse()?;
            let target = match raw::process(policy.path) {
                rowhouse_devkit::suite::Process::Tenant => ServiceName::Tenant,
                rowhouse_devkit::suite::Process::Auth => ServiceName::Auth,
                rowhouse_devkit::suite::Process::Worker => ServiceName::Worker,
                _ => ServiceName::Crm,
            };
            let user = if policy.permission.is_some() {
                Some(services::job_token(world, house).await?)
            } else {
                None
            };
            (
                Listener::Internal,
                user,
                Some(services::token(&world.suite, caller, target)?),
            )
        }
    })
}

#[tokio::test]
async fn no_rpc_accepts_a_tenant_that_the_token_does_not_name() -> Result<()> {
    let world = World::start("t04").await?;
    let own = world.house("own").await?;
    let other = world.house("other").await?;
    let (own_id, other_id) = (own.tenant.id.as_str(), other.tenant.id.as_str());

    let mut faults = Vec::new();
    for policy in POLICIES {
        let (listener, user, service) = callers(&world, &own, policy).await?;
        let channel = raw::channel(&world.suite, policy.path, listener);
        let for_tenant =
            policy.audience == Audience::Tenant || policy.audience == Audience::Internal && policy.permission.is_some();
        // For its own work auth signs tokens itself, and nobody is given one: the worker's opens nothing.
        let is_barred = policy.permission.is_some() && policy.callers == ["auth"];
        // A log-out ends the session it is called with: each call of it gets a session of its own.
        let ends_session = policy.path.ends_with("/Logout");
        let fresh = async || -> Result<Option<String>> {
            if !ends_session {
                return Ok(user.clone());
            }
            Ok(Some(
                world
                    .log_in(own_id, &own.administrator.email)
                    .await?
                    .tokens
                    .access_token,
            ))
        };
        let token = fresh().await?;
        let absent = raw::call(
            &channel,
            policy.path,
            metadata(token.as_deref(), service.as_deref(), Vec::new()),
            &[],
        )
        .await;
        if is_barred && absent.as_ref().err().map(reason).as_deref() != Some("AUDIENCE_MISMATCH") {
            faults.push(format!("{}: opened by a token for another service's work", policy.path));
        }
        if let Err(status) = &absent
            && !is_barred
            && (REFUSALS.contains(&reason(status).as_str())
                || status.code() == tonic::Code::Unauthenticated && user.is_some())
        {
            faults.push(format!("{}: refused without x-tenant-id: {status:?}", policy.path));
        }
        for variant in VARIANTS {
            let token = fresh().await?;
            let map = metadata(
                token.as_deref(),
                service.as_deref(),
                (variant.entries)(own_id, other_id),
            );
            let answer = raw::call(&channel, policy.path, map, &[]).await;
            let refused = answer.as_ref().err().map(reason).is_some_and(|reason| {
                REFUSALS.contains(&reason.as_str()) || is_barred && reason == "AUDIENCE_MISMATCH"
            });
            let accepts = variant.good && !is_barred && (for_tenant || policy.audience == Audience::OneSelf);
            if refused == accepts {
                faults.push(format!(
                    "{} with {}: {:?}",
                    policy.path,
                    variant.name,
                    answer.map(|parts| parts.len())
                ));
            }
        }
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
    Ok(())
}

//! T03: every RPC x every id field x {foreign, deleted, random, malformed}. A foreign id and one that never was are
//! answered with the same bytes.
//!
//! Generated from the descriptors: an RPC without a fixture fails.

mod fixture;

use anyhow::{Context as _, Result};
use rowhouse_context::ServiceName;
use rowhouse_devkit::suite::{Listener, Process};
use rowhouse_proto::crm::v1 as crm;
use rowhouse_proto::policy::{Audience, POLICIES, Policy};
use rowhouse_types::ContactId;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

use self::fixture::{Fixture, Ids, Resources, fixture};
use crate::support::raw;
use crate::support::services;
use crate::support::world::{House, PLACEMENTS, World, slug_in};

/// An answer with everything that may differ taken out: the id that was sent, and the request's own id.
fn canonical(answer: &Result<Vec<bytes::Bytes>, Status>, sent: &str) -> String {
    match answer {
        Ok(parts) => format!("OK {parts:?}").replace(sent, "<id>"),
        Err(status) => {
            let details = String::from_utf8_lossy(status.details()).replace(sent, "<id>");
            // The length of the id is the same for all ids of a kind, so that lengths in the details are too.
            format!(
                "{:?} {} {details:?} {:?}",
                status.code(),
                status.message().replace(sent, "<id>"),
                visible(status.metadata())
            )
        }
    }
}

fn visible(metadata: &MetadataMap) -> Vec<String> {
    let mut names: Vec<String> = metadata
        .keys()
        .map(|key| format!("{key:?}"))
        .filter(|key| !key.contains("date"))
        .collect();
    names.sort();
    names
}

struct Trial<'a> {
    world: &'a World,
    policy: &'a Policy,
    user: Option<String>,
    service: Option<String>,
}

impl Trial<'_> {
    async fn send(&self, message: &[u8]) -> Result<Vec<bytes::Bytes>, Status> {
        let listener = if self.policy.audience == Audience::Internal {
            Listener::Internal
        } else {
            Listener::Public
        };
        let mut metadata = MetadataMap::new();
        metadata.insert("x-request-id", "t03".parse().expect("metadata"));
        for (key, scheme, token) in [
            ("authorization", "Bearer ", &self.user),
            ("x-service-authorization", "", &self.service),
        ] {
            if let Some(token) = token {
                metadata.insert(key, format!("{scheme}{token}").parse().expect("metadata"));
            }
        }
        raw::call(
            &raw::channel(&self.world.suite, self.policy.path, listener),
            self.policy.path,
            metadata,
            message,
        )
        .await
    }

    /// Tries one field with all its ids and says what is wrong.
    async fn field(&self, message: &[u8], ids: &Ids) -> Vec<String> {
        let input = raw::method(self.policy.path).input();
        let with = |id: &str| raw::with_field(&input, message, ids.field, id);
        let mut faults = Vec::new();
        let random = self.send(&with(&ids.random)).await;
        let expected = canonical(&random, &ids.random);
        let others = [Some(&ids.foreign), ids.deleted.as_ref()];
        for id in others.into_iter().flatten() {
            let found = canonical(&self.send(&with(id)).await, id);
            if found != expected {
                faults.push(format!(
                    "{} {}: {id} is told apart\n    {found}\n    {expected}",
                    self.policy.path, ids.field
                ));
            }
        }
        let long = "x".repeat(100_000);
        for malformed in [
            "",
            "x",
            "contact_",
            "' OR 1=1 --",
            "../../etc/passwd",
            "\u{0}",
            ids.foreign.to_uppercase().as_str(),
            long.as_str(),
        ] {
            match self.send(&with(malformed)).await {
                Err(status)
                    if matches!(
                        status.code(),
                        Code::InvalidArgument | Code::NotFound | Code::Unauthenticated
                    ) => {}
                Ok(_) if malformed.is_empty() && ids.may_be_empty => {}
                other => faults.push(format!(
                    "{} {}: malformed {:.40?}: {other:?}",
                    self.policy.path, ids.field, malformed
                )),
            }
        }
        faults
    }
}

#[tokio::test]
async fn a_foreign_id_is_answered_like_one_that_never_was() -> Result<()> {
    let world = World::start("t03").await?;
    let mut faults = Vec::new();
    // Neighbours in each placement; those in SHARED live in the same tables.
    for placement in PLACEMENTS {
        let own = world.house_in(placement, &slug_in(placement, "own")).await?;
        let other = world.house_in(placement, &slug_in(placement, "other")).await?;
        faults.extend(told_apart(&world, &own, &other).await?);
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
    Ok(())
}

/// Every RPC, called by a member of one tenant with ids of the other.
async fn told_apart(world: &World, own: &House, other: &House) -> Result<Vec<String>> {
    let resources = Resources::make(own, other).await?;
    let mut faults = Vec::new();
    for policy in POLICIES {
        let fixture =
            fixture(policy.path, &resources).with_context(|| format!("{} has no fixture: add one", policy.path))?;
        let Fixture::Try { message, ids, .. } = fixture else {
            continue;
        };
        let internal = policy.audience == Audience::Internal;
        let trial = Trial {
            world,
            policy,
            user: matches!(policy.audience, Audience::Tenant | Audience::OneSelf)
                .then(|| own.administrator.tokens.access_token.clone()),
            service: if internal {
                Some(services::token(&world.suite, ServiceName::Worker, target(policy.path))?)
            } else {
                None
            },
        };
        faults.extend(trial.field(&message, &ids).await);
    }
    // Nothing was written through the other tenant's ids.
    let contact = other
        .administrator
        .caller
        .contacts()
        .get_contact(crm::GetContactRequest {
            id: resources.foreign_contact,
        })
        .await?
        .into_inner();
    assert_eq!(contact.display_name, "Foreign Canary");
    Ok(faults)
}

fn target(path: &str) -> ServiceName {
    match raw::process(path) {
        Process::Tenant => ServiceName::Tenant,
        Process::Auth => ServiceName::Auth,
        Process::Worker => ServiceName::Worker,
        Process::Crm | Process::CrmProvision => ServiceName::Crm,
    }
}

/// Each id field of each RPC is tried, or its fixture sets it aside.
#[test]
fn no_id_field_is_forgotten() {
    let resources = Resources::imagined();
    for policy in POLICIES {
        let path = policy.path;
        let mut fields = raw::id_fields(&raw::method(path).input());
        fields.sort();
        let mut known = match fixture(path, &resources) {
            None => panic!("{path} has no fixture"),
            Some(Fixture::Try { ids, set_aside, .. }) => [&[ids.field], set_aside].concat(),
            Some(Fixture::NothingLookedUp { set_aside }) => set_aside.to_vec(),
            Some(Fixture::AllTenants) => {
                assert!(
                    matches!(policy.audience, Audience::Internal | Audience::Platform),
                    "{path}"
                );
                continue;
            }
        };
        known.sort_unstable();
        assert_eq!(fields, known, "{path}: its id fields, and those that its fixture knows");
    }
}

/// The control: an answer that names the other tenant's contact would be noticed.
#[test]
fn a_difference_in_one_byte_is_noticed() {
    let (foreign, random) = (ContactId::generate().to_string(), ContactId::generate().to_string());
    let absent = |id: &str| Err(Status::not_found(format!("contact {id} not found")));
    assert_eq!(
        canonical(&absent(&foreign), &foreign),
        canonical(&absent(&random), &random)
    );
    let leak = Err(Status::permission_denied(format!("contact {foreign} not found")));
    assert_ne!(canonical(&leak, &foreign), canonical(&absent(&random), &random));
}

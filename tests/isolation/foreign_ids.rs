//! T03: every RPC x every id field x {foreign, deleted, random, malformed}. A foreign id and one that never was are
//! answered with the same bytes. So would be two that were refused for another reason: therefore what a random id is
//! answered is known beforehand, and an id of the caller's own is answered otherwise.
//!
//! Generated from the descriptors: an RPC without a fixture fails.

mod fixture;
mod resources;

use anyhow::{Context as _, Result};
use rowhouse_context::ServiceName;
use rowhouse_devkit::suite::{Listener, Process};
use rowhouse_proto::auth::v1 as auth;
use rowhouse_proto::crm::v1::ListContactsRequest;
use rowhouse_proto::policy::{Audience, POLICIES, Policy};
use rowhouse_proto::worker::v1::GetReportRequest;
use rowhouse_types::ContactId;
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::{Code, Status};

use self::fixture::{Fixture, Try, fixture};
use self::resources::Resources;
use crate::support::raw;
use crate::support::services;
use crate::support::world::{House, PLACEMENTS, World, slug_in};

type Answer = Result<Vec<bytes::Bytes>, Status>;

/// A field that no message has, of a wire type that there is not: whatever it is put behind cannot be read.
const UNREADABLE: &[u8] = &[0x7f];

/// An answer with everything that may differ taken out: the id that was sent, and the request's own id.
fn canonical(answer: &Answer, sent: &str) -> String {
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

fn code(answer: &Answer) -> Code {
    answer.as_ref().map_or_else(Status::code, |_| Code::Ok)
}

/// Who calls which RPC.
struct Trial {
    policy: &'static Policy,
    channel: Channel,
    user: Option<String>,
    service: Option<String>,
    /// What is put behind each message.
    tail: &'static [u8],
}

impl Trial {
    /// A member of a tenant, its administrator, or the worker where the RPC is for services.
    fn of(world: &World, own: &House, policy: &'static Policy) -> Result<Self> {
        let is_internal = policy.audience == Audience::Internal;
        let listener = if is_internal {
            Listener::Internal
        } else {
            Listener::Public
        };
        Ok(Self {
            policy,
            channel: raw::channel(&world.suite, policy.path, listener),
            user: matches!(policy.audience, Audience::Tenant | Audience::OneSelf)
                .then(|| own.administrator.tokens.access_token.clone()),
            service: if is_internal {
                Some(services::token(&world.suite, ServiceName::Worker, target(policy.path))?)
            } else {
                None
            },
            tail: &[],
        })
    }

    /// The same with credentials that are none, where it has some.
    fn by_nobody(&self) -> Option<Self> {
        let spoilt = |token: &Option<String>| token.as_ref().map(|_| "x".to_owned());
        let (user, service) = (spoilt(&self.user), spoilt(&self.service));
        (user.is_some() || service.is_some()).then(|| Self {
            policy: self.policy,
            channel: self.channel.clone(),
            user,
            service,
            tail: self.tail,
        })
    }

    /// The same with messages that cannot be read.
    fn unreadable(&self) -> Self {
        Self {
            policy: self.policy,
            channel: self.channel.clone(),
            user: self.user.clone(),
            service: self.service.clone(),
            tail: UNREADABLE,
        }
    }

    async fn send(&self, tried: &Try, id: &str) -> Answer {
        let input = raw::method(self.policy.path).input();
        let mut message = raw::with_field(&input, &tried.message, tried.field, id);
        message.extend_from_slice(self.tail);
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
        raw::call(&self.channel, self.policy.path, metadata, &message).await
    }

    /// Tries a field with ids of every kind that can be one, and says what is wrong.
    async fn ids(&self, tried: &Try) -> Vec<String> {
        let at = format!("{} {}", self.policy.path, tried.field);
        let mut faults = Vec::new();
        let random = self.send(tried, &tried.random).await;
        let expected = canonical(&random, &tried.random);
        if code(&random) != tried.absent {
            faults.push(format!("{at}: a random id is not {:?}\n    {expected}", tried.absent));
        }
        for id in [Some(&tried.foreign), tried.deleted.as_ref()].into_iter().flatten() {
            let found = canonical(&self.send(tried, id).await, id);
            if found != expected {
                faults.push(format!("{at}: {id} is told apart\n    {found}\n    {expected}"));
            }
        }
        if let Some((id, wanted)) = &tried.own {
            let answer = self.send(tried, id).await;
            let found = canonical(&answer, id);
            if code(&answer) != *wanted || found == expected {
                faults.push(format!(
                    "{at}: the own {id} is not {wanted:?}\n    {found}\n    {expected}"
                ));
            }
        }
        faults
    }

    /// Tries a field with what is no id.
    async fn malformed(&self, tried: &Try) -> Vec<String> {
        let mut faults = Vec::new();
        let long = "x".repeat(100_000);
        for (text, wanted) in [
            ("", tried.empty),
            ("x", Code::InvalidArgument),
            ("contact_", Code::InvalidArgument),
            ("' OR 1=1 --", Code::InvalidArgument),
            ("../../etc/passwd", Code::InvalidArgument),
            ("\u{0}", Code::InvalidArgument),
            (tried.foreign.to_uppercase().as_str(), Code::InvalidArgument),
            (long.as_str(), Code::InvalidArgument),
        ] {
            let answer = self.send(tried, text).await;
            if code(&answer) != wanted {
                faults.push(format!(
                    "{} {}: malformed {text:.40?} is not {wanted:?}: {answer:?}",
                    self.policy.path, tried.field
                ));
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
        let resources = Resources::make(&world, &own, &other).await?;
        if placement == PLACEMENTS[0] {
            other_refusals_are_noticed(&world, &own, &resources).await?;
        }
        let before = seen(&other, &resources).await?;
        faults.extend(told_apart(&world, &own, &resources).await?);
        assert_eq!(
            seen(&other, &resources).await?,
            before,
            "something was written through foreign ids"
        );
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
    Ok(())
}

/// Every RPC, called by a member of one tenant with ids of the other.
async fn told_apart(world: &World, own: &House, resources: &Resources) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    for policy in POLICIES {
        let trial = Trial::of(world, own, policy)?;
        for tried in tries(policy, resources)? {
            faults.extend(trial.ids(&tried).await);
            faults.extend(trial.malformed(&tried).await);
        }
    }
    Ok(faults)
}

/// The control: where a fixture's message or its caller's token is not good, all ids are answered alike. That is noticed at every
/// field, and with the same resources the test passes after it.
async fn other_refusals_are_noticed(world: &World, own: &House, resources: &Resources) -> Result<()> {
    for policy in POLICIES {
        let trial = Trial::of(world, own, policy)?;
        for tried in tries(policy, resources)? {
            let spoilt = [Some(trial.unreadable()), trial.by_nobody()];
            for spoilt in spoilt.into_iter().flatten() {
                let faults = spoilt.ids(&tried).await;
                assert!(!faults.is_empty(), "{} {}: not noticed", policy.path, tried.field);
                assert!(
                    faults.iter().all(|fault| !fault.contains("told apart")),
                    "refused before anything was looked up: {faults:?}"
                );
            }
        }
    }
    Ok(())
}

fn tries(policy: &Policy, resources: &Resources) -> Result<Vec<Try>> {
    let path = policy.path;
    Ok(
        match fixture(path, resources).with_context(|| format!("{path} has no fixture: add one"))? {
            Fixture::Tries { tries, .. } => tries,
            Fixture::NothingLookedUp { .. } | Fixture::AllTenants => Vec::new(),
        },
    )
}

/// What the tries name of the other tenant, as its own members see it.
async fn seen(other: &House, resources: &Resources) -> Result<String> {
    let caller = &other.administrator.caller;
    let contacts = caller.contacts().list_contacts(ListContactsRequest::default()).await?;
    let id = resources.report.foreign.clone();
    let report = caller.reports().get_report(GetReportRequest { id }).await?;
    let teams = caller.teams().list_teams(auth::ListTeamsRequest::default()).await?;
    let mut robots = caller.service_accounts();
    let accounts = auth::ListServiceAccountsRequest::default();
    let accounts = robots.list_service_accounts(accounts).await?;
    let keys = auth::ListApiKeysRequest {
        service_account_id: resources.robot.foreign.clone(),
        ..auth::ListApiKeysRequest::default()
    };
    let keys = robots.list_api_keys(keys).await?;
    let mut people = caller.members();
    let members = people.list_members(auth::ListMembersRequest::default()).await?;
    let invitations = people.list_invitations(auth::ListInvitationsRequest::default()).await?;
    // Their session goes on.
    let user = other.user.caller.auth().who_am_i(auth::WhoAmIRequest {}).await?;
    Ok(format!(
        "{:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}",
        contacts.get_ref(),
        report.get_ref(),
        teams.get_ref(),
        accounts.get_ref(),
        keys.get_ref(),
        members.get_ref(),
        invitations.get_ref(),
        user.get_ref()
    ))
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
            Some(Fixture::Tries { tries, set_aside }) => {
                let mut tried: Vec<_> = tries.iter().map(|tried| tried.field).collect();
                // A field may be tried with more than one message.
                tried.dedup();
                [tried.as_slice(), set_aside].concat()
            }
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

//! T03: every RPC x every id field x {foreign, deleted, random, malformed}. A foreign id and one that never was are
//! answered with the same bytes.
//!
//! Generated from the descriptors: an RPC without a fixture fails.

use anyhow::{Context as _, Result};
use prost::Message as _;
use rowhouse_context::ServiceName;
use rowhouse_devkit::journey;
use rowhouse_devkit::suite::{Listener, Process};
use rowhouse_proto::auth::v1 as auth;
use rowhouse_proto::crm::v1 as crm;
use rowhouse_proto::policy::{Audience, POLICIES, Policy};
use rowhouse_proto::well_known::FieldMask;
use rowhouse_proto::worker::v1 as worker;
use rowhouse_types::{ContactId, ReportId, SessionId, TenantId, UserId};
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

use crate::support::raw;
use crate::support::services;
use crate::support::world::{House, World};

/// How an RPC is tried.
enum Fixture {
    /// With this message, whose id fields are replaced one at a time by each of the ids.
    Try { message: Vec<u8>, ids: Vec<Ids> },
    /// It has no id field that could name another tenant's resource.
    NoIds,
    /// It is for callers who may know of every tenant: services of the suite, platform operators.
    AllTenants,
}

/// Values for one id field.
struct Ids {
    field: &'static str,
    /// A resource of another tenant.
    foreign: String,
    /// A resource of the caller's own tenant that was deleted, where there is such a thing.
    deleted: Option<String>,
    /// An id that never was.
    random: String,
}

/// Resources that the fixtures name.
struct Resources {
    foreign_contact: String,
    deleted_contact: String,
    foreign_user: String,
    foreign_report: String,
    own_user: String,
    own_tenant: String,
}

impl Resources {
    async fn make(own: &House, other: &House) -> Result<Self> {
        let foreign_contact =
            journey::create_contact(&other.administrator.caller, "Foreign Canary", "canary@other.example").await?;
        let deleted = journey::create_contact(&own.administrator.caller, "Deleted", "deleted@own.example").await?;
        let delete = crm::DeleteContactRequest {
            id: deleted.id.clone(),
            etag: String::new(),
        };
        own.administrator.caller.contacts().delete_contact(delete).await?;
        let report = journey::run_report(&other.administrator.caller).await?;
        journey::finished_report(&other.administrator.caller, &report.id, journey::BACKGROUND_MAX).await?;
        Ok(Self {
            foreign_contact: foreign_contact.id,
            deleted_contact: deleted.id,
            foreign_user: other.user.tokens.user_id.clone(),
            foreign_report: report.id,
            own_user: own.user.tokens.user_id.clone(),
            own_tenant: own.tenant.id.clone(),
        })
    }

    fn contact(&self, field: &'static str) -> Ids {
        let (foreign, deleted) = (self.foreign_contact.clone(), Some(self.deleted_contact.clone()));
        Ids {
            field,
            foreign,
            deleted,
            random: ContactId::generate().to_string(),
        }
    }

    fn user(&self, field: &'static str) -> Ids {
        Ids {
            field,
            foreign: self.foreign_user.clone(),
            deleted: None,
            random: UserId::generate().to_string(),
        }
    }

    fn report(&self, field: &'static str) -> Ids {
        Ids {
            field,
            foreign: self.foreign_report.clone(),
            deleted: None,
            random: ReportId::generate().to_string(),
        }
    }
}

/// The fixture of an RPC; `None` for one that nobody has thought about.
fn fixture(path: &str, r: &Resources) -> Option<Fixture> {
    let mask = |field: &str| {
        Some(FieldMask {
            paths: vec![field.to_owned()],
        })
    };
    let id = r.foreign_contact.clone();
    let (service, rpc) = path.strip_prefix("/rowhouse.")?.split_once('/')?;
    Some(match (service, rpc) {
        ("crm.v1.ContactService", "GetContact") => Fixture::Try {
            message: crm::GetContactRequest { id }.encode_to_vec(),
            ids: vec![r.contact("id")],
        },
        ("crm.v1.ContactService", "UpdateContact") => {
            let contact = crm::Contact {
                id,
                display_name: "Taken over".to_owned(),
                owner_id: r.own_user.clone(),
                ..Default::default()
            };
            let request = crm::UpdateContactRequest {
                contact: Some(contact),
                update_mask: mask("display_name"),
            };
            Fixture::Try {
                message: request.encode_to_vec(),
                ids: vec![r.contact("contact.id")],
            }
        }
        ("crm.v1.ContactService", "DeleteContact") => {
            let ids = vec![r.contact("id")];
            Fixture::Try {
                message: crm::DeleteContactRequest {
                    id,
                    etag: String::new(),
                }
                .encode_to_vec(),
                ids,
            }
        }
        ("crm.v1.ContactService", "UndeleteContact") => {
            let ids = vec![Ids {
                deleted: None,
                ..r.contact("id")
            }];
            Fixture::Try {
                message: crm::UndeleteContactRequest {
                    id,
                    etag: String::new(),
                }
                .encode_to_vec(),
                ids,
            }
        }
        // Its ids are set by the service, and ignored in the request.
        ("crm.v1.ContactService", "CreateContact" | "ListContacts") => Fixture::NoIds,
        ("auth.v1.MemberService", "GetMember") => {
            let message = auth::GetMemberRequest {
                user_id: r.foreign_user.clone(),
            }
            .encode_to_vec();
            Fixture::Try {
                message,
                ids: vec![r.user("user_id")],
            }
        }
        ("auth.v1.MemberService", "UpdateMember") => {
            let member = auth::Member {
                user_id: r.foreign_user.clone(),
                role: "manager".to_owned(),
                ..Default::default()
            };
            let message = auth::UpdateMemberRequest {
                member: Some(member),
                update_mask: mask("role"),
            }
            .encode_to_vec();
            Fixture::Try {
                message,
                ids: vec![r.user("member.user_id")],
            }
        }
        ("auth.v1.MemberService", "InviteMember" | "ListMembers") => Fixture::NoIds,
        ("worker.v1.ReportService", "GetReport") => {
            let message = worker::GetReportRequest {
                id: r.foreign_report.clone(),
            }
            .encode_to_vec();
            Fixture::Try {
                message,
                ids: vec![r.report("id")],
            }
        }
        ("worker.v1.ReportService", "DownloadReport") => {
            let message = worker::DownloadReportRequest {
                id: r.foreign_report.clone(),
            }
            .encode_to_vec();
            Fixture::Try {
                message,
                ids: vec![r.report("id")],
            }
        }
        ("worker.v1.ReportService", "RunReport") => Fixture::NoIds,
        // A wrong password at a tenant that exists and at one that does not.
        ("auth.v1.AuthService", "Login") => {
            let request = auth::LoginRequest {
                email: "administrator@own.example".to_owned(),
                password: "a wrong password".to_owned(),
                tenant_id: r.own_tenant.clone(),
            };
            let ids = Ids {
                field: "tenant_id",
                foreign: r.own_tenant.clone(),
                deleted: None,
                random: TenantId::generate().to_string(),
            };
            Fixture::Try {
                message: request.encode_to_vec(),
                ids: vec![ids],
            }
        }
        ("auth.v1.AuthService", "AcceptInvitation" | "Refresh" | "Logout" | "WhoAmI" | "GetJwks") => Fixture::NoIds,
        // The worker asks for a user of one tenant in the name of another.
        ("auth.v1.DelegationService", "IssueJobToken") => {
            let request = auth::IssueJobTokenRequest {
                job_id: ReportId::generate().to_string(),
                tenant_id: r.own_tenant.clone(),
                user_id: r.foreign_user.clone(),
                platform: false,
            };
            Fixture::Try {
                message: request.encode_to_vec(),
                ids: vec![r.user("user_id")],
            }
        }
        ("auth.v1.MailDataService", "GetRecipient") => {
            let request = auth::GetRecipientRequest {
                tenant_id: r.own_tenant.clone(),
                user_id: r.foreign_user.clone(),
                platform: false,
            };
            Fixture::Try {
                message: request.encode_to_vec(),
                ids: vec![r.user("user_id")],
            }
        }
        ("auth.v1.RightsService", "GetRights") => {
            let request = auth::GetRightsRequest {
                user_id: r.foreign_user.clone(),
                session_id: SessionId::generate().to_string(),
                tenant_id: r.own_tenant.clone(),
                platform: false,
            };
            Fixture::Try {
                message: request.encode_to_vec(),
                ids: vec![r.user("user_id")],
            }
        }
        ("crm.v1.ExportService", "StreamContacts") => Fixture::NoIds,
        ("auth.v1.RightsService", "RenewLease") => Fixture::NoIds,
        ("auth.v1.MailDataService", "GetInvitationMail")
        | ("auth.v1.ProvisioningService", "CreateFirstAdministrator" | "SetTenantState")
        | ("tenant.v1.DirectoryService", "Resolve")
        | (
            "tenant.v1.TenantService",
            "CreateTenant" | "GetTenant" | "ListTenants" | "UpdateTenant" | "SuspendTenant" | "ResumeTenant",
        )
        | ("common.v1.TenantParticipantService", "Prepare" | "Migrate" | "Freeze" | "Thaw" | "Drop" | "Describe") => {
            Fixture::AllTenants
        }
        _ => return None,
    })
}

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
    let own = world.house("own").await?;
    let other = world.house("other").await?;
    let resources = Resources::make(&own, &other).await?;

    let mut faults = Vec::new();
    for policy in POLICIES {
        let fixture =
            fixture(policy.path, &resources).with_context(|| format!("{} has no fixture: add one", policy.path))?;
        let Fixture::Try { message, ids } = fixture else {
            continue;
        };
        let internal = policy.audience == Audience::Internal;
        let trial = Trial {
            world: &world,
            policy,
            user: (policy.audience == Audience::Tenant).then(|| own.administrator.tokens.access_token.clone()),
            service: if internal {
                Some(services::token(&world.suite, ServiceName::Worker, target(policy.path))?)
            } else {
                None
            },
        };
        for ids in &ids {
            faults.extend(trial.field(&message, ids).await);
        }
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));

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
    Ok(())
}

fn target(path: &str) -> ServiceName {
    match raw::process(path) {
        Process::Tenant => ServiceName::Tenant,
        Process::Auth => ServiceName::Auth,
        Process::Worker => ServiceName::Worker,
        Process::Crm | Process::CrmProvision => ServiceName::Crm,
    }
}

/// Each id field of each RPC is in its fixture, or the fixture says why not.
#[test]
fn no_id_field_is_forgotten() {
    let resources = Resources {
        foreign_contact: ContactId::generate().to_string(),
        deleted_contact: ContactId::generate().to_string(),
        foreign_user: UserId::generate().to_string(),
        foreign_report: ReportId::generate().to_string(),
        own_user: UserId::generate().to_string(),
        own_tenant: TenantId::generate().to_string(),
    };
    // Set by the service and ignored in requests, or naming the caller's own side of the question; `after_id` is a place
    // in the order of ids, compared and not looked up (services/crm tests that it names nothing).
    const NOT_LOOKED_UP: &[&str] = &[
        "after_id",
        "contact.owner_id",
        "job_id",
        "session_id",
        "tenant_id",
        "instance_id",
        "contact.id",
        "tenant.id",
    ];
    for policy in POLICIES {
        let fields = raw::id_fields(&raw::method(policy.path).input());
        match fixture(policy.path, &resources) {
            None => panic!("{} has no fixture", policy.path),
            Some(Fixture::Try { ids, .. }) => {
                let tried: Vec<&str> = ids.iter().map(|ids| ids.field).collect();
                let missed: Vec<&String> = fields
                    .iter()
                    .filter(|field| !tried.contains(&field.as_str()) && !NOT_LOOKED_UP.contains(&field.as_str()))
                    .collect();
                assert!(missed.is_empty(), "{}: {missed:?} are not tried", policy.path);
            }
            Some(Fixture::NoIds) => {
                let looked_up: Vec<&String> = fields
                    .iter()
                    .filter(|field| !NOT_LOOKED_UP.contains(&field.as_str()))
                    .collect();
                assert!(looked_up.is_empty(), "{}: {looked_up:?} are not tried", policy.path);
            }
            Some(Fixture::AllTenants) => assert!(
                matches!(policy.audience, Audience::Internal | Audience::Platform),
                "{}",
                policy.path
            ),
        }
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

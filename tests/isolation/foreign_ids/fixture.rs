//! How each RPC is tried with ids that are not the caller's: one function a service.

use anyhow::Result;
use prost::Message;
use rowhouse_devkit::journey;
use rowhouse_proto::auth::v1 as auth;
use rowhouse_proto::crm::v1 as crm;
use rowhouse_proto::well_known::FieldMask;
use rowhouse_proto::worker::v1 as worker;
use rowhouse_types::{ContactId, InvitationId, ReportId, SessionId, TenantId, UserId};

use crate::support::world::House;

/// How an RPC is tried.
pub(super) enum Fixture {
    /// With this message, whose field is replaced by each of the ids. Fields set aside are the caller's own side of the
    /// question, or set by the service and ignored in requests.
    Try {
        message: Vec<u8>,
        ids: Ids,
        set_aside: &'static [&'static str],
    },
    /// None of its fields looks anything up; those that hold ids are named, each with a reason beside it.
    NothingLookedUp { set_aside: &'static [&'static str] },
    /// It is for callers who may know of every tenant: services of the suite, platform operators.
    AllTenants,
}

/// Values for one id field.
pub(super) struct Ids {
    pub(super) field: &'static str,
    /// A resource of another tenant.
    pub(super) foreign: String,
    /// A resource of the caller's own tenant that was deleted, where there is such a thing.
    pub(super) deleted: Option<String>,
    /// An id that never was.
    pub(super) random: String,
}

/// Resources that the fixtures name.
pub(super) struct Resources {
    pub(super) foreign_contact: String,
    deleted_contact: String,
    foreign_user: String,
    foreign_report: String,
    foreign_session: String,
    foreign_invitation: String,
    foreign_tenant: String,
    own_user: String,
    own_tenant: String,
}

impl Resources {
    pub(super) async fn make(own: &House, other: &House) -> Result<Self> {
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
        let invite = auth::InviteMemberRequest {
            email: "invited@other.example".to_owned(),
            role: "user".to_owned(),
            request_id: String::new(),
        };
        let invitation = other.administrator.caller.members().invite_member(invite).await?;
        Ok(Self {
            foreign_session: other.user.tokens.session_id.clone(),
            foreign_invitation: invitation.into_inner().id,
            foreign_tenant: other.tenant.id.clone(),
            foreign_contact: foreign_contact.id,
            deleted_contact: deleted.id,
            foreign_user: other.user.tokens.user_id.clone(),
            foreign_report: report.id,
            own_user: own.user.tokens.user_id.clone(),
            own_tenant: own.tenant.id.clone(),
        })
    }

    /// Ids without a suite behind them, for looking at the fixtures alone.
    pub(super) fn imagined() -> Self {
        Self {
            foreign_contact: ContactId::generate().to_string(),
            deleted_contact: ContactId::generate().to_string(),
            foreign_user: UserId::generate().to_string(),
            foreign_report: ReportId::generate().to_string(),
            foreign_session: SessionId::generate().to_string(),
            foreign_invitation: InvitationId::generate().to_string(),
            foreign_tenant: TenantId::generate().to_string(),
            own_user: UserId::generate().to_string(),
            own_tenant: TenantId::generate().to_string(),
        }
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

/// A field that holds another tenant's `foreign`.
fn ids(field: &'static str, foreign: &str, random: String) -> Ids {
    Ids {
        field,
        foreign: foreign.to_owned(),
        deleted: None,
        random,
    }
}

/// The fixture of an RPC; `None` for one that nobody has thought about.
pub(super) fn fixture(path: &str, r: &Resources) -> Option<Fixture> {
    let (service, rpc) = path.strip_prefix("/rowhouse.")?.split_once('/')?;
    match service {
        "crm.v1.ContactService" => contacts(rpc, r),
        "worker.v1.ReportService" => reports(rpc, r),
        "auth.v1.AuthService" => log_in(rpc, r),
        "auth.v1.AccountService" => account(rpc, r),
        // The links of mails name accounts, whatever tenants these belong to.
        "auth.v1.RecoveryService" => match rpc {
            "RequestPasswordReset" | "ResetPassword" | "ConfirmEmail" => {
                Some(Fixture::NothingLookedUp { set_aside: &[] })
            }
            _ => None,
        },
        // Roles go by names within the caller's tenant: services/auth tests that another tenant's name is none.
        "auth.v1.RoleService" => match rpc {
            "CreateRole" | "GetRole" | "ListRoles" | "UpdateRole" | "DeleteRole" => {
                Some(Fixture::NothingLookedUp { set_aside: &[] })
            }
            _ => None,
        },
        "auth.v1.AuthzService" => authz(rpc, r),
        "auth.v1.CatalogService" if rpc == "ListPermissions" => Some(Fixture::NothingLookedUp { set_aside: &[] }),
        "auth.v1.MemberService" => members(rpc, r),
        "auth.v1.RightsService" | "auth.v1.DelegationService" | "auth.v1.MailDataService" => internal(rpc, r),
        // A place in the order of ids, compared and not looked up: services/crm tests that it names nothing.
        "crm.v1.ExportService" if rpc == "StreamContacts" => Some(Fixture::NothingLookedUp {
            set_aside: &["after_id"],
        }),
        _ => all_tenants(service, rpc).then_some(Fixture::AllTenants),
    }
}

/// RPCs for services and operators who may know of every tenant.
fn all_tenants(service: &str, rpc: &str) -> bool {
    let rpcs: &[&str] = match service {
        "auth.v1.ProvisioningService" => &["CreateFirstAdministrator", "SetTenantState"],
        "tenant.v1.DirectoryService" => &["Resolve", "GetLimits"],
        "tenant.v1.PlanService" => &[
            "CreatePlan",
            "GetPlan",
            "ListPlans",
            "UpdatePlan",
            "DeletePlan",
            "GetTenantPlan",
            "SetTenantPlan",
        ],
        "tenant.v1.TenantService" => &[
            "CreateTenant",
            "GetTenant",
            "ListTenants",
            "UpdateTenant",
            "SuspendTenant",
            "ResumeTenant",
            "SetTenantReadOnly",
            "DeleteTenant",
            "UndeleteTenant",
            "PurgeTenant",
            "GetPurge",
        ],
        "tenant.v1.ServerService" => &[
            "RegisterServer",
            "GetServer",
            "ListServers",
            "UpdateServer",
            "DrainServer",
            "ActivateServer",
        ],
        "tenant.v1.MigrationService" => &[
            "PlanMigration",
            "StartMigration",
            "GetMigration",
            "ListMigrations",
            "PauseMigration",
            "ResumeMigration",
            "CancelMigration",
            "WatchMigration",
            "CheckDrift",
        ],
        "common.v1.TenantRecordsService" => &["PurgeRecords"],
        "common.v1.TenantParticipantService" => &[
            "PrepareSpare",
            "Prepare",
            "Migrate",
            "Freeze",
            "Restrict",
            "Thaw",
            "Drop",
            "Describe",
            "CheckServer",
            "DescribeFleet",
            "MigrateBatch",
            "CheckDrift",
            "SetLimits",
        ],
        _ => &[],
    };
    rpcs.contains(&rpc)
}

fn tried(message: &impl Message, ids: Ids, set_aside: &'static [&'static str]) -> Option<Fixture> {
    Some(Fixture::Try {
        message: message.encode_to_vec(),
        ids,
        set_aside,
    })
}

fn mask(field: &str) -> Option<FieldMask> {
    Some(FieldMask {
        paths: vec![field.to_owned()],
    })
}

fn contacts(rpc: &str, r: &Resources) -> Option<Fixture> {
    let id = r.foreign_contact.clone();
    match rpc {
        "GetContact" => tried(&crm::GetContactRequest { id }, r.contact("id"), &[]),
        "UpdateContact" => {
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
            tried(&request, r.contact("contact.id"), &["contact.owner_id"])
        }
        "DeleteContact" => tried(
            &crm::DeleteContactRequest {
                id,
                etag: String::new(),
            },
            r.contact("id"),
            &[],
        ),
        // The caller's own deleted contact is what this RPC is for.
        "UndeleteContact" => {
            let ids = Ids {
                deleted: None,
                ..r.contact("id")
            };
            tried(
                &crm::UndeleteContactRequest {
                    id,
                    etag: String::new(),
                },
                ids,
                &[],
            )
        }
        // Ids of a new contact are set by the service.
        "CreateContact" => Some(Fixture::NothingLookedUp {
            set_aside: &["contact.id", "contact.owner_id"],
        }),
        "ListContacts" => Some(Fixture::NothingLookedUp { set_aside: &[] }),
        _ => None,
    }
}

fn reports(rpc: &str, r: &Resources) -> Option<Fixture> {
    let id = r.foreign_report.clone();
    match rpc {
        "GetReport" => tried(&worker::GetReportRequest { id }, r.report("id"), &[]),
        "DownloadReport" => tried(&worker::DownloadReportRequest { id }, r.report("id"), &[]),
        "RunReport" => Some(Fixture::NothingLookedUp { set_aside: &[] }),
        _ => None,
    }
}

fn log_in(rpc: &str, r: &Resources) -> Option<Fixture> {
    match rpc {
        // A wrong password at a tenant that exists and at one that does not.
        "Login" => {
            let request = auth::LoginRequest {
                // Another one for each pair of tenants: guesses at one account are counted.
                email: format!("{}@own.example", r.own_tenant),
                password: "a wrong password".to_owned(),
                tenant_id: r.own_tenant.clone(),
            };
            let random = TenantId::generate().to_string();
            let ids = Ids {
                field: "tenant_id",
                foreign: r.own_tenant.clone(),
                deleted: None,
                random,
            };
            tried(&request, ids, &[])
        }
        "AcceptInvitation" | "Refresh" | "Logout" | "WhoAmI" | "GetJwks" => {
            Some(Fixture::NothingLookedUp { set_aside: &[] })
        }
        _ => None,
    }
}

fn account(rpc: &str, r: &Resources) -> Option<Fixture> {
    match rpc {
        "RevokeSession" => {
            let session_id = r.foreign_session.clone();
            let ids = ids("session_id", &r.foreign_session, SessionId::generate().to_string());
            tried(&auth::RevokeSessionRequest { session_id }, ids, &[])
        }
        "SwitchTenant" => {
            let tenant_id = r.foreign_tenant.clone();
            let ids = ids("tenant_id", &r.foreign_tenant, TenantId::generate().to_string());
            tried(&auth::SwitchTenantRequest { tenant_id }, ids, &[])
        }
        "ChangePassword" | "ChangeEmail" | "ListSessions" | "RevokeSessions" | "ListTenants" => {
            Some(Fixture::NothingLookedUp { set_aside: &[] })
        }
        _ => None,
    }
}

fn authz(rpc: &str, r: &Resources) -> Option<Fixture> {
    let user_id = r.foreign_user.clone();
    match rpc {
        "ListMemberPermissions" => {
            let request = auth::ListMemberPermissionsRequest { user_id };
            tried(&request, r.user("user_id"), &[])
        }
        "Explain" => {
            let permission = "contacts:read".to_owned();
            tried(&auth::ExplainRequest { user_id, permission }, r.user("user_id"), &[])
        }
        "Check" | "BatchCheck" => Some(Fixture::NothingLookedUp { set_aside: &[] }),
        _ => None,
    }
}

fn members(rpc: &str, r: &Resources) -> Option<Fixture> {
    let user_id = r.foreign_user.clone();
    match rpc {
        "GetMember" => tried(&auth::GetMemberRequest { user_id }, r.user("user_id"), &[]),
        "UpdateMember" => {
            let member = auth::Member {
                user_id,
                role: "manager".to_owned(),
                ..Default::default()
            };
            let request = auth::UpdateMemberRequest {
                member: Some(member),
                update_mask: mask("role"),
            };
            tried(&request, r.user("member.user_id"), &[])
        }
        "RemoveMember" => {
            let etag = String::new();
            tried(&auth::RemoveMemberRequest { user_id, etag }, r.user("user_id"), &[])
        }
        "ResendInvitation" | "RevokeInvitation" => {
            // Both messages are the invitation's id alone, under the same number.
            let invitation_id = r.foreign_invitation.clone();
            let random = InvitationId::generate().to_string();
            let ids = ids("invitation_id", &r.foreign_invitation, random);
            tried(&auth::RevokeInvitationRequest { invitation_id }, ids, &[])
        }
        "InviteMember" | "ListMembers" | "ListInvitations" => Some(Fixture::NothingLookedUp { set_aside: &[] }),
        _ => None,
    }
}

/// A service asks for a user of one tenant in the name of another; tenant, session and job are its own side.
fn internal(rpc: &str, r: &Resources) -> Option<Fixture> {
    let (tenant_id, user_id) = (r.own_tenant.clone(), r.foreign_user.clone());
    match rpc {
        "IssueJobToken" => {
            let job_id = ReportId::generate().to_string();
            let request = auth::IssueJobTokenRequest {
                job_id,
                tenant_id,
                user_id,
                platform: false,
            };
            tried(&request, r.user("user_id"), &["job_id", "tenant_id"])
        }
        "GetRecipient" => {
            let request = auth::GetRecipientRequest {
                tenant_id,
                user_id,
                platform: false,
            };
            tried(&request, r.user("user_id"), &["tenant_id"])
        }
        "GetRights" => {
            let session_id = SessionId::generate().to_string();
            let request = auth::GetRightsRequest {
                user_id,
                session_id,
                tenant_id,
                platform: false,
            };
            tried(&request, r.user("user_id"), &["session_id", "tenant_id"])
        }
        // The caller's own name for itself.
        "RenewLease" => Some(Fixture::NothingLookedUp {
            set_aside: &["instance_id"],
        }),
        // The worker mails for all tenants.
        "GetInvitationMail" | "GetAccountMail" => Some(Fixture::AllTenants),
        _ => None,
    }
}

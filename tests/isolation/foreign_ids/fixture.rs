//! How each RPC is tried with ids that are not the caller's: one function a service.

mod auth_service;

use anyhow::Result;
use prost::Message;
use rowhouse_devkit::journey;
use rowhouse_proto::auth::v1 as auth;
use rowhouse_proto::crm::v1 as crm;
use rowhouse_proto::well_known::FieldMask;
use rowhouse_proto::worker::v1 as worker;
use rowhouse_types::{
    ApiKeyId, ContactId, InvitationId, ReportId, ServiceAccountId, SessionId, TeamId, TenantId, UserId,
};

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
    /// Whether the field may be left empty.
    pub(super) may_be_empty: bool,
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
    foreign_team: String,
    foreign_robot: String,
    foreign_key: String,
    own_team: String,
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
        let (foreign_robot, foreign_key) = robot(other).await?;
        Ok(Self {
            foreign_team: team(other).await?,
            foreign_robot,
            foreign_key,
            own_team: team(own).await?,
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
            foreign_team: TeamId::generate().to_string(),
            foreign_robot: ServiceAccountId::generate().to_string(),
            foreign_key: ApiKeyId::generate().to_string(),
            own_team: TeamId::generate().to_string(),
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
            may_be_empty: false,
        }
    }

    fn user(&self, field: &'static str) -> Ids {
        Ids {
            field,
            foreign: self.foreign_user.clone(),
            deleted: None,
            random: UserId::generate().to_string(),
            may_be_empty: false,
        }
    }

    fn report(&self, field: &'static str) -> Ids {
        Ids {
            field,
            foreign: self.foreign_report.clone(),
            deleted: None,
            random: ReportId::generate().to_string(),
            may_be_empty: false,
        }
    }
}

/// A new team of a tenant.
async fn team(house: &House) -> Result<String> {
    let team = Some(auth::Team {
        display_name: "Canaries".to_owned(),
        ..auth::Team::default()
    });
    let created = house
        .administrator
        .caller
        .teams()
        .create_team(auth::CreateTeamRequest { team })
        .await?;
    Ok(created.into_inner().id)
}

/// A new service account of a tenant, and a key of it.
async fn robot(house: &House) -> Result<(String, String)> {
    let mut accounts = house.administrator.caller.service_accounts();
    let service_account = Some(auth::ServiceAccount {
        display_name: "Canary".to_owned(),
        role: "user".to_owned(),
        ..auth::ServiceAccount::default()
    });
    let created = accounts
        .create_service_account(auth::CreateServiceAccountRequest { service_account })
        .await?;
    let id = created.into_inner().id;
    let key = auth::CreateApiKeyRequest {
        service_account_id: id.clone(),
        lifetime_days: 1,
    };
    let key = accounts.create_api_key(key).await?.into_inner();
    Ok((id, key.api_key.unwrap_or_default().id))
}

/// A field that holds another tenant's `foreign`.
fn ids(field: &'static str, foreign: &str, random: String) -> Ids {
    Ids {
        field,
        foreign: foreign.to_owned(),
        deleted: None,
        random,
        may_be_empty: false,
    }
}

/// The fixture of an RPC; `None` for one that nobody has thought about.
pub(super) fn fixture(path: &str, r: &Resources) -> Option<Fixture> {
    let (service, rpc) = path.strip_prefix("/rowhouse.")?.split_once('/')?;
    match service {
        "crm.v1.ContactService" => contacts(rpc, r),
        "worker.v1.ReportService" => reports(rpc, r),
        "auth.v1.AuthService" => auth_service::log_in(rpc, r),
        "auth.v1.AccountService" => auth_service::account(rpc, r),
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
        // Whose log it is, the token says; entries and seals go by numbers within it.
        "auth.v1.AuditService" => match rpc {
            "ListAuditEntries" | "VerifyAuditLog" | "ExportAuditLog" => {
                Some(Fixture::NothingLookedUp { set_aside: &[] })
            }
            _ => None,
        },
        // A place in the order of ids, compared and not looked up: services/crm tests that another tenant's names nothing.
        "common.v1.AuditLogService" => match rpc {
            "ListLogEntries" => Some(Fixture::NothingLookedUp {
                set_aside: &["before_id"],
            }),
            "ListLogSeals" | "ListUnsealedEntries" => Some(Fixture::NothingLookedUp { set_aside: &[] }),
            _ => None,
        },
        "auth.v1.TeamService" => auth_service::teams(rpc, r),
        "auth.v1.AuthzService" => auth_service::authz(rpc, r),
        "auth.v1.ServiceAccountService" => auth_service::service_accounts(rpc, r),
        "auth.v1.LoginPolicyService" if matches!(rpc, "GetLoginPolicy" | "UpdateLoginPolicy") => {
            Some(Fixture::NothingLookedUp { set_aside: &[] })
        }
        "auth.v1.CatalogService" if rpc == "ListPermissions" => Some(Fixture::NothingLookedUp { set_aside: &[] }),
        "auth.v1.MemberService" => auth_service::members(rpc, r),
        "auth.v1.RightsService" | "auth.v1.DelegationService" | "auth.v1.MailDataService" => {
            auth_service::internal(rpc, r)
        }
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
        "auth.v1.KeyService" => &["ListSigningKeys", "RotateSigningKey", "RevokeSigningKey"],
        "auth.v1.ImpersonationService" => &[
            "StartImpersonation",
            "RenewImpersonation",
            "EndImpersonation",
            "ListImpersonations",
        ],
        "auth.v1.OperatorService" => &["GetOperator", "ListOperators", "GrantOperator", "RevokeOperator"],
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
        "auth.v1.PlatformAuditService" => &["ListAuditEntries", "VerifyAuditLog", "ExportAuditLog"],
        "common.v1.PlatformAuditLogService" => &["ListLogEntries", "ListLogSeals", "ListUnsealedEntries"],
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
            // Whom a contact may be given to is tried by services/crm.
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
        "ReassignContacts" => {
            let request = crm::ReassignContactsRequest {
                from_owner_id: r.own_user.clone(),
                ..Default::default()
            };
            // Whose contacts are given away: services/crm tests that another tenant's member has none.
            tried(&request, r.user("to_owner_id"), &["from_owner_id"])
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

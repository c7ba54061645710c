//! How each RPC is tried with ids that are not the caller's: one function a service.

mod auth_service;

use prost::Message;
use rowhouse_proto::crm::v1 as crm;
use rowhouse_proto::well_known::FieldMask;
use rowhouse_proto::worker::v1 as worker;
use tonic::Code;

use super::resources::{Kind, Resources};

/// How an RPC is tried.
pub(super) enum Fixture {
    /// In each of these ways, one after the other. Fields set aside are set or compared by the service and look nothing up, or
    /// they are for callers who may know of every tenant; each has a reason beside it.
    Tries {
        tries: Vec<Try>,
        set_aside: &'static [&'static str],
    },
    /// None of its fields looks anything up; those that hold ids are named, each with a reason beside it.
    NothingLookedUp { set_aside: &'static [&'static str] },
    /// It is for callers who may know of every tenant: services of the suite, platform operators.
    AllTenants,
}

/// A message, one field of which is replaced by each of the ids. But for that field it is good, so that what is answered
/// depends on the id alone.
pub(super) struct Try {
    pub(super) message: Vec<u8>,
    pub(super) field: &'static str,
    /// A resource of another tenant.
    pub(super) foreign: String,
    /// A resource of the caller's own tenant that was deleted, where there is such a thing.
    pub(super) deleted: Option<String>,
    /// An id that never was.
    pub(super) random: String,
    /// What an id that never was is answered.
    pub(super) absent: Code,
    /// An id that is found, and what it is answered: whatever it is, not what an id that never was is answered.
    pub(super) own: Option<(String, Code)>,
    /// What is answered where the field is empty.
    pub(super) empty: Code,
}

// === impl Try ===

impl Try {
    /// A field that must be there and name what it looks up.
    fn new(message: &impl Message, field: &'static str, kind: &Kind) -> Self {
        Self {
            message: message.encode_to_vec(),
            field,
            foreign: kind.foreign.clone(),
            deleted: kind.deleted.clone(),
            random: (kind.random)(),
            absent: Code::NotFound,
            own: Some((kind.own.clone(), Code::Ok)),
            empty: Code::InvalidArgument,
        }
    }

    fn absent(self, absent: Code) -> Self {
        Self { absent, ..self }
    }

    fn empty(self, empty: Code) -> Self {
        Self { empty, ..self }
    }

    fn own(self, id: &str, code: Code) -> Self {
        let own = Some((id.to_owned(), code));
        Self { own, ..self }
    }
}

fn tried(tried: Try, set_aside: &'static [&'static str]) -> Option<Fixture> {
    each([tried], set_aside)
}

fn each<const N: usize>(tries: [Try; N], set_aside: &'static [&'static str]) -> Option<Fixture> {
    let tries = tries.into();
    Some(Fixture::Tries { tries, set_aside })
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
            "ListHouses",
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
            "ListHouses",
            "MigrateBatch",
            "CheckDrift",
            "SetLimits",
        ],
        _ => &[],
    };
    rpcs.contains(&rpc)
}

fn mask(field: &str) -> Option<FieldMask> {
    Some(FieldMask {
        paths: vec![field.to_owned()],
    })
}

fn contacts(rpc: &str, r: &Resources) -> Option<Fixture> {
    let (id, etag) = (r.contact.foreign.clone(), String::new());
    match rpc {
        "GetContact" => tried(Try::new(&crm::GetContactRequest { id }, "id", &r.contact), &[]),
        "UpdateContact" => {
            let contact = crm::Contact {
                id,
                display_name: "Taken over".to_owned(),
                ..Default::default()
            };
            let renamed = crm::UpdateContactRequest {
                contact: Some(contact),
                update_mask: mask("display_name"),
            };
            let contact = crm::Contact {
                id: r.contact.own.clone(),
                ..Default::default()
            };
            let given = crm::UpdateContactRequest {
                contact: Some(contact),
                update_mask: mask("owner_id"),
            };
            // Who may not own contacts is a fault of the field.
            let owner = Try::new(&given, "contact.owner_id", &r.user).absent(Code::InvalidArgument);
            each([Try::new(&renamed, "contact.id", &r.contact), owner], &[])
        }
        "DeleteContact" => {
            let request = crm::DeleteContactRequest { id, etag };
            tried(
                Try::new(&request, "id", &r.contact).own(&r.contact.spare, Code::Ok),
                &[],
            )
        }
        // The caller's own deleted contact is what this RPC is for.
        "UndeleteContact" => {
            let request = crm::UndeleteContactRequest { id, etag };
            let undeleted = Try::new(&request, "id", &r.contact).own(&r.undeleted_contact, Code::Ok);
            let deleted = None;
            tried(Try { deleted, ..undeleted }, &[])
        }
        "ReassignContacts" => {
            let request = |from: &str, to: &str| crm::ReassignContactsRequest {
                from_owner_id: from.to_owned(),
                to_owner_id: to.to_owned(),
                ..Default::default()
            };
            let to = Try::new(&request(&r.user.own, ""), "to_owner_id", &r.user);
            let to = to.absent(Code::InvalidArgument).own(&r.user.spare, Code::Ok);
            // Who never was has nothing to give; the administrator has. In the other tenant somebody has, too.
            let from = Try::new(&request("", &r.user.own), "from_owner_id", &r.user);
            let from = from.absent(Code::Ok).own(&r.user.spare, Code::Ok);
            let foreign = r.foreign_owner.clone();
            each([to, Try { foreign, ..from }], &[])
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
    let id = r.report.foreign.clone();
    match rpc {
        "GetReport" => tried(Try::new(&worker::GetReportRequest { id }, "id", &r.report), &[]),
        "DownloadReport" => tried(Try::new(&worker::DownloadReportRequest { id }, "id", &r.report), &[]),
        "RunReport" => Some(Fixture::NothingLookedUp { set_aside: &[] }),
        _ => None,
    }
}

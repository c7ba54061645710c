//! Callers of the suite: typed clients with somebody's credentials, as another service or an operator would hold them.

use anyhow::{Context as _, Result};
use rowhouse_proto::auth::v1::account_service_client::AccountServiceClient;
use rowhouse_proto::auth::v1::audit_service_client::AuditServiceClient;
use rowhouse_proto::auth::v1::auth_service_client::AuthServiceClient;
use rowhouse_proto::auth::v1::authz_service_client::AuthzServiceClient;
use rowhouse_proto::auth::v1::catalog_service_client::CatalogServiceClient;
use rowhouse_proto::auth::v1::impersonation_service_client::ImpersonationServiceClient;
use rowhouse_proto::auth::v1::key_service_client::KeyServiceClient;
use rowhouse_proto::auth::v1::login_policy_service_client::LoginPolicyServiceClient;
use rowhouse_proto::auth::v1::member_service_client::MemberServiceClient;
use rowhouse_proto::auth::v1::operator_service_client::OperatorServiceClient;
use rowhouse_proto::auth::v1::platform_audit_service_client::PlatformAuditServiceClient;
use rowhouse_proto::auth::v1::recovery_service_client::RecoveryServiceClient;
use rowhouse_proto::auth::v1::role_service_client::RoleServiceClient;
use rowhouse_proto::auth::v1::service_account_service_client::ServiceAccountServiceClient;
use rowhouse_proto::auth::v1::team_service_client::TeamServiceClient;
use rowhouse_proto::crm::v1::contact_service_client::ContactServiceClient;
use rowhouse_proto::crm::v1::export_service_client::ExportServiceClient;
use rowhouse_proto::tenant::v1::migration_service_client::MigrationServiceClient;
use rowhouse_proto::tenant::v1::plan_service_client::PlanServiceClient;
use rowhouse_proto::tenant::v1::server_service_client::ServerServiceClient;
use rowhouse_proto::tenant::v1::tenant_service_client::TenantServiceClient;
use rowhouse_proto::worker::v1::report_service_client::ReportServiceClient;
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

/// Channels to the public listeners of the four services. They connect when first used, and again when they must.
#[derive(Clone, Debug)]
pub struct Endpoints {
    /// The tenant service.
    pub tenant: Channel,
    /// The auth service.
    pub auth: Channel,
    /// The crm service.
    pub crm: Channel,
    /// The worker service.
    pub worker: Channel,
}

/// Metadata that goes with every call of one caller.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    entries: Vec<(AsciiMetadataKey, AsciiMetadataValue)>,
}

/// Somebody who calls the suite.
#[derive(Clone, Debug)]
pub struct Caller {
    endpoints: Endpoints,
    credentials: Credentials,
}

type Service = InterceptedService<Channel, Credentials>;

// === impl Endpoints ===

impl Endpoints {
    /// Channels to these URLs (`http://host:port`), in the order tenant, auth, crm, worker.
    ///
    /// # Errors
    /// When one is not a URL.
    pub fn new(tenant: &str, auth: &str, crm: &str, worker: &str) -> Result<Self> {
        let channel = |url: &str| {
            Ok::<_, anyhow::Error>(
                Endpoint::from_shared(url.to_owned())
                    .context("endpoint")?
                    .connect_lazy(),
            )
        };
        Ok(Self {
            tenant: channel(tenant)?,
            auth: channel(auth)?,
            crm: channel(crm)?,
            worker: channel(worker)?,
        })
    }
}

// === impl Credentials ===

impl Interceptor for Credentials {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        for (key, value) in &self.entries {
            request.metadata_mut().append(key.clone(), value.clone());
        }
        Ok(request)
    }
}

// === impl Caller ===

impl Caller {
    /// A caller without credentials.
    #[must_use]
    pub fn anonymous(endpoints: Endpoints) -> Self {
        Self {
            endpoints,
            credentials: Credentials::default(),
        }
    }

    /// The same caller with one more entry of metadata.
    ///
    /// # Errors
    /// When key or value cannot be metadata.
    pub fn with(&self, key: &'static str, value: &str) -> Result<Self> {
        let mut caller = self.clone();
        caller.credentials.entries.push((
            AsciiMetadataKey::from_static(key),
            value.parse().context("metadata value")?,
        ));
        Ok(caller)
    }

    /// The same endpoints with an access token.
    ///
    /// # Errors
    /// When the token cannot be metadata.
    pub fn with_token(&self, token: &str) -> Result<Self> {
        Self::anonymous(self.endpoints.clone()).with("authorization", &format!("Bearer {token}"))
    }

    /// The operator's caller, acting in a tenant.
    ///
    /// # Errors
    /// When the id or reason cannot be metadata.
    pub fn in_tenant(&self, tenant_id: &str, reason: &str) -> Result<Self> {
        self.with("x-tenant-id", tenant_id)?.with("x-reason", reason)
    }

    /// The channels.
    #[must_use]
    pub fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    /// `AuthService`.
    #[must_use]
    pub fn auth(&self) -> AuthServiceClient<Service> {
        AuthServiceClient::with_interceptor(self.endpoints.auth.clone(), self.credentials.clone())
    }

    /// `AccountService`.
    #[must_use]
    pub fn account(&self) -> AccountServiceClient<Service> {
        AccountServiceClient::with_interceptor(self.endpoints.auth.clone(), self.credentials.clone())
    }

    /// `AuditService`.
    #[must_use]
    pub fn audit(&self) -> AuditServiceClient<Service> {
        AuditServiceClient::with_interceptor(self.endpoints.auth.clone(), self.credentials.clone())
    }

    /// `PlatformAuditService`.
    #[must_use]
    pub fn platform_audit(&self) -> PlatformAuditServiceClient<Service> {
        PlatformAuditServiceClient::with_interceptor(self.endpoints.auth.clone(), self.credentials.clone())
    }

    /// `TeamService`.
    #[must_use]
    pub fn teams(&self) -> TeamServiceClient<Service> {
        TeamServiceClient::with_interceptor(self.endpoints.auth.clone(), self.credentials.clone())
    }

    /// `ImpersonationService`.
    #[must_use]
    pub fn impersonation(&self) -> ImpersonationServiceClient<Service> {
        ImpersonationServiceClient::with_interceptor(self.endpoints.auth.clone(), self.credentials.clone())
    }

    /// `OperatorService`.
    #[must_use]
    pub fn operators(&self) -> OperatorServiceClient<Service> {
        OperatorServiceClient::with_interceptor(self.endpoints.auth.clone(), self.credentials.clone())
    }

    /// `KeyService`.
    #[must_use]
    pub fn keys(&self) -> KeyServiceClient<Service> {
        KeyServiceClient::with_interceptor(self.endpoints.auth.clone(), self.credentials.clone())
    }

    /// `LoginPolicyService`.
    #[must_use]
    pub fn login_policy(&self) -> LoginPolicyServiceClient<Service> {
        LoginPolicyServiceClient::with_interceptor(self.endpoints.auth.clone(), self.credentials.clone())
    }

    /// `ServiceAccountService`.
    #[must_use]
    pub fn service_accounts(&self) -> ServiceAccountServiceClient<Service> {
        ServiceAccountServiceClient::with_interceptor(self.endpoints.auth.clone(), self.credentials.clone())
    }

    /// `RecoveryService`.
    #[must_use]
    pub fn recovery(&self) -> RecoveryServiceClient<Service> {
        RecoveryServiceClient::with_interceptor(self.endpoints.auth.clone(), self.credentials.clone())
    }

    /// `MemberService`.
    #[must_use]
    pub fn members(&self) -> MemberServiceClient<Service> {
        MemberServiceClient::with_interceptor(self.endpoints.auth.clone(), self.credentials.clone())
    }

    /// `RoleService`.
    #[must_use]
    pub fn roles(&self) -> RoleServiceClient<Service> {
        RoleServiceClient::with_interceptor(self.endpoints.auth.clone(), self.credentials.clone())
    }

    /// `AuthzService`.
    #[must_use]
    pub fn authz(&self) -> AuthzServiceClient<Service> {
        AuthzServiceClient::with_interceptor(self.endpoints.auth.clone(), self.credentials.clone())
    }

    /// `CatalogService`.
    #[must_use]
    pub fn catalog(&self) -> CatalogServiceClient<Service> {
        CatalogServiceClient::with_interceptor(self.endpoints.auth.clone(), self.credentials.clone())
    }

    /// `TenantService`.
    #[must_use]
    pub fn tenants(&self) -> TenantServiceClient<Service> {
        TenantServiceClient::with_interceptor(self.endpoints.tenant.clone(), self.credentials.clone())
    }

    /// `PlanService`.
    #[must_use]
    pub fn plans(&self) -> PlanServiceClient<Service> {
        PlanServiceClient::with_interceptor(self.endpoints.tenant.clone(), self.credentials.clone())
    }

    /// `ServerService`.
    #[must_use]
    pub fn servers(&self) -> ServerServiceClient<Service> {
        ServerServiceClient::with_interceptor(self.endpoints.tenant.clone(), self.credentials.clone())
    }

    /// `MigrationService`.
    #[must_use]
    pub fn migrations(&self) -> MigrationServiceClient<Service> {
        MigrationServiceClient::with_interceptor(self.endpoints.tenant.clone(), self.credentials.clone())
    }

    /// `ContactService`.
    #[must_use]
    pub fn contacts(&self) -> ContactServiceClient<Service> {
        ContactServiceClient::with_interceptor(self.endpoints.crm.clone(), self.credentials.clone())
    }

    /// `ExportService`: on crm's internal listener, so for a caller whose channel to crm leads there.
    #[must_use]
    pub fn exports(&self) -> ExportServiceClient<Service> {
        ExportServiceClient::with_interceptor(self.endpoints.crm.clone(), self.credentials.clone())
    }

    /// `ReportService`.
    #[must_use]
    pub fn reports(&self) -> ReportServiceClient<Service> {
        ReportServiceClient::with_interceptor(self.endpoints.worker.clone(), self.credentials.clone())
    }
}

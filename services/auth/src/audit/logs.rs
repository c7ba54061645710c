//! The logs of all services, auth's own among them.

use rowhouse_audit::log::Unsealed;
use rowhouse_audit::{AuditLog as _, Batch, ControlLog, Query};
use rowhouse_context::{Ctx, Principal, ServiceName};
use rowhouse_status::{Failure, Reason};
use rowhouse_types::TenantId;

use super::peer::RemoteLog;
use crate::error::Error;
use crate::key::Job;
use crate::state::State;

/// What is done for the caller, in the token that says so.
const JOB: &str = "audit";

/// All logs.
pub(crate) struct Logs {
    own: ControlLog,
    others: Vec<RemoteLog>,
}

/// Who reads which log of each service.
pub(crate) struct Reader {
    pub(super) ctx: Ctx,
    pub(super) whose: Whose,
}

/// Whose log.
pub(super) enum Whose {
    /// A tenant's. The token shows other services who reads it.
    Tenant { tenant: TenantId, token: String },
    /// The platform's.
    Platform,
}

// === impl Reader ===

impl Reader {
    /// The caller reads the log of the tenant that they act in.
    pub(crate) async fn of_tenant(ctx: &Ctx, state: &State) -> Result<Self, Error> {
        let tenant = ctx.tenant()?;
        let user = ctx.principal().user();
        let job = Job {
            id: JOB.to_owned(),
            service: ServiceName::Auth,
            user: user.ok_or_else(|| Error::fault("nobody reads an audit log"))?,
            tenant,
            platform: matches!(ctx.principal(), Principal::Operator { .. }),
        };
        let token = state.signer().await?.job_token(&job)?.text;
        Ok(Self {
            ctx: ctx.clone(),
            whose: Whose::Tenant { tenant, token },
        })
    }

    /// The caller reads the log of the platform.
    pub(crate) fn of_platform(ctx: &Ctx) -> Self {
        Self {
            ctx: ctx.clone(),
            whose: Whose::Platform,
        }
    }

    pub(super) fn tenant(&self) -> Option<TenantId> {
        match &self.whose {
            Whose::Tenant { tenant, .. } => Some(*tenant),
            Whose::Platform => None,
        }
    }

    /// Which services write the log that is read. What a tenant's homes hold is never about the platform.
    pub(super) fn services(&self) -> &'static [ServiceName] {
        match self.whose {
            Whose::Tenant { .. } => &ServiceName::ALL,
            Whose::Platform => &[ServiceName::Tenant, ServiceName::Auth],
        }
    }
}

// === impl Logs ===

impl Logs {
    pub(crate) fn new(own: ControlLog, others: Vec<RemoteLog>) -> Self {
        Self { own, others }
    }

    /// Entries of a service as canonical JSON, the newest first.
    pub(super) async fn page(
        &self,
        reader: &Reader,
        service: ServiceName,
        query: &Query,
    ) -> Result<Vec<String>, Failure> {
        match self.other(service)? {
            Some(other) => other.page(reader, query).await,
            None => {
                let entries = self.own.page(&reader.ctx, reader.tenant(), query).await?;
                Ok(entries.iter().map(rowhouse_audit::Entry::canonical).collect())
            }
        }
    }

    /// Some seals of a service after a number; none after the last.
    pub(super) async fn seals(&self, reader: &Reader, service: ServiceName, after: i64) -> Result<Vec<Batch>, Failure> {
        match self.other(service)? {
            Some(other) => other.seals(reader, after).await,
            None => self.own.seals(&reader.ctx, reader.tenant(), after).await,
        }
    }

    /// What a service has not sealed.
    pub(super) async fn unsealed(&self, reader: &Reader, service: ServiceName) -> Result<Unsealed, Failure> {
        match self.other(service)? {
            Some(other) => other.unsealed(reader).await,
            None => self.own.unsealed(&reader.ctx, reader.tenant()).await,
        }
    }

    fn other(&self, service: ServiceName) -> Result<Option<&RemoteLog>, Failure> {
        let other = self.others.iter().find(|other| other.service == service);
        if other.is_none() && service != ServiceName::Auth {
            return Err(Failure::internal("a service's log has no address"));
        }
        Ok(other)
    }
}

/// The service's name where it did not answer, so that the others' entries are told all the same.
pub(super) fn is_away(failure: &Failure) -> bool {
    matches!(
        failure.reason(),
        // A quota: the tenant's transactions take all that its plan allows, or reading takes too long for it.
        Reason::DependencyUnavailable | Reason::DeadlineExceeded | Reason::Overloaded | Reason::QuotaExceeded
    )
}

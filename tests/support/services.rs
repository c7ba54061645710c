//! Identities of the services, for calls to internal listeners.

use anyhow::{Context as _, Result};
use rowhouse_auth_kit::ServiceSigner;
use rowhouse_config::secret::SecretKey;
use rowhouse_context::ServiceName;
use rowhouse_devkit::caller::{Caller, Endpoints};
use rowhouse_devkit::suite::{Listener, Process, Suite};
use rowhouse_proto::auth::v1::delegation_service_client::DelegationServiceClient;
use rowhouse_proto::auth::v1::mail_data_service_client::MailDataServiceClient;
use rowhouse_proto::auth::v1::{GetInvitationMailRequest, IssueJobTokenRequest};
use rowhouse_types::ReportId;
use tonic::Request;
use tonic::transport::{Channel, Endpoint};

use crate::support::world::{Member, World};

/// A token of `caller`, good at `target`.
pub(crate) fn token(suite: &Suite, caller: ServiceName, target: ServiceName) -> Result<String> {
    let process = match caller {
        ServiceName::Tenant => Process::Tenant,
        ServiceName::Auth => Process::Auth,
        ServiceName::Crm => Process::Crm,
        ServiceName::Worker => Process::Worker,
    };
    let variables = suite.environment(process);
    let seed = variables
        .iter()
        .find(|(name, _)| name == "ROWHOUSE_SERVICE_KEY")
        .map(|(_, value)| value)
        .context("the service's key")?;
    let seed = SecretKey::from_base64(seed).context("a key of 32 bytes")?;
    Ok(ServiceSigner::new(caller, seed.expose())?.token(target)?)
}

/// A delegated token as the worker gets it for a report of a member's.
pub(crate) async fn job_token(world: &World, tenant_id: &str, member: &Member) -> Result<String> {
    let message = IssueJobTokenRequest {
        job_id: ReportId::generate().to_string(),
        tenant_id: tenant_id.to_owned(),
        user_id: member.tokens.user_id.clone(),
        platform: false,
    };
    let request = as_worker(&world.suite, message)?;
    Ok(DelegationServiceClient::new(auth(&world.suite)?)
        .issue_job_token(request)
        .await?
        .into_inner()
        .access_token)
}

/// The worker at a report of a member's: it reaches crm where services do, as itself and for the member. Its own token is good
/// for a minute.
pub(crate) async fn job(world: &World, tenant_id: &str, member: &Member) -> Result<Caller> {
    let crm = Endpoint::from_shared(world.suite.url(Process::Crm, Listener::Internal))?.connect_lazy();
    let endpoints = Endpoints {
        crm,
        ..world.anyone.endpoints().clone()
    };
    Caller::anonymous(endpoints)
        .with_token(&job_token(world, tenant_id, member).await?)?
        .with(
            "x-service-authorization",
            &token(&world.suite, ServiceName::Worker, ServiceName::Crm)?,
        )?
        .with("x-tenant-id", tenant_id)
}

/// The token in the link of an invitation's mail, as the worker gets it.
pub(crate) async fn invitation_token(suite: &Suite, invitation_id: &str) -> Result<String> {
    let message = GetInvitationMailRequest {
        invitation_id: invitation_id.to_owned(),
    };
    let request = as_worker(suite, message)?;
    Ok(MailDataServiceClient::new(auth(suite)?)
        .get_invitation_mail(request)
        .await?
        .into_inner()
        .token)
}

/// Auth's internal listener.
fn auth(suite: &Suite) -> Result<Channel> {
    Ok(Endpoint::from_shared(suite.url(Process::Auth, Listener::Internal))?.connect_lazy())
}

fn as_worker<T>(suite: &Suite, message: T) -> Result<Request<T>> {
    let mut request = Request::new(message);
    let service = token(suite, ServiceName::Worker, ServiceName::Auth)?;
    request
        .metadata_mut()
        .insert("x-service-authorization", service.parse()?);
    Ok(request)
}

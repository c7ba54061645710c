//! The process `provision`, called over its real listener.

use std::collections::BTreeMap;
use std::time::Duration;

use rowhouse_auth_kit::{ServiceSigner, SigningKey};
use rowhouse_client::Peer;
use rowhouse_config::Secret;
use rowhouse_config::section::{Identity, Listen, Telemetry};
use rowhouse_context::{Ctx, Principal, RequestId};
use rowhouse_db::testing::MASTER_KEY;
use rowhouse_devkit::fixture::Databases;
use rowhouse_devkit::port;
use rowhouse_devkit::servers::Login;
use rowhouse_proto::common::v1 as proto;
use rowhouse_proto::common::v1::tenant_participant_service_client::TenantParticipantServiceClient;
use rowhouse_types::{OperationId, TenantId};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::*;

/// The seed of a service's identity.
fn seed(name: ServiceName) -> [u8; 32] {
    let number = ServiceName::ALL.iter().position(|one| *one == name).unwrap();
    [u8::try_from(number).unwrap(); 32]
}

fn public(seed: &[u8]) -> String {
    SigningKey::from_seed(seed).unwrap().public().to_base64url()
}

fn config(databases: &Databases, internal: u16, admin: u16) -> ProvisionConfig {
    let local = |port| format!("127.0.0.1:{port}").parse().unwrap();
    let owner_url = Secret::new(databases.data_url(Login::Owner));
    ProvisionConfig {
        listen: Listen {
            public: local(0),
            internal: local(internal),
            admin: local(admin),
            drain: Duration::from_secs(1),
            concurrency_max: 16,
            deadline_max: Duration::from_secs(30),
            trusted_hops: 0,
        },
        telemetry: Telemetry {
            filter: "off".to_owned(),
            json: true,
            otlp_endpoint: None,
        },
        identity: Identity {
            tls: None,
            key: None,
            keys: ServiceName::ALL
                .map(|name| (name.to_string(), public(&seed(name))))
                .into(),
            token_issuer: "rowhouse".to_owned(),
        },
        data_owner_urls: BTreeMap::from([("data1".to_owned(), owner_url)]),
        data_master_key: SecretKey::from_base64(MASTER_KEY),
        builds_max: 3,
    }
}

async fn prepare(
    caller: (ServiceName, [u8; 32]),
    port: u16,
    request: &proto::PrepareRequest,
) -> Result<proto::Home, Status> {
    let (name, seed) = caller;
    let signer = ServiceSigner::new(name, &seed).unwrap();
    let peer = Peer::connect(ServiceName::Crm, &format!("http://127.0.0.1:{port}"), &signer.into()).unwrap();
    let ctx = Ctx::new(
        RequestId::generate(),
        Principal::Service { name },
        None,
        Instant::now() + Duration::from_secs(30),
    );
    let mut client = TenantParticipantServiceClient::new(peer.channel());
    let answer = client.prepare(rowhouse_client::request(&ctx, request.clone())).await?;
    Ok(answer.into_inner())
}

/// The first call may come before the listener is there.
async fn prepare_once_up(
    caller: (ServiceName, [u8; 32]),
    port: u16,
    request: &proto::PrepareRequest,
) -> Result<proto::Home, Status> {
    loop {
        match prepare(caller, port, request).await {
            Err(status) if status.code() == Code::Unavailable => tokio::task::yield_now().await,
            answer => return answer,
        }
    }
}

#[tokio::test]
async fn only_the_tenant_service_is_served() {
    let databases = Databases::empty("crm_provision").await.unwrap();
    let (internal, admin) = (port::reserve().unwrap(), port::reserve().unwrap());
    let config = config(&databases, internal.port(), admin.port());
    let migrating = MigrateConfig {
        telemetry: config.telemetry.clone(),
        data_owner_urls: config.data_owner_urls.clone(),
        data_master_key: config.data_master_key.clone(),
    };
    migrate(migrating).await.unwrap();
    let provisioner = provisioner(&config.data_owner_urls, config.data_master_key.as_ref())
        .await
        .unwrap();
    let stop = CancellationToken::new();
    let serving = tokio::spawn(server(&config, &provisioner).await.unwrap().run(stop.clone()));

    let port = internal.port();
    let mut request = proto::PrepareRequest {
        tenant_id: TenantId::generate().to_string(),
        server: "data1".to_owned(),
        placement: proto::Placement::Unspecified.into(),
        operation_id: OperationId::generate().to_string(),
    };
    let tenant: (ServiceName, [u8; 32]) = (ServiceName::Tenant, seed(ServiceName::Tenant));
    let home = prepare_once_up(tenant, port, &request).await.unwrap();
    assert_eq!(
        (home.tenant_id.as_str(), home.participant.as_str()),
        (request.tenant_id.as_str(), "crm")
    );
    assert_eq!(
        (home.placement(), home.state()),
        (proto::Placement::Schema, proto::HomeState::Active)
    );
    assert_eq!(prepare(tenant, port, &request).await.unwrap(), home);

    let stranger = prepare((ServiceName::Worker, seed(ServiceName::Worker)), port, &request)
        .await
        .unwrap_err();
    assert_eq!(stranger.code(), Code::PermissionDenied);
    let liar = prepare((ServiceName::Tenant, seed(ServiceName::Worker)), port, &request)
        .await
        .unwrap_err();
    assert_eq!(liar.code(), Code::Unauthenticated);

    request.placement = i32::MAX;
    let refused = prepare(tenant, port, &request).await.unwrap_err();
    let details = refused.get_error_details();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(details.bad_request().unwrap().field_violations[0].field, "placement");

    stop.cancel();
    serving.await.unwrap().unwrap();
    provisioner.shutdown().await;
}

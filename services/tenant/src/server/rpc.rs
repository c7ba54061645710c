//! ServerService.

use rowhouse_db::paging::page_size;
use rowhouse_proto::tenant::v1 as proto;
use rowhouse_proto::tenant::v1::server_service_server::ServerService;
use rowhouse_status::Failure;
use tonic::{Request, Response, Status};

use super::actions::Servers;
use super::wire;

type Answer<T> = Result<Response<T>, Status>;

/// Serves data servers' entries in the directory.
#[derive(Debug)]
pub(crate) struct ServerRpc {
    servers: Servers,
}

// === impl ServerRpc ===

impl ServerRpc {
    pub(crate) fn new(servers: Servers) -> Self {
        Self { servers }
    }
}

#[tonic::async_trait]
impl ServerService for ServerRpc {
    async fn register_server(&self, request: Request<proto::RegisterServerRequest>) -> Answer<proto::Server> {
        let ctx = rowhouse_middleware::ctx(&request)?;
        let traits = wire::traits(request.into_inner())?;
        let server = self.servers.register(&ctx, traits).await.map_err(Failure::from)?;
        Ok(Response::new(wire::server(&server)))
    }

    async fn get_server(&self, request: Request<proto::GetServerRequest>) -> Answer<proto::Server> {
        let name = wire::name(&request.get_ref().name)?;
        let server = self.servers.get(&name).await.map_err(Failure::from)?;
        Ok(Response::new(wire::server(&server)))
    }

    async fn list_servers(&self, request: Request<proto::ListServersRequest>) -> Answer<proto::ListServersResponse> {
        let ctx = rowhouse_middleware::ctx(&request)?;
        let request = request.into_inner();
        let size = page_size(request.page_size).map_err(|fault| Failure::field("page_size", fault))?;
        let page = self.servers.list(&ctx, size, &request.page_token).await;
        let page = page.map_err(Failure::from)?;
        Ok(Response::new(proto::ListServersResponse {
            servers: page.items.iter().map(wire::server).collect(),
            next_page_token: page.next_page_token,
        }))
    }

    async fn update_server(&self, request: Request<proto::UpdateServerRequest>) -> Answer<proto::Server> {
        let ctx = rowhouse_middleware::ctx(&request)?;
        let change = wire::change(request.into_inner())?;
        let server = self.servers.update(&ctx, change).await.map_err(Failure::from)?;
        Ok(Response::new(wire::server(&server)))
    }

    async fn drain_server(&self, request: Request<proto::DrainServerRequest>) -> Answer<proto::Server> {
        let ctx = rowhouse_middleware::ctx(&request)?;
        let request = request.into_inner();
        let (name, reason) = wire::name_and_reason(&request.name, &request.reason)?;
        let server = self.servers.drain(&ctx, &name, &reason).await.map_err(Failure::from)?;
        Ok(Response::new(wire::server(&server)))
    }

    async fn activate_server(&self, request: Request<proto::ActivateServerRequest>) -> Answer<proto::Server> {
        let ctx = rowhouse_middleware::ctx(&request)?;
        let request = request.into_inner();
        let (name, reason) = wire::name_and_reason(&request.name, &request.reason)?;
        let server = self.servers.activate(&ctx, &name, &reason).await;
        Ok(Response::new(wire::server(&server.map_err(Failure::from)?)))
    }
}

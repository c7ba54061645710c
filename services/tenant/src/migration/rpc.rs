//! MigrationService.

use std::pin::Pin;

use futures_util::{Stream, StreamExt as _};
use rowhouse_db::paging::page_size;
use rowhouse_proto::tenant::v1 as proto;
use rowhouse_proto::tenant::v1::migration_service_server::MigrationService;
use rowhouse_status::Failure;
use tonic::{Request, Response, Status};

use super::actions::Migrations;
use super::wire;

type Answer<T> = Result<Response<T>, Status>;

/// Serves runs of migrations.
#[derive(Debug)]
pub(crate) struct MigrationRpc {
    migrations: Migrations,
}

// === impl MigrationRpc ===

impl MigrationRpc {
    pub(crate) fn new(migrations: Migrations) -> Self {
        Self { migrations }
    }
}

#[tonic::async_trait]
impl MigrationService for MigrationRpc {
    type WatchMigrationStream = Pin<Box<dyn Stream<Item = Result<proto::Migration, Status>> + Send>>;

    async fn plan_migration(
        &self,
        request: Request<proto::PlanMigrationRequest>,
    ) -> Answer<proto::PlanMigrationResponse> {
        let ctx = rowhouse_middleware::ctx(&request)?;
        let participant = wire::participant(&request.get_ref().participant)?;
        let fleets = self.migrations.plan(&ctx, participant).await.map_err(Failure::from)?;
        Ok(Response::new(wire::plan(fleets)))
    }

    async fn list_houses(&self, request: Request<proto::ListHousesRequest>) -> Answer<proto::ListHousesResponse> {
        let ctx = rowhouse_middleware::ctx(&request)?;
        let query = wire::house_query(request.into_inner())?;
        let page = self.migrations.list_houses(&ctx, &query).await.map_err(Failure::from)?;
        Ok(Response::new(wire::house_page(page)))
    }

    async fn start_migration(&self, request: Request<proto::StartMigrationRequest>) -> Answer<proto::Migration> {
        let ctx = rowhouse_middleware::ctx(&request)?;
        let new = wire::new_run(request.get_ref())?;
        let run = self.migrations.start(&ctx, new).await.map_err(Failure::from)?;
        Ok(Response::new(wire::migration(&run)))
    }

    async fn get_migration(&self, request: Request<proto::GetMigrationRequest>) -> Answer<proto::Migration> {
        let id = wire::id(&request.get_ref().id)?;
        let run = self.migrations.get(id).await.map_err(Failure::from)?;
        Ok(Response::new(wire::migration(&run)))
    }

    async fn list_migrations(
        &self,
        request: Request<proto::ListMigrationsRequest>,
    ) -> Answer<proto::ListMigrationsResponse> {
        let ctx = rowhouse_middleware::ctx(&request)?;
        let request = request.into_inner();
        let size = page_size(request.page_size).map_err(|fault| Failure::field("page_size", fault))?;
        let page = self.migrations.list(&ctx, size, &request.page_token).await;
        let page = page.map_err(Failure::from)?;
        Ok(Response::new(proto::ListMigrationsResponse {
            migrations: page.items.iter().map(wire::migration).collect(),
            next_page_token: page.next_page_token,
        }))
    }

    async fn pause_migration(&self, request: Request<proto::PauseMigrationRequest>) -> Answer<proto::Migration> {
        let ctx = rowhouse_middleware::ctx(&request)?;
        let (id, reason) = wire::id_and_reason(&request.get_ref().id, &request.get_ref().reason)?;
        let run = self.migrations.pause(&ctx, id, &reason).await.map_err(Failure::from)?;
        Ok(Response::new(wire::migration(&run)))
    }

    async fn resume_migration(&self, request: Request<proto::ResumeMigrationRequest>) -> Answer<proto::Migration> {
        let ctx = rowhouse_middleware::ctx(&request)?;
        let (id, reason) = wire::id_and_reason(&request.get_ref().id, &request.get_ref().reason)?;
        let run = self.migrations.resume(&ctx, id, &reason).await.map_err(Failure::from)?;
        Ok(Response::new(wire::migration(&run)))
    }

    async fn cancel_migration(&self, request: Request<proto::CancelMigrationRequest>) -> Answer<proto::Migration> {
        let ctx = rowhouse_middleware::ctx(&request)?;
        let (id, reason) = wire::id_and_reason(&request.get_ref().id, &request.get_ref().reason)?;
        let run = self.migrations.cancel(&ctx, id, &reason).await.map_err(Failure::from)?;
        Ok(Response::new(wire::migration(&run)))
    }

    async fn watch_migration(
        &self,
        request: Request<proto::WatchMigrationRequest>,
    ) -> Answer<Self::WatchMigrationStream> {
        let ctx = rowhouse_middleware::ctx(&request)?;
        let id = wire::id(&request.get_ref().id)?;
        let run = self.migrations.get(id).await.map_err(Failure::from)?;
        let runs = self.migrations.watch(&ctx, &run);
        let runs = runs.map(|run| {
            run.map(|run| wire::migration(&run))
                .map_err(|error| Failure::from(error).into())
        });
        Ok(Response::new(Box::pin(runs)))
    }

    async fn check_drift(&self, request: Request<proto::CheckDriftRequest>) -> Answer<proto::CheckDriftResponse> {
        let ctx = rowhouse_middleware::ctx(&request)?;
        let query = wire::drift_query(request.into_inner())?;
        let page = self.migrations.check_drift(&ctx, query).await.map_err(Failure::from)?;
        Ok(Response::new(wire::drift_page(page)))
    }
}

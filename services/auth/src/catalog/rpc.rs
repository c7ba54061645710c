//! `CatalogService`.

use rowhouse_proto::auth::v1 as proto;
use rowhouse_proto::auth::v1::catalog_service_server::CatalogService;
use rowhouse_proto::policy::{PERMISSIONS, Permission};
use tonic::{Request, Response, Status};

/// Serves `CatalogService`.
pub(crate) struct CatalogRpc;

#[tonic::async_trait]
impl CatalogService for CatalogRpc {
    async fn list_permissions(
        &self,
        _request: Request<proto::ListPermissionsRequest>,
    ) -> Result<Response<proto::ListPermissionsResponse>, Status> {
        Ok(Response::new(proto::ListPermissionsResponse {
            permissions: PERMISSIONS.iter().map(message).collect(),
        }))
    }
}

fn message(permission: &Permission) -> proto::Permission {
    let (resource, action) = permission.name.split_once(':').unwrap_or_default();
    proto::Permission {
        name: permission.name.to_owned(),
        resource: resource.to_owned(),
        action: action.to_owned(),
        description: permission.description.to_owned(),
        of_tenants: permission.of_tenants,
        scoped: permission.scoped,
        rpcs: permission.rpcs.iter().map(|rpc| (*rpc).to_owned()).collect(),
    }
}

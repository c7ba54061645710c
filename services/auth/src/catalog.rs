//! The catalogue of permissions: a table that is generated from the protos, and nothing of a tenant.

use rowhouse_auth_kit::Grant;
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
        rpcs: permission.rpcs.iter().map(|rpc| (*rpc).to_owned()).collect(),
    }
}

/// Whether a grant gives anything that a role of a tenant can give. One that gives nothing is a spelling mistake.
pub(crate) fn gives_something(grant: &Grant) -> bool {
    let mut of_tenants = PERMISSIONS.iter().filter(|known| known.of_tenants);
    of_tenants.any(|known| known.name.parse().is_ok_and(|permission| grant.allows(&permission)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_gives_nothing_in_a_tenant_is_told_from_what_does() {
        let gives = |text: &str| gives_something(&text.parse().unwrap());
        for something in ["contacts:read", "contacts:*", "*:read", "*:*", "roles:create"] {
            assert!(gives(something), "{something}");
        }
        for nothing in ["contact:read", "contacts:fly", "tenants:create", "servers:*", "*:purge"] {
            assert!(!gives(nothing), "{nothing}");
        }
    }
}

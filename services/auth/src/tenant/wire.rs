//! Provisioning as messages.

use rowhouse_proto::auth::v1 as proto;
use rowhouse_status::{Failure, Violations};

use super::{Access, AccessChange, Founding, TenantName};

pub(super) fn founding(request: &proto::CreateFirstAdministratorRequest) -> Result<Founding, Failure> {
    let mut violations = Violations::default();
    let tenant = violations.take("tenant_id", request.tenant_id.parse());
    let name = violations.take(
        "tenant_display_name",
        TenantName::parse_required(&request.tenant_display_name),
    );
    let email = violations.take("email", request.email.parse());
    let operation = violations.take("operation_id", request.operation_id.parse());
    let read = tenant.zip(name).zip(email.zip(operation));
    violations.finish(read.map(|((tenant, name), (email, operation))| Founding {
        tenant,
        name,
        email,
        operation,
    }))
}

pub(super) fn access_change(request: &proto::SetTenantStateRequest) -> Result<AccessChange, Failure> {
    let mut violations = Violations::default();
    let tenant = violations.take("tenant_id", request.tenant_id.parse());
    let operation = violations.take("operation_id", request.operation_id.parse());
    let access = match proto::TenantAccess::try_from(request.access) {
        Ok(proto::TenantAccess::Allowed) => Ok(Access::Allowed),
        Ok(proto::TenantAccess::Suspended) => Ok(Access::Suspended),
        Ok(proto::TenantAccess::Unspecified) | Err(_) => {
            Err("must be TENANT_ACCESS_ALLOWED or TENANT_ACCESS_SUSPENDED")
        }
    };
    let access = violations.take("access", access);
    let read = tenant.zip(operation).zip(access);
    violations.finish(read.map(|((tenant, operation), access)| AccessChange {
        tenant,
        access,
        operation,
    }))
}

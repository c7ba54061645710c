//! Provisioning as messages.

use rowhouse_proto::auth::v1 as proto;
use rowhouse_status::{Failure, Violations};
use rowhouse_types::text::ParseTextError;

use super::{Access, AccessChange, Founding, TenantName};

pub(super) fn founding(request: &proto::CreateFirstAdministratorRequest) -> Result<Founding, Failure> {
    let mut violations = Violations::default();
    let tenant = violations.take("tenant_id", request.tenant_id.parse());
    let name = violations.take("tenant_display_name", name(&request.tenant_display_name));
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

/// The tenant service has parsed it where it was entered, maybe by an older rule, and cannot send another: refused here, the tenant
/// would never come to be.
fn name(text: &str) -> Result<TenantName, ParseTextError> {
    if text.is_empty() {
        Err(ParseTextError::Empty)
    } else {
        Ok(TenantName::stored(text.to_owned()))
    }
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

#[cfg(test)]
mod tests {
    use rowhouse_types::{OperationId, TenantId};

    use super::*;

    fn read(name: &str) -> Result<Founding, Failure> {
        founding(&proto::CreateFirstAdministratorRequest {
            tenant_id: TenantId::generate().to_string(),
            tenant_display_name: name.to_owned(),
            email: "ada@acme.example".to_owned(),
            operation_id: OperationId::generate().to_string(),
        })
    }

    #[test]
    fn a_name_that_was_entered_under_an_older_rule_is_taken_as_it_is() {
        for name in ["Acme", "Acme\u{200f}", "\u{200d}"] {
            assert_eq!(read(name).unwrap().name.as_str(), name);
        }
        for name in ["Acme\u{200f}", "\u{200d}"] {
            assert!(TenantName::parse_required(name).is_err(), "the control: {name:?}");
        }
    }

    #[test]
    fn a_tenant_has_a_name() {
        let refused = read("").unwrap_err();
        assert_eq!(refused.violations()[0].field, "tenant_display_name");
    }
}

//! Orders and homes between proto and domain.

use rowhouse_context::ServiceName;
use rowhouse_db::Home;
use rowhouse_proto::common::v1 as proto;
use rowhouse_status::{Failure, Violations};
use rowhouse_types::{HomeState, OperationId, Placement, ServerName};

use super::{Order, Place};

/// Reads an order to make a home ready.
///
/// # Errors
/// Every field that is wrong; a placement that is not available among them.
pub(super) fn order(request: &proto::PrepareRequest) -> Result<Order, Failure> {
    let mut violations = Violations::default();
    let tenant = violations.take("tenant_id", request.tenant_id.parse());
    let server = violations.take("server", request.server.parse());
    let placement = violations.take("placement", read_placement(request.placement));
    let operation = violations.take("operation_id", request.operation_id.parse());
    let read = tenant.zip(server).zip(placement).zip(operation);
    let (((tenant, server), placement), operation) = violations.finish(read)?;
    Ok(Order {
        place: Place { tenant, server },
        placement,
        operation,
    })
}

/// Reads an order to build a home ahead.
///
/// # Errors
/// Every field that is wrong; a placement that is not available among them.
pub(super) fn spare(request: &proto::PrepareSpareRequest) -> Result<(Place, Placement), Failure> {
    let mut violations = Violations::default();
    let tenant = violations.take("tenant_id", request.tenant_id.parse());
    let server = violations.take("server", request.server.parse());
    let placement = violations.take("placement", read_placement(request.placement));
    let ((tenant, server), placement) = violations.finish(tenant.zip(server).zip(placement))?;
    Ok((Place { tenant, server }, placement))
}

/// Reads which home is meant.
///
/// # Errors
/// Every field that is wrong.
pub(super) fn place(tenant_id: &str, server: &str) -> Result<Place, Failure> {
    let mut violations = Violations::default();
    let tenant = violations.take("tenant_id", tenant_id.parse());
    let server = violations.take("server", server.parse());
    let (tenant, server) = violations.finish(tenant.zip(server))?;
    Ok(Place { tenant, server })
}

/// Reads which home's state is to change, and by which operation.
///
/// # Errors
/// Every field that is wrong.
pub(super) fn change(tenant_id: &str, server: &str, operation_id: &str) -> Result<(Place, OperationId), Failure> {
    let mut violations = Violations::default();
    let tenant = violations.take("tenant_id", tenant_id.parse());
    let server = violations.take("server", server.parse());
    let operation = violations.take("operation_id", operation_id.parse());
    let ((tenant, server), operation) = violations.finish(tenant.zip(server).zip(operation))?;
    Ok((Place { tenant, server }, operation))
}

/// Reads how transactions in a home are to be bounded.
///
/// # Errors
/// Every field that is wrong.
pub(super) fn limits(request: &proto::SetLimitsRequest) -> Result<(Place, OperationId, Option<i32>), Failure> {
    let mut violations = Violations::default();
    let tenant = violations.take("tenant_id", request.tenant_id.parse());
    let server = violations.take("server", request.server.parse());
    let order = violations.take("order_id", request.order_id.parse());
    if request.statement_timeout_ms.is_some_and(|timeout_ms| timeout_ms <= 0) {
        violations.add("statement_timeout_ms", "must be above 0, or absent");
    }
    let ((tenant, server), order) = violations.finish(tenant.zip(server).zip(order))?;
    Ok((Place { tenant, server }, order, request.statement_timeout_ms))
}

/// Reads which data server is meant.
///
/// # Errors
/// A violation of `server`.
pub(super) fn server(text: &str) -> Result<ServerName, Failure> {
    text.parse().map_err(|fault| Failure::field("server", fault))
}

/// Writes a home.
pub(super) fn home(home: &Home) -> proto::Home {
    proto::Home {
        tenant_id: home.tenant.to_string(),
        participant: ServiceName::Crm.to_string(),
        server: home.server.to_string(),
        placement: placement(home.placement).into(),
        generation: home.generation,
        version: home.version,
        state: match home.state {
            HomeState::Active => proto::HomeState::Active,
            HomeState::ReadOnly => proto::HomeState::ReadOnly,
            HomeState::Frozen => proto::HomeState::Frozen,
            HomeState::Spare => proto::HomeState::Spare,
        }
        .into(),
        transactions_max: None,
    }
}

/// Writes a placement.
pub(super) fn placement(placement: Placement) -> proto::Placement {
    match placement {
        Placement::Schema => proto::Placement::Schema,
        Placement::Shared => proto::Placement::Shared,
        Placement::Database => proto::Placement::Database,
    }
}

fn read_placement(number: i32) -> Result<Placement, &'static str> {
    match proto::Placement::try_from(number) {
        Ok(proto::Placement::Unspecified | proto::Placement::Schema) => Ok(Placement::Schema),
        Ok(proto::Placement::Shared) => Ok(Placement::Shared),
        Ok(proto::Placement::Database) => Ok(Placement::Database),
        Err(_) => Err("is not a known placement"),
    }
}

#[cfg(test)]
mod tests {
    use rowhouse_types::TenantId;
    use tonic::Status;
    use tonic_types::StatusExt as _;

    use super::*;

    fn fields<T>(read: Result<T, Failure>) -> Vec<String> {
        let Err(failure) = read else {
            panic!("was accepted");
        };
        let details = Status::from(failure).get_error_details();
        let violations = &details.bad_request().unwrap().field_violations;
        violations.iter().map(|violation| violation.field.clone()).collect()
    }

    #[test]
    fn known_placements_are_taken() {
        let request = |placement| proto::PrepareRequest {
            tenant_id: TenantId::generate().to_string(),
            server: "data1".to_owned(),
            placement,
            operation_id: OperationId::generate().to_string(),
        };
        for placement in [proto::Placement::Unspecified, proto::Placement::Schema] {
            assert_eq!(order(&request(placement.into())).unwrap().placement, Placement::Schema);
        }
        let shared = order(&request(proto::Placement::Shared.into())).unwrap();
        assert_eq!(shared.placement, Placement::Shared);
        let database = order(&request(proto::Placement::Database.into())).unwrap();
        assert_eq!(database.placement, Placement::Database);
        for placement in [4, -1, i32::MAX] {
            assert_eq!(fields(order(&request(placement))), ["placement"]);
        }
    }

    #[test]
    fn every_wrong_field_is_named() {
        let empty = proto::PrepareRequest::default();
        assert_eq!(fields(order(&empty)), ["tenant_id", "server", "operation_id"]);
        let empty = proto::PrepareSpareRequest {
            placement: -1,
            ..Default::default()
        };
        assert_eq!(fields(spare(&empty)), ["tenant_id", "server", "placement"]);
        for server in ["", "Data1", "data1; DROP", "a\0b", &"x".repeat(1 << 20)] {
            assert_eq!(fields(place("tenant_x", server)), ["tenant_id", "server"]);
            let wrong = fields(change("tenant_x", server, "operation_x"));
            assert_eq!(wrong, ["tenant_id", "server", "operation_id"]);
        }
    }
}

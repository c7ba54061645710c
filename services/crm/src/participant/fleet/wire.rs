//! Orders for many homes between proto and domain.

use rowhouse_context::Ctx;
use rowhouse_db::migrator::fleet::LOCK_TIMEOUT;
use rowhouse_db::{
    Batch, BatchOrder, Cohort, Drift, DriftPage, Fault, FleetVersion, HouseEntry, HousePage, HouseQuery,
};
use rowhouse_proto::common::v1 as proto;
use rowhouse_status::{Failure, Violations};
use rowhouse_types::{ServerName, TenantId, optional};
use tokio::time::Instant;

use super::{DriftQuery, Fleet};
use crate::participant::wire::placement;

/// Houses of one call at most.
const HOUSES_MAX: u32 = 500;

/// Tenants named in one call at most.
const TENANTS_MAX: usize = 1_000;

/// Longest name of a schema, in bytes.
const SCHEMA_BYTES_MAX: usize = 63;

/// Reads an order to migrate some houses of a server.
///
/// # Errors
/// Every field that is wrong.
pub(in crate::participant) fn order(
    ctx: &Ctx,
    request: &proto::MigrateBatchRequest,
) -> Result<(ServerName, BatchOrder), Failure> {
    let mut violations = Violations::default();
    let server = violations.take("server", request.server.parse::<ServerName>());
    let cohort = match request.tenant_ids.as_slice() {
        [] => violations
            .take("percent", percent(request.percent))
            .map(Cohort::Percent),
        ids => violations.take("tenant_ids", tenants(ids)).map(Cohort::Tenants),
    };
    let houses_max = violations.take("houses_max", houses_max(request.houses_max));
    let round = violations.take("round_id", request.round_id.parse().map_err(|_| "must be a UUID"));
    let read = server.zip(cohort).zip(houses_max).zip(round);
    let (((server, cohort), houses_max), round) = violations.finish(read)?;
    let order = BatchOrder {
        cohort,
        target: request.target_version,
        houses_max,
        round,
        lock_timeout: LOCK_TIMEOUT,
        // The house that is under way then is finished, and the answer must still get back.
        until: Instant::now() + ctx.time_left() / 2,
    };
    Ok((server, order))
}

/// Reads which houses to compare.
///
/// # Errors
/// Every field that is wrong.
pub(in crate::participant) fn drift_query(request: &proto::CheckDriftRequest) -> Result<DriftQuery, Failure> {
    let mut violations = Violations::default();
    let server = violations.take("server", request.server.parse());
    let after = violations.take("after", schema(&request.after));
    let houses_max = violations.take("houses_max", houses_max(request.houses_max));
    let ((server, after), houses_max) = violations.finish(server.zip(after).zip(houses_max))?;
    Ok(DriftQuery {
        server,
        after,
        houses_max,
    })
}

/// Reads which houses of a server to tell.
///
/// # Errors
/// Every field that is wrong.
pub(in crate::participant) fn house_query(
    request: &proto::ListHousesRequest,
) -> Result<(ServerName, HouseQuery), Failure> {
    let mut violations = Violations::default();
    let server = violations.take("server", request.server.parse());
    let after = violations.take("after", schema(&request.after));
    let houses_max = violations.take("houses_max", houses_max(request.houses_max));
    let tenant = violations.take("tenant_id", optional(&request.tenant_id));
    let read = server.zip(after).zip(houses_max).zip(tenant);
    let (((server, after), houses_max), tenant) = violations.finish(read)?;
    let query = HouseQuery {
        after,
        houses_max,
        tenant,
        behind_only: request.behind_only,
    };
    Ok((server, query))
}

/// Writes a server's houses by version.
pub(in crate::participant) fn description(server: &ServerName, fleet: Fleet) -> proto::DescribeFleetResponse {
    proto::DescribeFleetResponse {
        newest_version: fleet.newest,
        versions: fleet.versions.iter().map(version).collect(),
        faults: fleet.faults.into_iter().map(|of| fault(server, of)).collect(),
        older: fleet.older.map(|tenants| older(&tenants)),
        deferred_versions: fleet.deferred,
    }
}

/// Writes houses of a server with their versions.
pub(in crate::participant) fn house_page(server: &ServerName, page: HousePage) -> proto::ListHousesResponse {
    proto::ListHousesResponse {
        newest_version: page.newest,
        houses: page.houses.into_iter().map(|of| house(server, of)).collect(),
        next: page.next.unwrap_or_default(),
    }
}

/// Writes what a batch has done on a server.
pub(in crate::participant) fn batch(server: &ServerName, batch: Batch) -> proto::MigrateBatchResponse {
    proto::MigrateBatchResponse {
        migrated: i32::try_from(batch.migrated).unwrap_or(i32::MAX),
        behind: batch.census.behind,
        given_up: batch.census.given_up,
        behind_in_all: batch.census.behind_in_all,
        given_up_in_all: batch.census.given_up_in_all,
        faults: batch.faults.into_iter().map(|of| fault(server, of)).collect(),
    }
}

/// Writes what was compared.
pub(in crate::participant) fn drift_page(page: DriftPage) -> proto::CheckDriftResponse {
    proto::CheckDriftResponse {
        checked: i32::try_from(page.checked).unwrap_or(i32::MAX),
        drifts: page.drifts.into_iter().map(drift).collect(),
        next: page.next.unwrap_or_default(),
    }
}

fn percent(number: i32) -> Result<u8, &'static str> {
    let percent = u8::try_from(number).ok().filter(|percent| (1..=100).contains(percent));
    percent.ok_or("must be 1 to 100 where no tenants are named")
}

fn tenants(ids: &[String]) -> Result<Vec<TenantId>, String> {
    if ids.len() > TENANTS_MAX {
        return Err(format!("must be at most {TENANTS_MAX}"));
    }
    let parsed: Result<_, _> = ids.iter().map(|id| id.parse()).collect();
    parsed.map_err(|fault: <TenantId as std::str::FromStr>::Err| fault.to_string())
}

fn houses_max(number: i32) -> Result<u32, &'static str> {
    let houses = u32::try_from(number).ok();
    houses
        .filter(|houses| (1..=HOUSES_MAX).contains(houses))
        .ok_or("must be 1 to 500")
}

/// A place in the order of names, compared and not looked up.
fn schema(text: &str) -> Result<Option<String>, &'static str> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if text.len() > SCHEMA_BYTES_MAX || !text.chars().all(plain) {
        return Err("must be a house of the answer before");
    }
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

fn version(version: &FleetVersion) -> proto::FleetVersion {
    proto::FleetVersion {
        version: version.version,
        deferred_version: version.deferred_version,
        houses: version.houses,
        homes: version.homes,
    }
}

fn older(tenants: &[TenantId]) -> proto::OlderHomes {
    proto::OlderHomes {
        tenant_ids: tenants.iter().map(ToString::to_string).collect(),
    }
}

fn house(server: &ServerName, entry: HouseEntry) -> proto::House {
    proto::House {
        house: entry.house,
        server: server.to_string(),
        placement: placement(entry.placement).into(),
        tenant_id: entry.tenant.map(|tenant| tenant.to_string()).unwrap_or_default(),
        spare: entry.is_spare,
        homes: entry.homes,
        version: entry.version,
        deferred_version: entry.deferred_version,
        behind: entry.is_behind,
    }
}

fn fault(server: &ServerName, fault: Fault) -> proto::HouseFault {
    proto::HouseFault {
        house: fault.house,
        tenant_id: fault.tenant.map(|tenant| tenant.to_string()).unwrap_or_default(),
        version: fault.version,
        sqlstate: fault.sqlstate,
        message: fault.message,
        attempts: fault.attempts,
        given_up: fault.given_up,
        server: server.to_string(),
    }
}

fn drift(drift: Drift) -> proto::HouseDrift {
    proto::HouseDrift {
        house: drift.house,
        tenant_id: drift.tenant.map(|tenant| tenant.to_string()).unwrap_or_default(),
        version: drift.version,
        missing: drift.missing,
        surplus: drift.surplus,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rowhouse_context::{Principal, RequestId, ServiceName};

    use super::*;

    fn ctx() -> Ctx {
        let name = ServiceName::Tenant;
        let deadline = Instant::now() + Duration::from_secs(10);
        Ctx::new(RequestId::generate(), Principal::Service { name }, None, deadline)
    }

    fn fields<T>(read: Result<T, Failure>) -> Vec<String> {
        let Err(failure) = read else {
            panic!("was accepted");
        };
        let fields = failure.violations().iter().map(|violation| violation.field.clone());
        fields.collect()
    }

    #[test]
    fn every_wrong_field_is_named() {
        let wrong = proto::MigrateBatchRequest::default();
        let named = fields(order(&ctx(), &wrong));
        assert_eq!(named, ["server", "percent", "houses_max", "round_id"]);
        let wrong = proto::MigrateBatchRequest {
            tenant_ids: vec!["tenant_x".to_owned()],
            percent: 300,
            houses_max: 501,
            ..wrong
        };
        let named = fields(order(&ctx(), &wrong));
        assert_eq!(named, ["server", "tenant_ids", "houses_max", "round_id"]);
        let wrong = proto::CheckDriftRequest {
            after: "t_1'; DROP".to_owned(),
            houses_max: -1,
            ..Default::default()
        };
        assert_eq!(fields(drift_query(&wrong)), ["server", "after", "houses_max"]);
        let wrong = proto::ListHousesRequest {
            after: "t_1'; DROP".to_owned(),
            houses_max: 501,
            tenant_id: "tenant_x".to_owned(),
            ..Default::default()
        };
        assert_eq!(
            fields(house_query(&wrong)),
            ["server", "after", "houses_max", "tenant_id"]
        );
    }

    #[test]
    fn a_fault_names_the_server_that_was_asked() {
        let failed = Fault {
            house: "t_1".to_owned(),
            tenant: None,
            version: 2,
            sqlstate: "23514".to_owned(),
            message: "constraint contacts_note_check".to_owned(),
            attempts: 1,
            given_up: false,
        };
        let fleet = Fleet {
            faults: vec![failed],
            ..fleet(None)
        };
        let told = description(&"data2".parse().unwrap(), fleet).faults;
        assert_eq!(told[0].server, "data2");
    }

    fn fleet(older: Option<Vec<TenantId>>) -> Fleet {
        Fleet {
            newest: 2,
            deferred: Vec::new(),
            versions: Vec::new(),
            older,
            faults: Vec::new(),
        }
    }

    /// Whoever hears of none raises what the directory says of all.
    #[test]
    fn too_many_older_homes_are_not_told_as_none() {
        let (server, tenant) = ("data1".parse().unwrap(), TenantId::generate());
        let told = |older| description(&server, fleet(older)).older;
        assert_eq!(told(None), None);
        for tenants in [vec![], vec![tenant]] {
            let tenant_ids = tenants.iter().map(ToString::to_string).collect();
            assert_eq!(told(Some(tenants)), Some(proto::OlderHomes { tenant_ids }));
        }
    }

    #[test]
    fn percentages_are_of_a_hundred() {
        let of = |percent| proto::MigrateBatchRequest {
            server: "data1".to_owned(),
            target_version: 1,
            percent,
            houses_max: 1,
            round_id: uuid::Uuid::nil().to_string(),
            ..Default::default()
        };
        for percent in [-1, 0, 101, 300, i32::MAX] {
            assert_eq!(fields(order(&ctx(), &of(percent))), ["percent"]);
        }
        for percent in [1, 100] {
            assert!(order(&ctx(), &of(percent)).is_ok());
        }
    }
}

//! Runs of migrations between proto and domain.

use rowhouse_context::ServiceName;
use rowhouse_proto::common::v1 as common;
use rowhouse_proto::tenant::v1 as proto;
use rowhouse_proto::timestamp;
use rowhouse_status::{Failure, Violations};
use rowhouse_types::{MigrationRunId, ServerName, TenantId, optional};

use super::actions::{DriftPage, DriftQuery, Fleets, NewRun};
use super::houses::{HouseFilter, HousePage, HouseQuery};
use super::{Away, Drift, Fault, House, Plan, Progress, Run, State, Version, Wave};
use crate::tenant::Reason;
use crate::tenant::wire::placement_to_wire;

/// Waves of a run at most.
const WAVES_MAX: usize = 20;

/// Tenants of a wave at most.
const TENANTS_MAX: usize = 1_000;

/// Houses that are migrated at once on each data server: where nobody says, and at most.
const PARALLELISM_DEFAULT: u8 = 2;
pub(super) const PARALLELISM_MAX: u8 = 8;

/// Houses that may fail at most.
const FAILURE_BUDGET_MAX: i32 = 1_000_000;

/// Houses of a page: where nobody says, and at most. To compare one costs a few milliseconds.
const HOUSES_DEFAULT: u32 = 100;
const HOUSES_MAX: u32 = 500;

/// Reads a request to start a run.
///
/// # Errors
/// Every field that is wrong.
pub(super) fn new_run(request: &proto::StartMigrationRequest) -> Result<NewRun, Failure> {
    let mut violations = Violations::default();
    let participant = violations.take("participant", request.participant.parse::<ServiceName>());
    let target = violations.take("target_version", not_below_zero(request.target_version));
    let waves = waves(&mut violations, &request.waves);
    let parallelism = violations.take("parallelism", parallelism(request.parallelism));
    let budget = violations.take("failure_budget", failure_budget(request.failure_budget));
    let reason = violations.take("reason", Reason::parse_required(&request.reason));
    let request = violations.take("request_id", optional(&request.request_id));
    let read = (|| {
        Some(NewRun {
            plan: Plan {
                participant: participant?,
                target: target?,
                waves: waves?,
                parallelism: parallelism?,
                failure_budget: budget?,
            },
            reason: reason?,
            request: request?,
        })
    })();
    violations.finish(read)
}

/// Reads which run is meant.
///
/// # Errors
/// A violation of `id`.
pub(super) fn id(text: &str) -> Result<MigrationRunId, Failure> {
    text.parse().map_err(|fault| Failure::field("id", fault))
}

/// Reads which run is meant, and why an operator does something to it.
///
/// # Errors
/// Every field that is wrong.
pub(super) fn id_and_reason(id: &str, reason: &str) -> Result<(MigrationRunId, Reason), Failure> {
    let mut violations = Violations::default();
    let id = violations.take("id", id.parse());
    let reason = violations.take("reason", Reason::parse_required(reason));
    violations.finish(id.zip(reason))
}

/// Reads whose homes are meant.
///
/// # Errors
/// A violation of `participant`.
pub(super) fn participant(text: &str) -> Result<ServiceName, Failure> {
    text.parse().map_err(|fault| Failure::field("participant", fault))
}

/// Reads which houses to compare.
///
/// # Errors
/// Every field that is wrong.
pub(super) fn drift_query(request: proto::CheckDriftRequest) -> Result<DriftQuery, Failure> {
    let mut violations = Violations::default();
    let participant = violations.take("participant", request.participant.parse());
    let server = violations.take("server", request.server.parse::<ServerName>());
    let size = violations.take("page_size", house_page_size(request.page_size));
    let ((participant, server), size) = violations.finish(participant.zip(server).zip(size))?;
    Ok(DriftQuery {
        participant,
        server,
        size,
        token: request.page_token,
    })
}

/// Reads which houses to list.
///
/// # Errors
/// Every field that is wrong.
pub(super) fn house_query(request: proto::ListHousesRequest) -> Result<HouseQuery, Failure> {
    let mut violations = Violations::default();
    let participant = violations.take("participant", request.participant.parse());
    let size = violations.take("page_size", house_page_size(request.page_size));
    let server = violations.take("server", optional(&request.server));
    let tenant = violations.take("tenant_id", optional(&request.tenant_id));
    let read = participant.zip(size).zip(server).zip(tenant);
    let (((participant, size), server), tenant) = violations.finish(read)?;
    let behind_only = request.behind_only;
    Ok(HouseQuery {
        participant,
        filter: HouseFilter {
            server,
            tenant,
            behind_only,
        },
        size,
        token: request.page_token,
    })
}

/// Writes a run.
pub(super) fn migration(run: &Run) -> proto::Migration {
    let migrated = run.migrated();
    proto::Migration {
        id: run.id.to_string(),
        participant: run.plan.participant.to_string(),
        target_version: run.plan.target,
        waves: run.plan.waves.iter().map(wave).collect(),
        wave: i32::try_from(run.wave).unwrap_or(i32::MAX),
        state: state(run.state).into(),
        parallelism: i32::from(run.plan.parallelism),
        failure_budget: run.plan.failure_budget,
        planned: run.planned,
        migrated,
        failed: run.failed(),
        progress: run.progress.iter().map(|(server, of)| progress(server, of)).collect(),
        faults: run.faults.iter().cloned().map(fault).collect(),
        last_error: run.away().map(last_error).unwrap_or_default(),
        create_time: Some(timestamp(run.created_at)),
        update_time: Some(timestamp(run.updated_at)),
        end_time: run.finished_at.map(timestamp),
    }
}

/// Writes which houses are behind.
pub(super) fn plan(fleets: Fleets) -> proto::PlanMigrationResponse {
    let newest = fleets.iter().filter_map(|(_, fleet)| Some(fleet.as_ref().ok()?.newest));
    proto::PlanMigrationResponse {
        newest_version: newest.min().unwrap_or_default(),
        servers: fleets
            .into_iter()
            .map(|(server, fleet)| match fleet {
                Ok(fleet) => proto::ServerFleet {
                    server: server.to_string(),
                    versions: fleet.versions.iter().map(version).collect(),
                    faults: fleet.faults.into_iter().map(fault).collect(),
                    error: String::new(),
                },
                Err(error) => proto::ServerFleet {
                    server: server.to_string(),
                    error: error.to_string(),
                    ..proto::ServerFleet::default()
                },
            })
            .collect(),
    }
}

/// Writes houses with their versions.
pub(super) fn house_page(page: HousePage) -> proto::ListHousesResponse {
    proto::ListHousesResponse {
        houses: page.houses.into_iter().map(house).collect(),
        next_page_token: page.next_page_token,
        newest_version: page.newest.unwrap_or_default(),
        unreachable: page.unreachable.iter().map(ToString::to_string).collect(),
    }
}

/// Writes which houses differ.
pub(super) fn drift_page(page: DriftPage) -> proto::CheckDriftResponse {
    proto::CheckDriftResponse {
        checked: page.checked,
        drifts: page.drifts.into_iter().map(drift).collect(),
        next_page_token: page.next_page_token,
    }
}

/// All houses at once where none is named.
fn waves(violations: &mut Violations, waves: &[proto::MigrationWave]) -> Option<Vec<Wave>> {
    if waves.is_empty() {
        return Some(vec![Wave::Percent(100)]);
    }
    if waves.len() > WAVES_MAX {
        violations.add("waves", format!("must be at most {WAVES_MAX}"));
        return None;
    }
    let (mut read, mut percent) = (Vec::new(), 0);
    for (index, wave) in waves.iter().enumerate() {
        let wave = violations.take(format_args!("waves[{index}]"), read_wave(wave, percent))?;
        if let Wave::Percent(of) = wave {
            percent = of;
        }
        read.push(wave);
    }
    Some(read)
}

/// `above`: the last wave's percentage.
fn read_wave(wave: &proto::MigrationWave, above: u8) -> Result<Wave, &'static str> {
    match (wave.tenant_ids.as_slice(), wave.percent) {
        ([], percent) => {
            let percent = u8::try_from(percent).ok();
            let percent = percent.filter(|percent| (1..=100).contains(percent) && *percent > above);
            percent
                .map(Wave::Percent)
                .ok_or("must name tenants, or a percentage of 1 to 100 that is more than the one before")
        }
        (ids, 0) if ids.len() <= TENANTS_MAX => {
            let tenants: Result<Vec<TenantId>, _> = ids.iter().map(|id| id.parse()).collect();
            tenants.map(Wave::Tenants).map_err(|_| "must name tenants by their ids")
        }
        (_, 0) => Err("must name at most 1,000 tenants"),
        _ => Err("must name either tenants or a percentage"),
    }
}

fn not_below_zero(number: i32) -> Result<i32, &'static str> {
    (number >= 0).then_some(number).ok_or("must not be negative")
}

fn parallelism(number: i32) -> Result<u8, &'static str> {
    match u8::try_from(number) {
        Ok(0) => Ok(PARALLELISM_DEFAULT),
        Ok(parallelism) if parallelism <= PARALLELISM_MAX => Ok(parallelism),
        _ => Err("must be 1 to 8, or 0"),
    }
}

fn failure_budget(number: i32) -> Result<i32, &'static str> {
    let allowed = (0..=FAILURE_BUDGET_MAX).contains(&number);
    allowed.then_some(number).ok_or("must be 0 to 1,000,000")
}

fn house_page_size(number: i32) -> Result<u32, &'static str> {
    match u32::try_from(number) {
        Ok(0) => Ok(HOUSES_DEFAULT),
        Ok(size) => Ok(size.min(HOUSES_MAX)),
        Err(_) => Err("must not be negative"),
    }
}

fn wave(wave: &Wave) -> proto::MigrationWave {
    match wave {
        Wave::Tenants(tenants) => proto::MigrationWave {
            tenant_ids: tenants.iter().map(ToString::to_string).collect(),
            percent: 0,
        },
        Wave::Percent(percent) => proto::MigrationWave {
            tenant_ids: Vec::new(),
            percent: i32::from(*percent),
        },
    }
}

fn state(state: State) -> proto::MigrationState {
    match state {
        State::Running => proto::MigrationState::Running,
        State::Paused => proto::MigrationState::Paused,
        State::Halted => proto::MigrationState::Halted,
        State::Cancelled => proto::MigrationState::Cancelled,
        State::Done => proto::MigrationState::Done,
    }
}

fn last_error((server, away): (&str, &Away)) -> String {
    format!("{server}: {}", away.error)
}

fn progress(server: &str, progress: &Progress) -> proto::MigrationProgress {
    proto::MigrationProgress {
        server: server.to_owned(),
        behind: progress.behind,
        failed: progress.failed,
        behind_in_all: progress.behind_in_all,
        failed_in_all: progress.failed_in_any_wave(),
        away: progress.away.as_ref().map(away),
    }
}

fn away(away: &Away) -> proto::ServerAway {
    proto::ServerAway {
        since: Some(timestamp(away.since)),
        error: away.error.clone(),
    }
}

fn version(version: &Version) -> common::FleetVersion {
    common::FleetVersion {
        version: version.version,
        deferred_version: version.deferred_version,
        houses: version.houses,
        homes: version.homes,
    }
}

fn house(house: House) -> common::House {
    common::House {
        house: house.house,
        server: house.server,
        placement: house.placement.map(placement_to_wire).unwrap_or_default().into(),
        tenant_id: house.tenant,
        spare: house.is_spare,
        homes: house.homes,
        version: house.version,
        deferred_version: house.deferred_version,
        behind: house.is_behind,
    }
}

fn fault(fault: Fault) -> common::HouseFault {
    common::HouseFault {
        house: fault.house,
        tenant_id: fault.tenant,
        version: fault.version,
        sqlstate: fault.sqlstate,
        message: fault.message,
        attempts: fault.attempts,
        given_up: fault.given_up,
        server: fault.server,
    }
}

fn drift(drift: Drift) -> common::HouseDrift {
    common::HouseDrift {
        house: drift.house,
        tenant_id: drift.tenant,
        version: drift.version,
        missing: drift.missing,
        surplus: drift.surplus,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(waves: Vec<proto::MigrationWave>) -> proto::StartMigrationRequest {
        proto::StartMigrationRequest {
            participant: "crm".to_owned(),
            waves,
            reason: "a column".to_owned(),
            ..Default::default()
        }
    }

    fn percent(percent: i32) -> proto::MigrationWave {
        proto::MigrationWave {
            tenant_ids: Vec::new(),
            percent,
        }
    }

    fn canaries(tenant_ids: Vec<String>) -> proto::MigrationWave {
        proto::MigrationWave { tenant_ids, percent: 0 }
    }

    fn fields<T>(read: Result<T, Failure>) -> Vec<String> {
        let Err(failure) = read else {
            panic!("was accepted");
        };
        failure.violations().iter().map(|one| one.field.clone()).collect()
    }

    #[test]
    fn what_is_left_out_has_a_default() {
        let new = new_run(&start(Vec::new())).unwrap();
        assert_eq!(new.plan.waves, [Wave::Percent(100)]);
        assert_eq!(
            (new.plan.parallelism, new.plan.failure_budget, new.plan.target),
            (2, 0, 0)
        );
    }

    #[test]
    fn every_wrong_field_is_named() {
        let wrong = proto::StartMigrationRequest {
            participant: "nobody".to_owned(),
            target_version: -1,
            waves: vec![percent(0)],
            parallelism: 9,
            failure_budget: -1,
            reason: String::new(),
            request_id: "1".to_owned(),
        };
        let named = [
            "participant",
            "target_version",
            "waves[0]",
            "parallelism",
            "failure_budget",
            "reason",
            "request_id",
        ];
        assert_eq!(fields(new_run(&wrong)), named);
    }

    #[test]
    fn every_wrong_field_of_a_list_of_houses_is_named() {
        let wrong = proto::ListHousesRequest {
            participant: "nobody".to_owned(),
            page_size: -1,
            server: "Data1".to_owned(),
            tenant_id: "tenant_x".to_owned(),
            ..Default::default()
        };
        let named = ["participant", "page_size", "server", "tenant_id"];
        assert_eq!(fields(house_query(wrong)), named);
    }

    #[test]
    fn waves_grow() {
        let tenant = TenantId::generate().to_string();
        let good = [
            canaries(vec![tenant.clone()]),
            percent(1),
            canaries(vec![tenant.clone()]),
            percent(100),
        ];
        assert_eq!(new_run(&start(good.to_vec())).unwrap().plan.waves.len(), 4);
        let both = proto::MigrationWave {
            tenant_ids: vec![tenant.clone()],
            percent: 5,
        };
        for (waves, field) in [
            (vec![percent(101)], "waves[0]"),
            (vec![percent(-1)], "waves[0]"),
            (vec![percent(50), percent(50)], "waves[1]"),
            (vec![canaries(vec!["tenant_x".to_owned()])], "waves[0]"),
            (vec![canaries(vec![tenant; 1_001])], "waves[0]"),
            (vec![both], "waves[0]"),
            ((1..=21).map(percent).collect(), "waves"),
        ] {
            assert_eq!(fields(new_run(&start(waves))), [field]);
        }
    }

    #[test]
    fn pages_of_houses_are_bounded() {
        for (asked, got) in [(0, Ok(100)), (7, Ok(7)), (i32::MAX, Ok(500))] {
            assert_eq!(house_page_size(asked), got);
        }
        assert!(house_page_size(-1).is_err());
    }
}

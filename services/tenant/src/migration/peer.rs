//! The calls that a run makes: to the participant's `provision` process.

use std::time::Duration;

use rowhouse_client::{IdentifiedChannel, Peer};
use rowhouse_context::{Ctx, ServiceName};
use rowhouse_proto::common::v1 as common;
use rowhouse_proto::common::v1::tenant_participant_service_client::TenantParticipantServiceClient;
use rowhouse_status::{Failure, Reason};
use rowhouse_types::{ServerName, TenantId};
use tokio::time::timeout;

use super::houses::HouseFilter;
use super::{Drift, Fault, Fleet, House, Progress, Run, Version, Wave};
use crate::error::{Error, Result};
use crate::operation::peers::Peers;
use crate::tenant::wire::placement_from_wire;

/// Houses that one call migrates: enough to be worth the call, and few enough that a pause is soon in effect.
const HOUSES_MAX: i32 = 10;

/// What a call has done.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    pub(super) migrated: i32,
    pub(super) progress: Progress,
    pub(super) faults: Vec<Fault>,
}

/// Houses, compared with the template.
pub(super) struct DriftPage {
    pub(super) checked: i32,
    pub(super) drifts: Vec<Drift>,
    /// The last of them; empty when there are no more.
    pub(super) next: String,
}

/// Houses of a data server with their versions.
pub(super) struct Houses {
    /// The newest version that the participant's code has.
    pub(super) newest: i32,
    pub(super) houses: Vec<House>,
    /// The last of them; empty when there are no more.
    pub(super) next: String,
}

/// What is said of a data server that hangs.
pub(super) fn late() -> Failure {
    Failure::new(Reason::DeadlineExceeded, "the data server did not answer in time")
}

/// Counts houses by version.
///
/// `wait`: for so long at most.
pub(super) async fn describe(
    peers: &Peers,
    ctx: &Ctx,
    participant: ServiceName,
    server: &str,
    wait: Duration,
) -> Result<Fleet> {
    let request = common::DescribeFleetRequest {
        server: server.to_owned(),
    };
    let request = rowhouse_client::request(ctx, request);
    let mut client = client(peers, participant)?;
    let answer = timeout(wait, client.describe_fleet(request))
        .await
        .map_err(|_| late())?;
    let answer = answer.map_err(rowhouse_client::failure)?.into_inner();
    Ok(Fleet {
        newest: answer.newest_version,
        deferred: answer.deferred_versions,
        versions: answer.versions.iter().map(version).collect(),
        older: answer.older.as_ref().and_then(older),
        faults: answer.faults.into_iter().map(|of| fault(server, of)).collect(),
    })
}

/// Asks for houses with their versions.
pub(super) async fn houses(
    peers: &Peers,
    ctx: &Ctx,
    participant: ServiceName,
    request: common::ListHousesRequest,
) -> Result<Houses> {
    let server = request.server.clone();
    let request = rowhouse_client::request(ctx, request);
    let answer = client(peers, participant)?.list_houses(request).await;
    let answer = answer.map_err(rowhouse_client::failure)?.into_inner();
    Ok(Houses {
        newest: answer.newest_version,
        houses: answer.houses.into_iter().map(|of| house(&server, of)).collect(),
        next: answer.next,
    })
}

/// A question about the houses after one, at most so many.
pub(super) fn house_request(
    server: &ServerName,
    filter: &HouseFilter,
    after: String,
    houses_max: usize,
) -> common::ListHousesRequest {
    common::ListHousesRequest {
        server: server.to_string(),
        after,
        houses_max: i32::try_from(houses_max).unwrap_or(i32::MAX),
        tenant_id: filter.tenant.map(|tenant| tenant.to_string()).unwrap_or_default(),
        behind_only: filter.behind_only,
    }
}

/// Migrates some houses of the wave that is under way.
pub(super) async fn migrate(peers: &Peers, ctx: &Ctx, run: &Run, wave: &Wave, server: &str) -> Result<Batch> {
    let (tenant_ids, percent) = match wave {
        Wave::Tenants(tenants) => (tenants.iter().map(ToString::to_string).collect(), 0),
        Wave::Percent(percent) => (Vec::new(), i32::from(*percent)),
    };
    let request = common::MigrateBatchRequest {
        server: server.to_owned(),
        target_version: run.plan.target,
        tenant_ids,
        percent,
        houses_max: HOUSES_MAX,
        round_id: run.round.to_string(),
    };
    let request = rowhouse_client::request(ctx, request);
    let answer = client(peers, run.plan.participant)?.migrate_batch(request).await;
    let answer = answer.map_err(rowhouse_client::failure)?.into_inner();
    Ok(Batch {
        migrated: answer.migrated,
        progress: Progress {
            behind: answer.behind,
            failed: answer.given_up,
            behind_in_all: answer.behind_in_all,
            // An older participant says nothing of other waves.
            failed_in_all: answer.given_up_in_all.max(answer.given_up),
            is_unknown: false,
            away: None,
        },
        faults: answer.faults.into_iter().map(|of| fault(server, of)).collect(),
    })
}

/// Compares some houses with the template.
pub(super) async fn drift(
    peers: &Peers,
    ctx: &Ctx,
    participant: ServiceName,
    request: common::CheckDriftRequest,
) -> Result<DriftPage> {
    let request = rowhouse_client::request(ctx, request);
    let answer = client(peers, participant)?.check_drift(request).await;
    let answer = answer.map_err(rowhouse_client::failure)?.into_inner();
    Ok(DriftPage {
        checked: answer.checked,
        drifts: answer.drifts.into_iter().map(read_drift).collect(),
        next: answer.next,
    })
}

/// A question about the houses after one, at most so many.
pub(super) fn drift_request(server: &str, after: String, houses_max: u32) -> common::CheckDriftRequest {
    common::CheckDriftRequest {
        server: server.to_owned(),
        after,
        houses_max: i32::try_from(houses_max).unwrap_or(i32::MAX),
    }
}

fn client(peers: &Peers, participant: ServiceName) -> Result<TenantParticipantServiceClient<IdentifiedChannel>> {
    let peer: &Peer = peers
        .participant(participant)
        .ok_or(Error::ParticipantUnknown { participant })?;
    Ok(TenantParticipantServiceClient::new(peer.channel()))
}

fn version(version: &common::FleetVersion) -> Version {
    Version {
        version: version.version,
        deferred_version: version.deferred_version,
        houses: version.houses,
        homes: version.homes,
    }
}

/// `None` where an id is none of ours: whose home it is that is older is not known then.
fn older(older: &common::OlderHomes) -> Option<Vec<TenantId>> {
    older.tenant_ids.iter().map(|id| id.parse().ok()).collect()
}

fn house(server: &str, house: common::House) -> House {
    House {
        server: server.to_owned(),
        house: house.house,
        placement: placement_from_wire(house.placement),
        tenant: house.tenant_id,
        is_spare: house.spare,
        homes: house.homes,
        version: house.version,
        deferred_version: house.deferred_version,
        is_behind: house.behind,
    }
}

fn fault(server: &str, fault: common::HouseFault) -> Fault {
    Fault {
        server: server.to_owned(),
        house: fault.house,
        tenant: fault.tenant_id,
        version: fault.version,
        sqlstate: fault.sqlstate,
        message: fault.message,
        attempts: fault.attempts,
        given_up: fault.given_up,
    }
}

fn read_drift(drift: common::HouseDrift) -> Drift {
    Drift {
        house: drift.house,
        tenant: drift.tenant_id,
        version: drift.version,
        missing: drift.missing,
        surplus: drift.surplus,
    }
}

//! The houses of the fake participant: what it answers when they are counted, listed, and migrated in batches.

use std::collections::BTreeMap;

use rowhouse_proto::common::v1 as common;

/// The newest version that the fake participant's code has.
pub(crate) const NEWEST: i32 = 3;

/// The one version of its code that has deferred steps.
const DEFERRED: i32 = 2;

/// One house.
#[derive(Clone, Debug)]
pub(crate) struct FakeHouse {
    pub(crate) tenant: String,
    /// The data server that has it.
    pub(crate) server: &'static str,
    /// 0 to 99: a wave of more per cent takes it.
    pub(crate) bucket: i32,
    pub(crate) version: i32,
    /// Up to which version deferred steps are done.
    pub(crate) deferred: i32,
    /// Whether it cannot be migrated.
    pub(crate) is_broken: bool,
    /// The round in which it failed.
    pub(crate) failed_in: Option<String>,
    /// How often it was migrated.
    pub(crate) migrated: u32,
}

// === impl FakeHouse ===

impl FakeHouse {
    pub(crate) fn new(tenant: impl ToString, bucket: i32) -> Self {
        Self {
            tenant: tenant.to_string(),
            server: "data1",
            bucket,
            version: 1,
            deferred: 1,
            is_broken: false,
            failed_in: None,
            migrated: 0,
        }
    }

    /// The same house on another data server.
    pub(crate) fn on(mut self, server: &'static str) -> Self {
        self.server = server;
        self
    }

    /// To the newest version, with all deferred steps.
    pub(crate) fn bring_on(&mut self) {
        (self.version, self.deferred) = (NEWEST, DEFERRED);
    }

    fn is_behind(&self, target: i32) -> bool {
        self.version < target || target >= DEFERRED && self.deferred < DEFERRED
    }

    /// What it is called.
    pub(crate) fn name(&self) -> String {
        format!("house_of_{}", self.tenant)
    }

    fn line(&self) -> common::House {
        common::House {
            house: self.name(),
            server: self.server.to_owned(),
            placement: common::Placement::Schema.into(),
            tenant_id: self.tenant.clone(),
            spare: false,
            homes: 1,
            version: self.version,
            deferred_version: self.deferred,
            behind: self.is_behind(NEWEST),
        }
    }

    fn is_asked_for(&self, request: &common::MigrateBatchRequest) -> bool {
        if request.tenant_ids.is_empty() {
            self.bucket < request.percent
        } else {
            request.tenant_ids.contains(&self.tenant)
        }
    }

    fn fault(&self, target: i32) -> common::HouseFault {
        common::HouseFault {
            house: self.name(),
            tenant_id: self.tenant.clone(),
            version: target,
            sqlstate: "23514".to_owned(),
            message: "constraint notes_body_shorter".to_owned(),
            attempts: 1,
            given_up: true,
            server: self.server.to_owned(),
        }
    }
}

/// Counts a server's houses by version.
pub(super) fn describe(houses: &[FakeHouse], server: &str) -> common::DescribeFleetResponse {
    let here = || houses.iter().filter(|house| house.server == server);
    let mut counted: BTreeMap<(i32, i32), i64> = BTreeMap::new();
    for house in here() {
        *counted.entry((house.version, house.deferred)).or_default() += 1;
    }
    let versions = counted.into_iter();
    let versions = versions.map(|((version, deferred_version), houses)| common::FleetVersion {
        version,
        deferred_version,
        houses,
        homes: houses,
    });
    let newest = here().map(|house| house.version).max().unwrap_or_default();
    let older = here().filter(|house| house.version < newest);
    common::DescribeFleetResponse {
        newest_version: NEWEST,
        versions: versions.collect(),
        faults: Vec::new(),
        older: Some(common::OlderHomes {
            tenant_ids: older.map(|house| house.tenant.clone()).collect(),
        }),
        deferred_versions: vec![DEFERRED],
    }
}

/// Tells some houses of a server, by name.
pub(super) fn list(houses: &[FakeHouse], request: &common::ListHousesRequest) -> common::ListHousesResponse {
    let here = houses.iter().filter(|house| house.server == request.server);
    let wanted = here
        .filter(|house| request.tenant_id.is_empty() || house.tenant == request.tenant_id)
        .map(FakeHouse::line)
        .filter(|line| line.house > request.after && (line.behind || !request.behind_only));
    let mut lines: Vec<common::House> = wanted.collect();
    lines.sort_by(|one, other| one.house.cmp(&other.house));
    let houses_max = usize::try_from(request.houses_max).unwrap();
    let is_last = lines.len() <= houses_max;
    lines.truncate(houses_max);
    let last = lines.last().filter(|_| !is_last);
    common::ListHousesResponse {
        newest_version: NEWEST,
        next: last.map(|last| last.house.clone()).unwrap_or_default(),
        houses: lines,
    }
}

/// Migrates some houses of a server.
pub(super) fn migrate(houses: &mut [FakeHouse], request: &common::MigrateBatchRequest) -> common::MigrateBatchResponse {
    let (target, round) = (request.target_version, Some(request.round_id.clone()));
    let mut here: Vec<&mut FakeHouse> = houses
        .iter_mut()
        .filter(|house| house.server == request.server)
        .collect();
    let due = here
        .iter_mut()
        .filter(|house| house.is_behind(target) && house.is_asked_for(request) && house.failed_in != round);
    let mut migrated = 0;
    // A fake is slow: one house a call.
    for house in due.take(1) {
        if house.is_broken {
            house.failed_in.clone_from(&round);
        } else {
            (house.version, house.deferred) = (house.version.max(target), target);
            house.migrated += 1;
            migrated += 1;
        }
    }
    let behind: Vec<&FakeHouse> = here
        .iter()
        .map(|house| &**house)
        .filter(|house| house.is_behind(target))
        .collect();
    let asked: Vec<&&FakeHouse> = behind.iter().filter(|house| house.is_asked_for(request)).collect();
    let failed: Vec<&&FakeHouse> = behind.iter().filter(|house| house.failed_in == round).collect();
    let given_up = failed.iter().filter(|house| house.is_asked_for(request)).count();
    let count = |number: usize| i64::try_from(number).unwrap();
    common::MigrateBatchResponse {
        migrated,
        behind: count(asked.len()),
        given_up: count(given_up),
        behind_in_all: count(behind.len()),
        given_up_in_all: count(failed.len()),
        faults: failed.iter().map(|house| house.fault(target)).collect(),
    }
}

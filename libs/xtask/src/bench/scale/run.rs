//! One run: a PgBouncer and back ends that remember nothing yet, a warm-up, and what is measured.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rowhouse_config::Secret;
use rowhouse_context::ServiceName;
use rowhouse_db::{Lanes, Mode, OwnDatabases, Statement, TenantDb, TenantDbConfig};
use rowhouse_devkit::cluster;
use rowhouse_devkit::pooler::Pooler;
use rowhouse_devkit::servers::{LanePools, Servers};
use rowhouse_types::TenantId;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::DATABASE;
use super::home::{Body, GET, GET_SLOWLY, Homes, SERVER, ctx, master_keys, note};
use crate::bench::load::Measured;

/// Callers at once.
const CALLERS: usize = 32;
/// Connections of the callers to PgBouncer without lanes.
const CLIENT_CONNECTIONS: u32 = 32;
/// And to each lane.
const CLIENT_CONNECTIONS_PER_LANE: u32 = 4;

/// Reads of the warm-up for each pair of a back end and a home that it may serve: at random, two leave one pair in seven
/// that has not met.
const WARM_UP_ROUNDS: usize = 2;
const WARM_UP_MAX: Duration = Duration::from_secs(90);

/// When callers stop.
#[derive(Clone, Copy, Debug)]
struct Bound {
    calls: usize,
    time: Duration,
}

/// How connections are divided in a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Division {
    pub(super) pools: LanePools,
    pub(super) slots: u16,
    /// Server connections without lanes.
    pub(super) pool_size: u32,
}

/// What came of it.
pub(super) struct Ran {
    pub(super) measured: Measured,
    /// Of each back end.
    pub(super) private_mib: Vec<f64>,
}

// === impl Bound ===

impl Bound {
    fn time(time: Duration) -> Self {
        Self {
            calls: usize::MAX,
            time,
        }
    }
}

// === impl Division ===

impl Division {
    pub(super) const fn off(pool_size: u32) -> Self {
        Self {
            pools: LanePools { count: 0, pool_size: 0 },
            slots: 0,
            pool_size,
        }
    }

    pub(super) const fn on(count: u16, pool_size: u32, slots: u16) -> Self {
        Self {
            pools: LanePools { count, pool_size },
            slots,
            pool_size: 1,
        }
    }

    /// Pairs of a back end and a home that it may serve.
    fn meetings(self, homes: usize) -> usize {
        let back_ends_per_home = match self.pools {
            LanePools { count: 0, .. } => self.pool_size,
            LanePools { pool_size, .. } => 2 * pool_size,
        };
        homes * usize::try_from(back_ends_per_home).unwrap_or(usize::MAX)
    }

    async fn connect(self, pooler: &Pooler, homes: &Homes) -> Result<TenantDb> {
        let config = TenantDbConfig {
            participant: ServiceName::Crm,
            urls: BTreeMap::from([(SERVER.to_owned(), Secret::new(pooler.url().to_owned()))]),
            pool_size_max: CLIENT_CONNECTIONS,
            lanes: Lanes {
                count: self.pools.count,
                connections_per_lane_max: CLIENT_CONNECTIONS_PER_LANE,
                slots_per_tenant: self.slots,
                are_aliases: true,
            },
            own_databases: OwnDatabases::default(),
            master_keys: master_keys(),
            versions: 0..=i32::MAX,
        };
        Ok(TenantDb::connect(config, homes.directory.clone()).await?)
    }
}

/// Reads of the first `count` homes at random.
pub(super) async fn spread(
    servers: &Servers,
    homes: &Homes,
    count: usize,
    division: Division,
    duration: Duration,
) -> Result<Ran> {
    let pooler = Pooler::start_for(servers, DATABASE, division.pools, division.pool_size).await?;
    let db = division.connect(&pooler, homes).await?;
    let tenants: Arc<[TenantId]> = homes.tenants.iter().take(count).copied().collect();
    let warm_up = Bound {
        calls: division.meetings(count) * WARM_UP_ROUNDS,
        time: WARM_UP_MAX,
    };
    read(&db, &tenants, warm_up).await?;
    let measured = read(&db, &tenants, Bound::time(duration)).await?;
    let private_mib = private_mib(servers).await?;
    db.shutdown().await;
    Ok(Ran { measured, private_mib })
}

/// Reads of one home, beside one caller of the same tenant whose reads take 100 ms.
pub(super) async fn beside_a_slow_one(
    servers: &Servers,
    homes: &Homes,
    division: Division,
    duration: Duration,
) -> Result<Ran> {
    let pooler = Pooler::start_for(servers, DATABASE, division.pools, division.pool_size).await?;
    let db = division.connect(&pooler, homes).await?;
    let tenants: Arc<[TenantId]> = homes.tenants.iter().take(1).copied().collect();
    let tenant = *tenants.first().context("a home")?;
    let stop = CancellationToken::new();
    let (slow, until) = (db.clone(), stop.clone());
    let slow = tokio::spawn(async move {
        while !until.is_cancelled() {
            get(&slow, tenant, &GET_SLOWLY).await?;
        }
        anyhow::Ok(())
    });
    let measured = read(&db, &tenants, Bound::time(duration)).await;
    stop.cancel();
    slow.await??;
    let private_mib = private_mib(servers).await?;
    db.shutdown().await;
    Ok(Ran {
        measured: measured?,
        private_mib,
    })
}

async fn read(db: &TenantDb, tenants: &Arc<[TenantId]>, bound: Bound) -> Result<Measured> {
    let begun = Instant::now();
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let (db, tenants) = (db.clone(), Arc::clone(tenants));
        callers.spawn(async move {
            let mut calls = Vec::new();
            // Xorshift (Marsaglia 2003).
            let mut dice = u64::from_le_bytes(*Uuid::new_v4().as_bytes().first_chunk().context("bytes")?) | 1;
            while begun.elapsed() < bound.time && calls.len() < bound.calls / CALLERS {
                dice ^= dice << 13;
                dice ^= dice >> 7;
                dice ^= dice << 17;
                let index = usize::try_from(dice % tenants.len().max(1) as u64)?;
                let call = Instant::now();
                get(&db, *tenants.get(index).context("a home")?, &GET).await?;
                calls.push(call.elapsed());
            }
            anyhow::Ok(calls)
        });
    }
    let mut calls = Vec::new();
    while let Some(done) = callers.join_next().await {
        calls.extend(done??);
    }
    Ok(Measured::new(calls, begun.elapsed()))
}

async fn get(db: &TenantDb, tenant: TenantId, statement: &Statement<Body>) -> Result<()> {
    let mut tx = db.begin_single(&ctx(tenant), Mode::Read).await?;
    tx.fetch_one(statement, &[&note(tenant)]).await?;
    Ok(())
}

/// Memory that each back end of the application's login has for itself.
async fn private_mib(servers: &Servers) -> Result<Vec<f64>> {
    let superuser = cluster::connect(&servers.superuser_url(DATABASE)).await?;
    let rows = superuser
        .query(
            "SELECT pid FROM pg_stat_activity WHERE usename = 'rowhouse_app' AND datname = current_database()",
            &[],
        )
        .await?;
    let pids = rows.iter().map(|row| row.get::<_, i32>(0));
    pids.map(|pid| {
        let file = format!("/proc/{pid}/smaps_rollup");
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {file}"))?;
        let private = text.lines().filter(|line| line.starts_with("Private_"));
        let kib = private.filter_map(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
        Ok(kib.sum::<f64>() / 1024.0)
    })
    .collect()
}

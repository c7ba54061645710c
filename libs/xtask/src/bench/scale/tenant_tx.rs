//! Point reads of `TenantTx` alone: no service takes part. And what a tenant's slots cost it: one home that everybody reads,
//! alone and beside a caller whose reads are slow.

mod home;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rowhouse_config::Secret;
use rowhouse_context::ServiceName;
use rowhouse_db::{Lanes, Mode, OwnDatabases, Statement, TenantDb, TenantDbConfig};
use rowhouse_devkit::checkout::Checkout;
use rowhouse_devkit::cluster::{self, Kind};
use rowhouse_devkit::pooler::{Particulars, Pooler};
use rowhouse_devkit::servers::{self, Servers};
use rowhouse_devkit::settings::DATA_SERVER;
use rowhouse_devkit::stack::Stack;
use rowhouse_types::TenantId;
use tokio_util::sync::CancellationToken;

use super::division::Division;
use super::figure::{Run, Table};
use super::most;
use super::run::{Bound, Ran, at_random, beside_few, private_memory};
use crate::bench::load::Measured;
use home::{Body, GET, GET_SLOWLY, Homes, ctx, master_keys, note};

/// The database that all runs share.
const DATABASE: &str = "rowhouse_scale";
/// Connections of the callers to PgBouncer without lanes.
const CLIENT_CONNECTIONS: u32 = 32;
/// And to each lane.
const CLIENT_CONNECTIONS_PER_LANE: u32 = 4;

/// How connections are divided in the runs over many homes. Without lanes as many back ends as sixteen lanes of one.
const DIVISIONS: [Division; 4] = [
    Division::off(16),
    Division::on(16, 1, 1),
    Division::on(8, 3, 2),
    Division::on(16, 3, 2),
];

/// The same for one home: how many slots it has.
const SLOTS: [Division; 4] = [
    Division::off(16),
    Division::on(8, 2, 1),
    Division::on(8, 3, 2),
    Division::on(8, 4, 3),
];

/// Measures on servers that it starts.
///
/// `counts`: homes in each of the runs.
pub(super) async fn measure(checkout: &Checkout, stack: &Stack, counts: &[usize], duration: Duration) -> Result<()> {
    let servers = servers::start(stack).await?;
    cluster::ensure_roles(&servers).await?;
    cluster::ensure_database(&servers, DATABASE, Kind::Data, None).await?;
    let homes = Homes::build(&servers, DATABASE, most(counts)).await?;
    let mut table = Table::begin(checkout, "scale");
    let reads = async |count, division| spread(&servers, &homes, count, division, duration).await;
    beside_few(&mut table, "reads", counts, &DIVISIONS, reads).await?;
    for division in SLOTS {
        let run = |what| Run {
            what,
            homes: 1,
            division,
        };
        let alone = spread(&servers, &homes, 1, division, duration).await?;
        table.add(run("one tenant"), &alone, None)?;
        let beside = beside_a_slow_one(&servers, &homes, division, duration).await?;
        table.add(run("one tenant, a slow caller"), &beside, None)?;
    }
    Ok(())
}

/// Reads of the first `count` homes at random, through a PgBouncer and back ends that remember nothing yet.
async fn spread(servers: &Servers, homes: &Homes, count: usize, division: Division, duration: Duration) -> Result<Ran> {
    let pooler = pooler(servers, division).await?;
    let db = connect(division, &pooler, homes).await?;
    let tenants: Arc<[TenantId]> = homes.tenants.iter().take(count).copied().collect();
    read(&db, &tenants, Bound::warm_up(division, count)).await?;
    let measured = read(&db, &tenants, Bound::time(duration)).await?;
    let private = private_memory(&servers.superuser_url(DATABASE)).await?;
    db.shutdown().await;
    Ok(Ran {
        measured,
        private,
        private_written: None,
    })
}

/// Reads of one home, beside one caller of the same tenant whose reads take 100 ms.
async fn beside_a_slow_one(servers: &Servers, homes: &Homes, division: Division, duration: Duration) -> Result<Ran> {
    let pooler = pooler(servers, division).await?;
    let db = connect(division, &pooler, homes).await?;
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
    let private = private_memory(&servers.superuser_url(DATABASE)).await?;
    db.shutdown().await;
    Ok(Ran {
        measured: measured?,
        private,
        private_written: None,
    })
}

async fn pooler(servers: &Servers, division: Division) -> Result<Pooler> {
    let Division { pools, pool_size, .. } = division;
    Pooler::start_for(servers, DATABASE, pools, pool_size, &Particulars::default()).await
}

async fn connect(division: Division, pooler: &Pooler, homes: &Homes) -> Result<TenantDb> {
    let config = TenantDbConfig {
        participant: ServiceName::Crm,
        urls: BTreeMap::from([(DATA_SERVER.to_owned(), Secret::new(pooler.url().to_owned()))]),
        pool_size_max: CLIENT_CONNECTIONS,
        lanes: Lanes {
            count: division.pools.count,
            connections_per_lane_max: CLIENT_CONNECTIONS_PER_LANE,
            server_connections_per_lane: division.pools.pool_size,
            slots_per_tenant: division.slots,
            are_aliases: true,
        },
        own_databases: OwnDatabases::default(),
        master_keys: master_keys(),
        versions: 0..=i32::MAX,
    };
    Ok(TenantDb::connect(config, homes.directory.clone()).await?)
}

async fn read(db: &TenantDb, tenants: &Arc<[TenantId]>, bound: Bound) -> Result<Measured> {
    let (db, homes) = (db.clone(), Arc::clone(tenants));
    at_random(tenants.len(), bound, move |index| {
        let (db, tenant) = (db.clone(), homes.get(index).copied());
        async move { get(&db, tenant.context("a home")?, &GET).await }
    })
    .await
}

async fn get(db: &TenantDb, tenant: TenantId, statement: &Statement<Body>) -> Result<()> {
    let mut tx = db.begin_single(&ctx(tenant), Mode::Read).await?;
    tx.fetch_one(statement, &[&note(tenant)]).await?;
    Ok(())
}

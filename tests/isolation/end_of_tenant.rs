//! T26: tenants are made read-only, suspended, deleted and purged under writes, in every placement. No write is
//! committed after a change was acknowledged, nothing of the tenant stays, and nothing of its neighbours changes.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rowhouse_cache::Cache;
use rowhouse_config::Secret;
use rowhouse_devkit::torture::Torture;
use rowhouse_devkit::{cluster, journey};
use rowhouse_proto::common::v1::Placement;
use rowhouse_proto::tenant::v1::{
    DeleteTenantRequest, GetPurgeRequest, PurgeTenantRequest, ResumeTenantRequest, SetTenantReadOnlyRequest,
    SuspendTenantRequest, TenantState,
};
use rowhouse_types::TenantId;
use tokio::task::JoinSet;
use tokio_postgres::Client;

use crate::support::world::{House, PASSWORD, PLACEMENTS, World};

/// Members who write at once.
const WRITERS: usize = 4;

/// Refused attempts of each writer after a change was acknowledged.
const LATE_WRITES: i64 = 10;

/// What is kept of a purged tenant: who it was, what was done to it and by whom. Whose rights changed is kept for leases; an
/// event may still be on its way to the broker.
const KEPT: [&str; 14] = [
    "tenant.tenants",
    "tenant.operations",
    "tenant.purges",
    "tenant.requests",
    "tenant.audit",
    "tenant.seals",
    "tenant.outbox",
    "auth.audit",
    "auth.seals",
    "auth.purges",
    "auth.right_changes",
    "worker.audit",
    "worker.seals",
    "worker.purges",
];

/// In the data database: the line that keeps the tenant's operations in order.
const KEPT_BESIDE_HOMES: &str = "rowhouse.homes";

/// How many rows of each table speak of a tenant, and their checksum.
type Picture = BTreeMap<String, (i64, String)>;

/// Members who go on writing, whatever they are answered.
struct Writers {
    tasks: JoinSet<()>,
    told: Arc<Told>,
}

/// What the writers were told, and what they are told.
#[derive(Default)]
struct Told {
    stop: AtomicBool,
    /// The change was acknowledged: what begins now comes late.
    closed: AtomicBool,
    done: AtomicI64,
    late: AtomicI64,
    refused: AtomicI64,
}

impl Writers {
    fn start(house: &House) -> Self {
        let told = Arc::new(Told::default());
        let mut tasks = JoinSet::new();
        for _ in 0..WRITERS {
            let (caller, told) = (house.user.caller.clone(), told.clone());
            tasks.spawn(async move {
                while !told.stop.load(Ordering::SeqCst) {
                    let late = told.closed.load(Ordering::SeqCst);
                    let count = match journey::create_contact(&caller, "A Contact", "").await {
                        Ok(_) if late => &told.late,
                        Ok(_) => &told.done,
                        Err(_) => &told.refused,
                    };
                    count.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        Self { tasks, told }
    }

    /// Waits until so many more were answered so.
    async fn wait_for(&self, what: &AtomicI64, more: i64) -> Result<()> {
        let goal = what.load(Ordering::SeqCst) + more;
        let reached = async {
            while what.load(Ordering::SeqCst) < goal {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), reached)
            .await
            .context("the writers stand still")
    }

    async fn end(self) {
        self.told.stop.store(true, Ordering::SeqCst);
        self.tasks.join_all().await;
    }
}

/// The URL of another database of the same server.
fn beside(url: &str, database: &str) -> Result<String> {
    let (server, _) = url.rsplit_once('/').context("a URL names its database")?;
    Ok(format!("{server}/{database}"))
}

async fn picture(url: &str, tenant: TenantId) -> Result<Picture> {
    let client = cluster::connect(url).await?;
    let tables = "SELECT format('%I.%I', table_schema, table_name) FROM information_schema.tables
        WHERE table_type = 'BASE TABLE' AND table_schema NOT IN ('pg_catalog', 'information_schema')";
    let (uuid, name, own) = (tenant.uuid().to_string(), tenant.to_string(), tenant.uuid().simple());
    let mut picture = Picture::new();
    for table in client.query(tables, &[]).await? {
        let table: String = table.get(0);
        let sql = format!(
            "SELECT count(*), coalesce(md5(string_agg(line::text, '' ORDER BY line::text)), '') FROM {table} AS line
             WHERE position('{uuid}' IN line::text) > 0 OR position('{name}' IN line::text) > 0
                 OR position('{own}' IN '{table}') > 0"
        );
        let row = client.query_one(&sql, &[]).await?;
        picture.insert(table, (row.get(0), row.get(1)));
    }
    Ok(picture)
}

/// A tenant in every database that may hold something of it.
async fn pictures(world: &World, placement: Placement, tenant: TenantId) -> Result<Picture> {
    let databases = world.suite.databases();
    let data = databases.data_superuser_url();
    let mut all = picture(&databases.control_superuser_url(), tenant).await?;
    all.extend(picture(&data, tenant).await?);
    if placement == Placement::Database {
        let own = format!("t_{}", tenant.uuid().simple());
        let own = picture(&beside(&data, &own)?, tenant).await?;
        all.extend(own.into_iter().map(|(table, rows)| (format!("own {table}"), rows)));
    }
    Ok(all)
}

/// Whether nothing waits to be published or sealed.
fn is_settled(all: &Picture) -> bool {
    let mut waiting = all
        .iter()
        .filter(|(table, _)| table.ends_with(".outbox") || table.ends_with(".unsealed"));
    waiting.all(|(_, (count, _))| *count == 0)
}

/// A tenant of which nothing is under way any more: its events are published, its log is sealed and its mails are sent.
async fn at_rest(world: &World, placement: Placement, tenant: TenantId) -> Result<Picture> {
    let client = cluster::connect(&world.suite.databases().control_superuser_url()).await?;
    let open = "SELECT count(*) FROM worker.mails WHERE state = 'open'";
    let resting = async {
        loop {
            let all = pictures(world, placement, tenant).await?;
            let open: i64 = client.query_one(open, &[]).await?.get(0);
            if is_settled(&all) && open == 0 {
                return Ok(all);
            }
        }
    };
    let bounded = tokio::time::timeout(journey::BACKGROUND_MAX, resting).await;
    bounded.context("a tenant does not come to rest")?
}

/// Counts a tenant's committed contacts, in one statement on a connection that is there: hardly anything can be committed
/// between an acknowledgement and the count.
struct Count {
    client: Client,
    sql: String,
}

impl Count {
    async fn of(world: &World, house: &House) -> Result<Self> {
        let tenant: TenantId = house.tenant.id.parse()?;
        let data = world.suite.databases().data_superuser_url();
        let url = match house.tenant.placement() {
            Placement::Database => beside(&data, &format!("t_{}", tenant.uuid().simple()))?,
            _ => data,
        };
        let all = picture(&url, tenant).await?;
        let mut tables = all.into_iter();
        let holds = |(table, (count, _)): &(String, (i64, String))| table.ends_with(".contacts") && *count > 0;
        let (table, _) = tables.find(holds).context("no contacts of the tenant")?;
        let own = table.contains(&tenant.uuid().simple().to_string());
        let theirs = if own {
            String::new()
        } else {
            format!("WHERE tenant_id = '{}'", tenant.uuid())
        };
        Ok(Self {
            client: cluster::connect(&url).await?,
            sql: format!("SELECT count(*) FROM {table} {theirs}"),
        })
    }

    async fn now(&self) -> Result<i64> {
        Ok(self.client.query_one(&self.sql, &[]).await?.get(0))
    }
}

/// Orders a change under writes and looks for writes that were committed after it was acknowledged. Answers how many were
/// tried too late.
async fn under_writes(world: &World, house: &House, order: &str) -> Result<usize> {
    let count = Count::of(world, house).await?;
    let before = count.now().await?;
    let writers = Writers::start(house);
    let told = writers.told.clone();
    writers.wait_for(&told.done, 20).await?;
    let (id, reason) = (house.tenant.id.clone(), "a test".to_owned());
    let mut tenants = world.operator.tenants();
    let acknowledged = match order {
        "read-only" => {
            tenants
                .set_tenant_read_only(SetTenantReadOnlyRequest { id, reason })
                .await
        }
        "suspend" => tenants.suspend_tenant(SuspendTenantRequest { id, reason }).await,
        _ => {
            let etag = String::new();
            tenants.delete_tenant(DeleteTenantRequest { id, reason, etag }).await
        }
    };
    acknowledged?;
    told.closed.store(true, Ordering::SeqCst);
    let (done, committed) = (told.done.load(Ordering::SeqCst), count.now().await?);
    writers
        .wait_for(&told.refused, LATE_WRITES * i64::try_from(WRITERS)?)
        .await?;
    let later = count.now().await?;
    writers.end().await;
    let late = told.late.load(Ordering::SeqCst);
    ensure!(
        late == 0,
        "{late} writes that began after {order} was acknowledged succeeded"
    );
    ensure!(
        later == committed,
        "{} committed after {order} was acknowledged",
        later - committed
    );
    ensure!(
        committed - before >= done,
        "{done} writes were acknowledged and {} are there",
        committed - before
    );
    Ok(usize::try_from(told.refused.load(Ordering::SeqCst))?)
}

async fn resume(world: &World, house: &House) -> Result<()> {
    let (id, reason) = (house.tenant.id.clone(), "a test".to_owned());
    world
        .operator
        .tenants()
        .resume_tenant(ResumeTenantRequest { id, reason })
        .await?;
    Ok(())
}

/// Paths below a folder that hold a text.
fn paths_with(folder: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.to_string_lossy().contains(text) {
            found.push(path.display().to_string());
        }
        found.extend(paths_with(&path, text));
    }
    found
}

/// Schemas and databases named after a tenant.
async fn places(world: &World, tenant: TenantId) -> Result<i64> {
    let client = cluster::connect(&world.suite.databases().data_superuser_url()).await?;
    let sql = "SELECT (SELECT count(*) FROM pg_namespace WHERE position($1 IN nspname) > 0)
        + (SELECT count(*) FROM pg_database WHERE position($1 IN datname) > 0)";
    let own = tenant.uuid().simple().to_string();
    Ok(client.query_one(sql, &[&own]).await?.get(0))
}

async fn purge(world: &World, house: &House, placement: Placement) -> Result<()> {
    let tenant: TenantId = house.tenant.id.parse()?;
    let residue = |all: Picture| -> Vec<(String, i64)> {
        let mut left: Vec<_> = all.into_iter().map(|(table, (count, _))| (table, count)).collect();
        left.retain(|(table, count)| *count > 0 && !KEPT.contains(&table.as_str()) && table != KEPT_BESIDE_HOMES);
        left
    };
    // The control: the search finds the tenant as long as it is there.
    let before = residue(pictures(world, placement, tenant).await?);
    for table in [
        "auth.memberships",
        "auth.sessions",
        "auth.invitations",
        "worker.reports",
        "tenant.homes",
    ] {
        ensure!(
            before.iter().any(|(known, _)| known == table),
            "nothing in {table}: {before:?}"
        );
    }
    let files = world.suite.files();
    ensure!(!paths_with(files, &house.tenant.id).is_empty(), "no file of the report");

    let mut tenants = world.operator.tenants();
    let request = PurgeTenantRequest {
        id: house.tenant.id.clone(),
        reason: "a test".to_owned(),
        slug: house.tenant.slug.clone(),
    };
    let purged = tenants.purge_tenant(request).await?.into_inner();
    ensure!(purged.state() == TenantState::Purged, "{purged:?}");
    let cache = Cache::connect(&Secret::new(world.suite.redis_url()), world.suite.redis_prefix())?;
    ensure!(cache.purge(tenant).await == Some(0), "keys are left in Redis");

    // Not its own database any more: there must be none. What its own outbox still held was carried over, since nothing that
    // was acknowledged is lost, and goes when it is published.
    let published = async {
        loop {
            let all = pictures(world, Placement::Schema, tenant).await?;
            if is_settled(&all) {
                return anyhow::Ok(all);
            }
        }
    };
    let published = tokio::time::timeout(journey::BACKGROUND_MAX, published).await;
    let left = residue(published.context("its events are not published")??);
    ensure!(left.is_empty(), "left of {}: {left:?}", house.tenant.slug);
    ensure!(places(world, tenant).await? == 0, "a schema or a database is left");
    let left = paths_with(files, &house.tenant.id);
    ensure!(left.is_empty(), "files are left: {left:?}");
    let client = cluster::connect(&world.suite.databases().control_superuser_url()).await?;
    let people = "SELECT count(*) FROM auth.identities WHERE email LIKE '%@' || $1 || '.example'";
    let people: i64 = client.query_one(people, &[&house.tenant.slug]).await?.get(0);
    ensure!(people == 0, "{people} accounts are left");

    let record = tenants
        .get_purge(GetPurgeRequest {
            id: house.tenant.id.clone(),
        })
        .await?
        .into_inner();
    let removed = |holder: &str, kind: &str| {
        let mut found = record.removed.iter();
        found
            .find(|removal| removal.holder == holder && removal.kind == kind)
            .map_or(0, |removal| removal.count)
    };
    let counts = [
        removed("crm", "homes"),
        removed("auth", "memberships"),
        removed("auth", "accounts"),
        removed("worker", "reports"),
        removed("worker", "files"),
    ];
    // A database of its own had a login, too.
    let logins = i64::from(placement == Placement::Database);
    ensure!(
        removed("crm", "logins") == logins && removed("crm", "logins_left") == 0,
        "{record:?}"
    );
    ensure!(removed("cache", "keys") > 0, "there were keys to remove: {record:?}");
    ensure!(counts == [1, 3, 3, 1, 1] && record.finish_time.is_some(), "{record:?}");
    ensure!(journey::create_contact(&house.user.caller, "Late", "").await.is_err());
    let back = journey::log_in(&world.anyone, &house.user.email, PASSWORD, "").await;
    ensure!(back.is_err(), "somebody logs in at a purged tenant");
    Ok(())
}

#[tokio::test]
async fn no_write_after_a_change_no_residue_and_no_neighbour_changed() -> Result<()> {
    let mut torture = Torture::begin("T26", "end of a tenant");
    while torture.round().is_some() {
        round(&mut torture).await?;
    }
    Ok(())
}

async fn round(torture: &mut Torture) -> Result<()> {
    let world = World::start("end_of_tenant").await?;
    let mut neighbours = Vec::new();
    for (index, placement) in PLACEMENTS.into_iter().enumerate() {
        let house = world.house_in(placement, &format!("neighbour-{index}")).await?;
        journey::contacts(&house.administrator.caller).await?;
        let tenant: TenantId = house.tenant.id.parse()?;
        neighbours.push((house, placement, tenant));
    }
    let mut before = Vec::new();
    for (_, placement, tenant) in &neighbours {
        before.push(at_rest(&world, *placement, *tenant).await?);
    }
    for (index, placement) in PLACEMENTS.into_iter().enumerate() {
        let house = world.house_in(placement, &format!("gone-{index}")).await?;
        journey::create_contact(&house.user.caller, "The first", "").await?;
        let report = journey::run_report(&house.administrator.caller).await?;
        journey::finished_report(&house.administrator.caller, &report.id, journey::BACKGROUND_MAX).await?;
        for order in ["read-only", "suspend"] {
            torture.trials(under_writes(&world, &house, order).await?);
            resume(&world, &house).await?;
        }
        torture.trials(under_writes(&world, &house, "delete").await?);
        torture.count("tenants purged", 1);
        purge(&world, &house, placement).await?;
        // Its slug is free, and so are its members' addresses.
        let (slug, address) = (&house.tenant.slug, &house.administrator.email);
        let heir = journey::create_tenant_in(&world.operator, placement, slug, "Heir", address).await?;
        ensure!(heir.id != house.tenant.id);
    }
    for ((house, placement, tenant), before) in neighbours.iter().zip(before) {
        let after = pictures(&world, *placement, *tenant).await?;
        let changed: Vec<_> = before
            .iter()
            .filter(|(table, rows)| after.get(*table) != Some(rows))
            .collect();
        ensure!(changed.is_empty(), "{placement:?}: {changed:?}");
        // And the control: a write of its own changes the checksum.
        journey::create_contact(&house.user.caller, "One more", "").await?;
        ensure!(pictures(&world, *placement, *tenant).await? != before);
    }
    Ok(())
}

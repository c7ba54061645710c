//! T01 for the pipeline itself: tenants of every placement interleaved through a pool smaller than their number, one call in
//! four dropped at a random await point, one in ten refused by `enter`, back ends terminated all the time.
//!
//! [`naive`]: the control.

mod naive;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rowhouse_db::{Error, Home, Mode, TenantDb};
use rowhouse_devkit::torture::{Dice, Torture};
use rowhouse_types::{Placement, TenantId};
use tokio::task::JoinSet;
use tokio_postgres::Client;
use uuid::Uuid;

use self::naive::Naive;
use crate::bench::{Bench, LONG, ctx, schema, schema_of};
use crate::drops::AtMost;
use crate::notes::{INSERT, LIST};

const TENANTS: usize = 10;
const TASKS: usize = 24;
const CALLS: usize = 60;
const PLACEMENTS: [Placement; 3] = [Placement::Schema, Placement::Shared, Placement::Database];

#[derive(Default)]
struct Counts {
    answered: AtomicUsize,
    refused: AtomicUsize,
    dropped: AtomicUsize,
    lost: AtomicUsize,
    foreign: AtomicUsize,
    acknowledged: std::sync::Mutex<Vec<(TenantId, String)>>,
}

/// How calls get at a tenant's rows.
#[derive(Clone)]
enum Way {
    /// Each in a transaction that enters the tenant's home.
    Entering(TenantDb),
    /// On whatever session the pooler gives.
    Naive(Arc<Naive>),
}

/// Tenants, and where their rows are.
struct Street {
    bench: Bench,
    tenants: Vec<TenantId>,
    superuser: Client,
    /// The same in the databases of those who have one of their own.
    own: HashMap<TenantId, Client>,
    /// One that the directory remembers wrongly for ever.
    moved: TenantId,
}

/// What text of a tenant's begins with.
fn prefix(tenant: TenantId) -> String {
    format!("{}|", tenant.uuid().simple())
}

/// A text that no other is equal to, and that says whose it is.
fn canary(tenant: TenantId) -> String {
    format!("{}{}", prefix(tenant), Uuid::new_v4().simple())
}

fn count(counter: &AtomicUsize) -> usize {
    counter.load(Ordering::Relaxed)
}

// === impl Way ===

impl Way {
    async fn call(self, tenant: TenantId, write: bool, counts: Arc<Counts>) -> Result<(), Error> {
        match self {
            Self::Entering(db) => call(db, tenant, write, counts).await,
            Self::Naive(naive) => naive.call(tenant, write, &counts).await,
        }
    }
}

async fn call(db: TenantDb, tenant: TenantId, write: bool, counts: Arc<Counts>) -> Result<(), Error> {
    if write {
        let body = canary(tenant);
        let mut tx = db.begin_single(&ctx(tenant, LONG), Mode::Write).await?;
        tx.fetch_one(&INSERT, &[&Uuid::now_v7(), &body]).await?;
        counts.acknowledged.lock().unwrap().push((tenant, body));
        return Ok(());
    }
    let mut tx = db.begin(&ctx(tenant, LONG), Mode::Read).await?;
    for _ in 0..2 {
        let notes = tx.fetch_all(&LIST, &[]).await?;
        let foreign = notes
            .iter()
            .filter(|note| note.tenant != tenant.uuid() || !note.body.starts_with(&prefix(tenant)));
        counts.foreign.fetch_add(foreign.count(), Ordering::Relaxed);
    }
    tx.commit().await
}

// === impl Street ===

impl Street {
    /// Tenants in these placements, in turn.
    async fn build(name: &str, placements: &[Placement]) -> Self {
        let bench = Bench::start(name, 4).await;
        let (mut tenants, mut own) = (Vec::new(), HashMap::new());
        for placement in placements.iter().cycle().take(TENANTS) {
            let tenant = bench.tenant_in(*placement).await;
            if *placement == Placement::Database {
                own.insert(tenant, bench.superuser_of(tenant).await);
            }
            tenants.push(tenant);
        }
        let moved = bench.prepare(TenantId::generate()).await;
        bench.directory.put(Home {
            generation: 9,
            ..moved.clone()
        });
        Self {
            superuser: bench.superuser().await,
            bench,
            tenants,
            own,
            moved: moved.tenant,
        }
    }

    /// A superuser where the tenant's rows are.
    fn at(&self, tenant: TenantId) -> &Client {
        self.own.get(&tenant).unwrap_or(&self.superuser)
    }

    /// Calls of all tenants at once, of which some are dropped, while back ends are terminated. Answers what came of them, and
    /// how many back ends there were.
    async fn interleave(&self, way: &Way, calls: usize, dice: &Dice) -> (Arc<Counts>, usize) {
        let counts = Arc::<Counts>::default();
        let mut tasks = JoinSet::new();
        for task in 0..TASKS {
            let (way, tenants, moved) = (way.clone(), self.tenants.clone(), self.moved);
            tasks.spawn(work(
                way,
                tenants,
                moved,
                calls,
                dice.of_task(task),
                Arc::clone(&counts),
            ));
        }
        let mut databases: Vec<String> = self.own.keys().map(|tenant| schema(*tenant)).collect();
        databases.push(self.bench.databases.data_name().to_owned());
        let mut killed = 0;
        while let Some(ended) = {
            let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                 WHERE usename IN ('rowhouse_app', datname) AND datname = ANY ($1) ORDER BY random() LIMIT 1";
            killed += self.superuser.execute(kill, &[&databases]).await.unwrap();
            tokio::time::timeout(Duration::from_millis(40), tasks.join_next())
                .await
                .unwrap_or(Some(Ok(())))
        } {
            ended.unwrap();
        }
        (counts, usize::try_from(killed).unwrap())
    }

    /// Rows that are not where they belong.
    async fn misplaced(&self) -> i64 {
        let mut misplaced = 0;
        for tenant in &self.tenants {
            // In a shared house each row begins with its own tenant's number; in an own house all with the one.
            let home = schema_of(self.at(*tenant), *tenant).await;
            let shared = home.starts_with("pooled_");
            let sql = format!(
                "SELECT count(*) FROM {home}.notes
                 WHERE body NOT LIKE replace(tenant_id::text, '-', '') || '|%' OR (NOT $2 AND tenant_id <> $1)"
            );
            let row = self.at(*tenant).query_one(&sql, &[&tenant.uuid(), &shared]).await;
            misplaced += row.unwrap().get::<_, i64>(0);
        }
        misplaced
    }

    /// What was acknowledged is there.
    async fn has(&self, acknowledged: Vec<(TenantId, String)>) {
        for (tenant, body) in acknowledged {
            let at = self.at(tenant);
            let sql = format!(
                "SELECT count(*) FROM {}.notes WHERE tenant_id = $1 AND body = $2",
                schema_of(at, tenant).await
            );
            let row = at.query_one(&sql, &[&tenant.uuid(), &body]).await.unwrap();
            assert_eq!(row.get::<_, i64>(0), 1, "{body}");
        }
    }
}

async fn work(way: Way, tenants: Vec<TenantId>, moved: TenantId, calls: usize, mut dice: Dice, counts: Arc<Counts>) {
    for _ in 0..calls {
        let refused = dice.below(10) == 0;
        let tenant = if refused {
            moved
        } else {
            tenants[dice.below(tenants.len())]
        };
        let polls = if dice.below(4) == 0 {
            1 + dice.below(8)
        } else {
            usize::MAX
        };
        let write = dice.below(10) < 3;
        let calling = AtMost::new(way.clone().call(tenant, write, Arc::clone(&counts)), polls);
        let counter = match calling.await {
            None => &counts.dropped,
            Some(Ok(())) => {
                assert!(!refused, "a refused call was answered");
                &counts.answered
            }
            Some(Err(Error::Unavailable(_))) => &counts.lost,
            Some(Err(error)) => {
                assert!(refused && matches!(error, Error::Stale), "{error:?}");
                &counts.refused
            }
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tenants_never_meet_whatever_is_dropped_or_killed() {
    let mut torture = Torture::begin("T01", "pipeline");
    while let Some(dice) = torture.round() {
        round(&mut torture, &dice).await;
    }
}

async fn round(torture: &mut Torture, dice: &Dice) {
    let calls = torture.size(CALLS, 10 * CALLS);
    let street = Street::build("torture", &PLACEMENTS).await;
    let bench = &street.bench;
    let (counts, killed) = street.interleave(&Way::Entering(bench.db.clone()), calls, dice).await;
    for superuser in street.own.values().chain([&street.superuser]) {
        bench.until_idle(superuser).await;
    }
    torture.trials(count(&counts.answered));
    torture.count("dropped", count(&counts.dropped));
    torture.count("refused", count(&counts.refused));
    torture.count("lost", count(&counts.lost));
    torture.count("back ends killed", killed);
    assert_eq!(count(&counts.foreign), 0);
    assert!(count(&counts.answered) > TASKS * calls / 4 && count(&counts.dropped) > 0 && count(&counts.refused) > 0);
    assert!(killed > 0);
    assert_eq!(street.misplaced().await, 0);
    for tenant in &street.tenants {
        assert!(bench.list(*tenant).await.is_ok(), "the pool is of use afterwards");
    }
    let acknowledged = std::mem::take(&mut *counts.acknowledged.lock().unwrap());
    street.has(acknowledged).await;
}

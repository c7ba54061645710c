//! T01 for the pipeline itself: tenants of every placement interleaved through a pool smaller than their number, one call in
//! four dropped at a random await point, one in ten refused by `enter`, back ends terminated all the time.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rowhouse_db::{Error, Home, Mode, TenantDb};
use rowhouse_devkit::torture::{Dice, Torture};
use rowhouse_types::{Placement, TenantId};
use uuid::Uuid;

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

async fn call(db: TenantDb, tenant: TenantId, write: bool, counts: Arc<Counts>) -> Result<(), Error> {
    let prefix = format!("{}|", tenant.uuid().simple());
    if write {
        let body = format!("{prefix}{}", Uuid::new_v4().simple());
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
            .filter(|note| note.tenant != tenant.uuid() || !note.body.starts_with(&prefix));
        counts.foreign.fetch_add(foreign.count(), Ordering::Relaxed);
    }
    tx.commit().await
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
    let bench = Bench::start("torture", 4).await;
    let superuser = bench.superuser().await;
    let (mut tenants, mut own) = (Vec::new(), HashMap::new());
    let mut databases = vec![bench.databases.data_name().to_owned()];
    for number in 0..TENANTS {
        let placement = PLACEMENTS[number % PLACEMENTS.len()];
        let tenant = bench.tenant_in(placement).await;
        if placement == Placement::Database {
            own.insert(tenant, bench.superuser_of(tenant).await);
            databases.push(schema(tenant));
        }
        tenants.push(tenant);
    }
    // One that the directory remembers wrongly for ever.
    let moved = bench.prepare(TenantId::generate()).await;
    bench.directory.put(Home {
        generation: 9,
        ..moved.clone()
    });
    let counts = Arc::new(Counts::default());
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..TASKS {
        let (db, tenants, counts) = (bench.db.clone(), tenants.clone(), Arc::clone(&counts));
        let mut dice = dice.of_task(task);
        tasks.spawn(async move {
            for _ in 0..calls {
                let refused = dice.below(10) == 0;
                let tenant = if refused {
                    moved.tenant
                } else {
                    tenants[dice.below(TENANTS)]
                };
                let polls = if dice.below(4) == 0 {
                    1 + dice.below(8)
                } else {
                    usize::MAX
                };
                let calling = AtMost::new(call(db.clone(), tenant, dice.below(10) < 3, Arc::clone(&counts)), polls);
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
        });
    }
    let mut killed: u64 = 0;
    while let Some(ended) = {
        killed += superuser
            .execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                 WHERE usename IN ('rowhouse_app', datname) AND datname = ANY ($1) ORDER BY random() LIMIT 1",
                &[&databases],
            )
            .await
            .unwrap();
        tokio::time::timeout(std::time::Duration::from_millis(40), tasks.join_next())
            .await
            .unwrap_or(Some(Ok(())))
    } {
        ended.unwrap();
    }
    for superuser in own.values().chain([&superuser]) {
        bench.until_idle(superuser).await;
    }
    let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
    torture.trials(count(&counts.answered));
    torture.count("dropped", count(&counts.dropped));
    torture.count("refused", count(&counts.refused));
    torture.count("lost", count(&counts.lost));
    torture.count("back ends killed", usize::try_from(killed).unwrap());
    assert_eq!(count(&counts.foreign), 0);
    assert!(count(&counts.answered) > TASKS * calls / 4 && count(&counts.dropped) > 0 && count(&counts.refused) > 0);
    assert!(killed > 0);
    let at = |tenant: TenantId| own.get(&tenant).unwrap_or(&superuser);
    for tenant in tenants {
        misplaced(&bench, at(tenant), tenant).await;
    }
    // What was acknowledged is there.
    let acknowledged = std::mem::take(&mut *counts.acknowledged.lock().unwrap());
    for (tenant, body) in acknowledged {
        let sql = format!(
            "SELECT count(*) FROM {}.notes WHERE tenant_id = $1 AND body = $2",
            schema_of(at(tenant), tenant).await
        );
        let row = at(tenant).query_one(&sql, &[&tenant.uuid(), &body]).await.unwrap();
        assert_eq!(row.get::<_, i64>(0), 1, "{body}");
    }
}

async fn misplaced(bench: &Bench, superuser: &tokio_postgres::Client, tenant: TenantId) {
    // In a shared house each row begins with its own tenant's number; in an own house all with the one.
    let home = schema_of(superuser, tenant).await;
    let shared = home.starts_with("pooled_");
    let sql = format!(
        "SELECT count(*) FROM {home}.notes
         WHERE body NOT LIKE replace(tenant_id::text, '-', '') || '|%' OR (NOT $2 AND tenant_id <> $1)"
    );
    let row = superuser.query_one(&sql, &[&tenant.uuid(), &shared]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 0);
    assert!(bench.list(tenant).await.is_ok(), "the pool is of use afterwards");
}

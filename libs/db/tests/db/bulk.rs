//! Connections for streams and jobs: everybody meets the same few back ends there, so each of them ends after so many homes.
//!
//! Through PgBouncer, behind which a back end ends only where it is told to.

use std::collections::{BTreeMap, BTreeSet};

use metrics_exporter_prometheus::PrometheusBuilder;
use rowhouse_db::{Error, Lanes, Mode, TenantDb};
use rowhouse_types::{Placement, TenantId};
use tokio::task::JoinSet;
use tokio_postgres::{Client, SimpleQueryMessage};
use uuid::Uuid;

use crate::bench::{Bench, LONG, ctx, schema, until};
use crate::drops::AtMost;
use crate::lanes::{Replicas, list};
use crate::notes::{BACKEND, INSERT, INSERT_BY_BACKEND, INSERT_ORPHAN};

/// Transactions after which a back end ends.
const MOST: usize = 336;

/// Ways in which a transaction is committed: with the one statement that reads, with the one that writes, with the last one, alone.
const WAYS: usize = 4;

/// With one connection of each kind: what one process does one after the other meets one back end until that ends.
async fn one_at_a_time(name: &str) -> Replicas {
    let lanes = Lanes {
        count: 2,
        connections_per_lane_max: 1,
        server_connections_per_lane: 1,
        slots_per_tenant: 1,
        are_aliases: true,
    };
    Replicas::start_with(name, 1, lanes).await
}

/// A transaction, committed in another way with each number; answers which back end it met.
async fn visit(db: &TenantDb, tenant: TenantId, number: usize) -> Result<i32, Error> {
    let (ctx, id, body) = (ctx(tenant, LONG), Uuid::now_v7(), number.to_string());
    let body = body.as_str();
    match number % WAYS {
        0 => {
            let mut tx = db.begin_single(&ctx, Mode::Read).await?;
            Ok(tx.fetch_one(&BACKEND, &[]).await?.0)
        }
        1 => {
            let mut tx = db.begin_single(&ctx, Mode::Write).await?;
            Ok(tx.fetch_one(&INSERT_BY_BACKEND, &[&id, &body]).await?.0)
        }
        2 => {
            let mut tx = db.begin(&ctx, Mode::Write).await?;
            let back_end = tx.fetch_one(&BACKEND, &[]).await?.0;
            tx.commit_with_next();
            tx.fetch_one(&INSERT, &[&id, &body]).await?;
            Ok(back_end)
        }
        _ => {
            let mut tx = db.begin(&ctx, Mode::Write).await?;
            let back_end = tx.fetch_one(&INSERT_BY_BACKEND, &[&id, &body]).await?.0;
            tx.commit().await?;
            Ok(back_end)
        }
    }
}

/// Whether a transaction with this number writes a note.
fn writes(number: usize) -> bool {
    !number.is_multiple_of(WAYS)
}

/// Has the back end that is free over the alias believe that it has met so many homes.
async fn plant(app: &Client, homes: usize) {
    let set = format!("SET rowhouse.homes_met = '{homes}'");
    app.batch_execute(&set).await.unwrap();
}

/// What the back end that is free over the alias says that it has met.
async fn homes_met(app: &Client) -> String {
    word(app, "SELECT coalesce(current_setting('rowhouse.homes_met', true), '')").await
}

/// The one word that a query answers. Said in one message: while a client has more to say, PgBouncer opens another back end for
/// the next one.
async fn word(app: &Client, sql: &str) -> String {
    let answers = app.simple_query(sql).await.unwrap();
    let word = answers.iter().find_map(|answer| match answer {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    word.unwrap().to_owned()
}

async fn until_ended(superuser: &Client, back_end: i32) {
    let sql = "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1)";
    until(|| async { superuser.query_one(sql, &[&back_end]).await.unwrap().get(0) }).await;
}

async fn notes(bench: &Bench, tenant: TenantId) -> BTreeSet<String> {
    let sql = format!("SELECT body FROM {}.notes", schema(tenant));
    let rows = bench.superuser().await.query(&sql, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn a_back_end_that_everybody_meets_ends_after_so_many_homes_and_no_transaction_fails() {
    let replicas = one_at_a_time("bulk_homes").await;
    let (bench, db) = (&replicas.bench, replicas.one.bulk());
    let tenants = [
        bench.tenant().await,
        bench.tenant().await,
        bench.tenant_in(Placement::Shared).await,
    ];
    let mut met: Vec<(i32, usize)> = Vec::new();
    for number in 0..2 * MOST + 8 {
        let back_end = visit(&db, tenants[number % tenants.len()], number).await.unwrap();
        match met.last_mut() {
            Some((last, visits)) if *last == back_end => *visits += 1,
            Some(_) | None => met.push((back_end, 1)),
        }
    }
    let visits: Vec<usize> = met.iter().map(|(_, visits)| *visits).collect();
    assert_eq!(visits, [MOST, MOST, 8]);
    let superuser = bench.superuser().await;
    for (ended, _) in &met[..2] {
        until_ended(&superuser, *ended).await;
    }
}

/// The control: a back end that forgets what it has counted.
#[tokio::test]
async fn without_its_count_one_back_end_would_meet_everybody() {
    let replicas = one_at_a_time("bulk_uncounted").await;
    let (db, tenant) = (replicas.one.bulk(), replicas.bench.tenant().await);
    let app = replicas.app("bulk").await;
    let mut met = BTreeSet::new();
    for number in 0..2 * MOST {
        if number.is_multiple_of(100) {
            plant(&app, 0).await;
        }
        met.insert(visit(&db, tenant, number).await.unwrap());
    }
    assert_eq!(met.len(), 1, "{met:?}");
}

#[tokio::test]
async fn the_last_transaction_of_a_back_end_is_committed_in_whichever_way() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let _local = metrics::set_default_local_recorder(&recorder);
    let replicas = one_at_a_time("bulk_last").await;
    let (bench, db) = (&replicas.bench, replicas.one.bulk());
    let tenant = bench.tenant().await;
    let (app, superuser) = (replicas.app("bulk").await, bench.superuser().await);
    for way in 0..WAYS {
        plant(&app, MOST - 1).await;
        let last = visit(&db, tenant, way).await.unwrap();
        until_ended(&superuser, last).await;
        assert_eq!(notes(bench, tenant).await.contains(&way.to_string()), writes(way));
        assert_ne!(visit(&db, tenant, WAYS).await.unwrap(), last);
    }
    let counted = format!("rowhouse_db_retired_connections_total {WAYS}");
    let text = recorder.handle().render();
    assert!(text.lines().any(|line| line == counted), "{text}");
}

#[tokio::test]
async fn what_is_rolled_back_or_refused_is_no_back_ends_last() {
    let replicas = one_at_a_time("bulk_rolled_back").await;
    let (bench, db) = (&replicas.bench, replicas.one.bulk());
    let (tenant, frozen) = (bench.tenant().await, bench.tenant().await);
    bench.freeze(frozen).await;
    let app = replicas.app("bulk").await;
    let before = visit(&db, tenant, 0).await.unwrap();
    plant(&app, MOST - 1).await;

    assert_eq!(visit(&db, frozen, 0).await, Err(Error::TenantSuspended));
    assert_eq!(visit(&db, frozen, 2).await, Err(Error::TenantSuspended));
    // A constraint that is checked at COMMIT, which travels with the one statement, with the last one, alone.
    for way in 0..3 {
        let mut tx = db.begin(&ctx(tenant, LONG), Mode::Write).await.unwrap();
        if way == 1 {
            tx.fetch_one(&BACKEND, &[]).await.unwrap();
        }
        if way < 2 {
            tx.commit_with_next();
        }
        let said = tx.execute(&INSERT_ORPHAN, &[&Uuid::now_v7(), &Uuid::now_v7()]).await;
        let refused = match way {
            2 => tx.commit().await,
            _ => said.map(drop),
        };
        assert!(matches!(refused, Err(Error::Constraint { .. })), "{way}: {refused:?}");
    }
    let mut dropped = db.begin(&ctx(tenant, LONG), Mode::Read).await.unwrap();
    dropped.fetch_one(&BACKEND, &[]).await.unwrap();
    drop(dropped);

    assert_eq!(visit(&db, tenant, 0).await.unwrap(), before, "the last is this one");
    assert_ne!(visit(&db, tenant, 0).await.unwrap(), before);
}

/// T02 for the transactions that are their back ends' last.
#[tokio::test]
async fn a_last_transaction_that_is_dropped_leaves_no_back_end_inside_it() {
    let replicas = one_at_a_time("bulk_dropped").await;
    let (bench, db) = (&replicas.bench, replicas.one.bulk());
    let tenant = bench.tenant().await;
    let (app, superuser) = (replicas.app("bulk").await, bench.superuser().await);
    let mut acknowledged = BTreeSet::new();
    for polls in 1..=16 {
        for way in 0..WAYS {
            plant(&app, MOST - 1).await;
            let (visitor, number) = (db.clone(), polls * WAYS + way);
            let visiting = async move { visit(&visitor, tenant, number).await };
            if let Some(visited) = AtMost::new(visiting, polls).await {
                visited.unwrap();
                acknowledged.extend(writes(number).then(|| number.to_string()));
            }
            visit(&db, tenant, 0).await.unwrap();
        }
    }
    bench.until_idle(&superuser).await;
    assert!(!acknowledged.is_empty(), "none of them came to its end");
    assert!(acknowledged.is_subset(&notes(bench, tenant).await));
}

#[tokio::test]
async fn what_stays_on_its_session_is_a_number_and_nothing_else_is_believed() {
    let replicas = one_at_a_time("bulk_stays").await;
    let (db, tenant) = (replicas.one.bulk(), replicas.bench.tenant().await);
    let app = replicas.app("bulk").await;
    let look = "SELECT current_user || ' ' || current_setting('search_path') || ' ' ||
                    coalesce(current_setting('rowhouse.tenant_id', true), '') || ' ' || current_setting('statement_timeout')";
    let before = word(&app, look).await;
    for left in ["no number", "-1", "12345678901234567890"] {
        app.batch_execute(&format!("SET rowhouse.homes_met = '{left}'"))
            .await
            .unwrap();
        for counted in 1..=WAYS {
            visit(&db, tenant, counted).await.unwrap();
            assert_eq!(homes_met(&app).await, counted.to_string());
        }
        clear(&replicas.bench, tenant).await;
    }
    assert_eq!(word(&app, look).await, before);

    // Over a lane, which most calls use, nothing is counted.
    assert_eq!(list(&replicas.one, tenant, LONG).await, Ok(0));
    for lane in ["lane_00", "lane_01"] {
        assert_eq!(homes_met(&replicas.app(lane).await).await, "");
    }
}

/// Of notes, each of which is written once.
async fn clear(bench: &Bench, tenant: TenantId) {
    let sql = format!("DELETE FROM {}.notes", schema(tenant));
    bench.superuser().await.batch_execute(&sql).await.unwrap();
}

#[tokio::test]
async fn busy_processes_lose_nothing_that_was_acknowledged() {
    const TASKS: usize = 8;
    // At four server connections: more than four times what one of them may meet.
    const VISITS: usize = 210;
    let replicas = Replicas::start("bulk_busy", 2, 3, 2).await;
    let bench = &replicas.bench;
    let tenants = [bench.tenant().await, bench.tenant().await, bench.tenant().await];
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let process = if task.is_multiple_of(2) {
            &replicas.one
        } else {
            &replicas.two
        };
        let db = process.bulk();
        tasks.spawn(async move {
            let mut met = Vec::new();
            for number in task * VISITS..(task + 1) * VISITS {
                met.push(visit(&db, tenants[number % tenants.len()], number).await.unwrap());
            }
            met
        });
    }
    let mut visits = BTreeMap::new();
    for back_end in tasks.join_all().await.into_iter().flatten() {
        *visits.entry(back_end).or_insert(0_usize) += 1;
    }
    assert_eq!(visits.values().sum::<usize>(), TASKS * VISITS);
    assert!(visits.values().all(|visits| *visits <= MOST), "{visits:?}");
    for (place, tenant) in tenants.into_iter().enumerate() {
        let written = (0..TASKS * VISITS).filter(|number| number % tenants.len() == place && writes(*number));
        let written: BTreeSet<String> = written.map(|number| number.to_string()).collect();
        assert_eq!(notes(bench, tenant).await, written);
    }
}

//! Sealing: every entry once, in its chain, many chains in one transaction, and nobody waits for a chain that fails.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use rowhouse_audit::sealer::{self, CHAINS_TOGETHER_MAX};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::state::State;
use crate::tests::bench::LONG;
use crate::tests::statements::Statements;

const WAITING: &str = "SELECT count(*) FROM auth.unsealed";

/// A member of each of so many tenants, in the order of their chains.
fn members(count: usize) -> Vec<Ctx> {
    let mut tenants: Vec<TenantId> = (0..count).map(|_| TenantId::generate()).collect();
    tenants.sort_by_key(TenantId::uuid);
    tenants.into_iter().map(member).collect()
}

/// Writes an entry of each, in one transaction.
async fn write_all(state: &State, writers: impl IntoIterator<Item = &Ctx>) {
    let mut tx = state.begin().await.unwrap();
    for ctx in writers {
        let entry = crate::audit::Entry::new("member.update", "user_1");
        record(&mut tx, ctx, entry).await.unwrap();
    }
    tx.commit().await.unwrap();
}

fn tenants(people: &[Ctx]) -> Vec<Option<TenantId>> {
    people.iter().map(Ctx::tenant_opt).collect()
}

/// One round that nobody stops.
async fn seal_all(log: &ControlLog) {
    sealer::seal_all(log, &CancellationToken::new()).await.unwrap();
}

fn chain(ctx: &Ctx) -> uuid::Uuid {
    ctx.tenant().unwrap().uuid()
}

/// How many entries each seal of a chain has.
async fn sizes(log: &ControlLog, ctx: &Ctx) -> Vec<usize> {
    batches(log, ctx)
        .await
        .iter()
        .map(|batch| batch.entries.len())
        .collect()
}

#[tokio::test]
async fn entries_are_sealed_in_the_chain_of_their_tenant_or_the_platforms() {
    let bench = Bench::start("auth_audit_chains").await;
    let log = log(&bench);
    let (one, two, idle) = (
        member(TenantId::generate()),
        member(TenantId::generate()),
        member(TenantId::generate()),
    );
    let platform = ctx(Principal::Anonymous, None);
    for ctx in [&one, &one, &two, &platform] {
        write(&bench, ctx, "member.update").await;
    }
    let together = [&one, &idle, &platform, &two].map(|ctx| ctx.tenant_opt());
    let sealed = log.seal_many(&together).await.unwrap();
    assert_eq!(sealed, [Some(2), Some(0), Some(1), Some(1)]);
    for (ctx, entries) in [(&one, vec![2]), (&two, vec![1]), (&platform, vec![1]), (&idle, vec![])] {
        assert_eq!(sizes(&log, ctx).await, entries);
        assert_eq!(faults(&log, ctx).await, []);
    }
    assert_eq!(bench.count(WAITING).await, 0);
    // The next seals stand on these, and one chain alone goes the same way.
    write(&bench, &one, "member.update").await;
    write(&bench, &two, "member.update").await;
    assert_eq!(
        log.seal_many(&together).await.unwrap(),
        [Some(1), Some(0), Some(0), Some(1)]
    );
    write(&bench, &one, "member.update").await;
    assert_eq!(log.seal(one.tenant_opt()).await.unwrap(), Some(1));
    assert_eq!(sizes(&log, &one).await, [2, 1, 1]);
    for ctx in [&one, &two, &platform, &idle] {
        assert_eq!(faults(&log, ctx).await, []);
    }
}

#[tokio::test]
async fn many_sealers_at_once_seal_every_entry_once() {
    let bench = Bench::start("auth_audit_race").await;
    let log = log(&bench);
    let people = members(3);
    let forwards = tenants(&people);
    let backwards: Vec<_> = forwards.iter().copied().rev().collect();
    for _ in 0..20 {
        write_all(&bench.state, &people).await;
        let orders = [&forwards, &backwards, &forwards, &backwards];
        for sealed in join_all(orders.map(|order| log.seal_many(order))).await {
            sealed.unwrap();
        }
    }
    for ctx in &people {
        let mut times: BTreeMap<_, usize> = BTreeMap::new();
        for id in batches(&log, ctx)
            .await
            .into_iter()
            .flat_map(|batch| batch.seal.entries)
        {
            *times.entry(id).or_default() += 1;
        }
        assert!(
            times.len() == 20 && times.values().all(|count| *count == 1),
            "{times:?}"
        );
        assert_eq!(faults(&log, ctx).await, []);
    }
}

/// An entry that comes while another process seals is not in that one's seal: who is overtaken leaves it in the queue.
#[tokio::test]
async fn who_is_overtaken_in_one_chain_keeps_what_waits_there_and_seals_the_others() {
    let bench = Bench::start("auth_audit_overtaken").await;
    let log = log(&bench);
    let people = members(2);
    write_all(&bench.state, &people).await;
    let [met, beside] = &people[..] else { panic!("two") };
    let first = {
        let (log, tenant) = (log.clone(), met.tenant_opt());
        async move { log.seal_many(&[tenant]).await }
    };
    let second = {
        let (log, state) = (log.clone(), bench.state.clone());
        let (met, both) = (met.clone(), tenants(&people));
        async move {
            write_all(&state, [&met]).await;
            log.seal_many(&both).await
        }
    };
    // The first has written its seal and waits to take its entry from the queue.
    let row = format!("auth.unsealed WHERE chain = '{}'", chain(met));
    let (first, second) = bench.meet(&row, first, second).await;
    assert_eq!((first.unwrap(), second.unwrap()), (vec![Some(1)], vec![None, Some(1)]));
    assert_eq!(bench.count(WAITING).await, 1, "the entry that came in between");
    assert_eq!(faults(&log, met).await, []);
    assert_eq!(log.seal(met.tenant_opt()).await.unwrap(), Some(1));
    for ctx in [met, beside] {
        assert_eq!(faults(&log, ctx).await, []);
    }
    assert_eq!(
        (sizes(&log, met).await, sizes(&log, beside).await),
        (vec![1, 1], vec![1])
    );
}

/// Each holds the first of its chains and waits for the one in the middle: they would wait for each other's next.
#[tokio::test]
async fn sealers_that_are_told_the_chains_in_opposite_order_do_not_wait_for_each_other() {
    let bench = Bench::start("auth_audit_order").await;
    let log = log(&bench);
    let people = members(3);
    write_all(&bench.state, &people).await;
    let mut holding = bench.superuser.begin().await.unwrap();
    let hold = format!(
        "INSERT INTO auth.seals (chain, number, previous, entries, size, leaves, sealed_at, hash)
         VALUES ('{}', 1, '', '{{}}', 0, '', now(), '')",
        chain(&people[1])
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(hold))
        .execute(&mut *holding)
        .await
        .unwrap();
    let seal = |order: Vec<Option<TenantId>>| {
        let log = log.clone();
        tokio::spawn(async move { log.seal_many(&order).await })
    };
    let first = seal(tenants(&people));
    bench.until_waiting(1).await;
    let second = seal(tenants(&people).into_iter().rev().collect());
    bench.until_waiting(2).await;
    holding.rollback().await.unwrap();
    assert_eq!(first.await.unwrap().unwrap(), [Some(1); 3]);
    assert_eq!(second.await.unwrap().unwrap(), [None; 3]);
    for ctx in &people {
        assert_eq!((sizes(&log, ctx).await, faults(&log, ctx).await), (vec![1], vec![]));
    }
}

/// An entry whose transaction ends after those that came later were sealed: it is in the next seal.
#[tokio::test]
async fn an_entry_that_is_committed_late_goes_into_the_next_seal() {
    let bench = Bench::start("auth_audit_late").await;
    let log = log(&bench);
    let (one, two) = (member(TenantId::generate()), member(TenantId::generate()));
    let both = [one.tenant_opt(), two.tenant_opt()];
    let mut late = bench.state.begin().await.unwrap();
    record(&mut late, &one, crate::audit::Entry::new("role.create", "late"))
        .await
        .unwrap();
    write_all(&bench.state, [&one, &two]).await;
    assert_eq!(log.seal_many(&both).await.unwrap(), [Some(1), Some(1)]);
    late.commit().await.unwrap();
    assert_eq!(log.seal_many(&both).await.unwrap(), [Some(1), Some(0)]);
    for ctx in [&one, &two] {
        assert_eq!(faults(&log, ctx).await, []);
    }
}

/// One row that cannot be read keeps nobody else's log from being sealed, and whoever seals from nothing.
#[tokio::test]
async fn a_damaged_row_keeps_no_other_chain_waiting() {
    let bench = Bench::start("auth_audit_damaged").await;
    let log = log(&bench);
    let (one, two) = (member(TenantId::generate()), member(TenantId::generate()));
    for ctx in [&one, &two] {
        write(&bench, ctx, "member.update").await;
    }
    let damage = format!(
        "UPDATE auth.audit SET at = 'infinity' WHERE tenant_id = '{}'",
        one.tenant().unwrap().uuid()
    );
    bench.execute(&damage).await;
    let stop = CancellationToken::new();
    let sealing = tokio::spawn(sealer::run(log.clone(), stop.clone()));
    let sealed = async {
        while bench.count(WAITING).await > 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(LONG, sealed).await.expect("nothing is left waiting");
    stop.cancel();
    sealing.await.unwrap();
    assert_eq!(faults(&log, &two).await, []);
    assert_eq!(
        faults(&log, &one).await,
        [FaultKind::EntryMisdated],
        "as it was when it was sealed"
    );
}

/// A chain whose seal the database refuses fails the transaction of all that are sealed together.
#[tokio::test]
async fn a_chain_that_cannot_be_sealed_keeps_none_waiting_that_is_sealed_with_it() {
    let bench = Bench::start("auth_audit_passed_over").await;
    let log = log(&bench);
    let people = members(4);
    write_all(&bench.state, &people).await;
    let [_, damaged, ..] = &people[..] else { panic!("four") };
    let damage = format!(
        "ALTER TABLE auth.seals ADD CONSTRAINT damaged CHECK (chain <> '{}')",
        chain(damaged)
    );
    bench.execute(&damage).await;
    assert!(log.seal_many(&tenants(&people)).await.is_err());
    assert_eq!(bench.count(WAITING).await, 4, "nothing is half done");
    let refused = sealer::seal_all(&log, &CancellationToken::new()).await.unwrap_err();
    let refused = refused.into_database_error().unwrap();
    assert_eq!(refused.constraint(), Some("damaged"), "the fault is told");
    let waiting = format!("{WAITING} WHERE chain = '{}'", chain(damaged));
    assert_eq!((bench.count(WAITING).await, bench.count(&waiting).await), (1, 1));
    for ctx in &people {
        let entries = usize::from(chain(ctx) != chain(damaged));
        assert_eq!(sizes(&log, ctx).await, vec![1; entries]);
        assert_eq!(faults(&log, ctx).await, []);
    }
    bench.execute("ALTER TABLE auth.seals DROP CONSTRAINT damaged").await;
    seal_all(&log).await;
    assert_eq!((bench.count(WAITING).await, sizes(&log, damaged).await), (0, vec![1]));
}

/// A round may be long, and whoever stops the process waits for it.
#[tokio::test]
async fn whoever_is_told_to_stop_seals_no_more() {
    let bench = Bench::start("auth_audit_stop").await;
    let log = log(&bench);
    write_all(&bench.state, &members(2)).await;
    let stop = CancellationToken::new();
    stop.cancel();
    sealer::seal_all(&log, &stop).await.unwrap();
    assert_eq!(bench.count(WAITING).await, 2);
    seal_all(&log).await;
    assert_eq!(bench.count(WAITING).await, 0);
}

/// One line in the queue that is no entry, alone in its chain and beside an entry: it is taken away, and nothing is sealed for it.
#[tokio::test]
async fn a_line_of_the_queue_that_is_no_entry_is_taken_away() {
    let bench = Bench::start("auth_audit_no_entry").await;
    let log = log(&bench);
    let people = members(2);
    let [one, two] = &people[..] else { panic!("two") };
    write_all(&bench.state, [one]).await;
    let lines = format!(
        "INSERT INTO auth.unsealed (chain, id) VALUES ('{}', gen_random_uuid()), ('{}', gen_random_uuid())",
        chain(one),
        chain(two)
    );
    bench.execute(&lines).await;
    assert_eq!(log.seal_many(&tenants(&people)).await.unwrap(), [Some(2), Some(1)]);
    assert_eq!(bench.count(WAITING).await, 0);
    assert_eq!((sizes(&log, one).await, sizes(&log, two).await), (vec![1], vec![]));
    for ctx in [one, two] {
        assert_eq!(faults(&log, ctx).await, []);
    }
}

#[tokio::test]
async fn many_chains_are_sealed_by_as_many_statements_as_one() {
    let bench = Bench::start("auth_audit_statements").await;
    let log = log(&bench);
    let statements = Statements::listen();
    let mut sent = Vec::new();
    for chains in [1, 2, CHAINS_TOGETHER_MAX, CHAINS_TOGETHER_MAX + 1] {
        write_all(&bench.state, &members(chains)).await;
        statements.take();
        seal_all(&log).await;
        sent.push(statements.take());
        assert_eq!(bench.count(WAITING).await, 0);
    }
    let [one, two, full, more] = &sent[..] else {
        panic!("four")
    };
    let commits = |sent: &[String]| sent.iter().filter(|statement| *statement == "COMMIT").count();
    assert!(one.len() > 5 && commits(one) == 1, "{one:?}");
    assert_eq!((two, full), (one, one));
    // The first is the list of chains.
    assert_eq!((more.len(), commits(more)), (2 * one.len() - 1, 2), "{more:?}");
}

/// What a transaction holds has a bound: what a chain has beyond its share is sealed alone, in the same round.
#[tokio::test]
async fn a_chain_with_more_than_its_share_is_sealed_to_its_end() {
    let bench = Bench::start("auth_audit_share").await;
    let log = log(&bench);
    let people = members(CHAINS_TOGETHER_MAX);
    let busy = &people[7];
    write_all(&bench.state, people.iter().chain([busy; 24])).await;
    seal_all(&log).await;
    assert_eq!(bench.count(WAITING).await, 0);
    assert_eq!(sizes(&log, busy).await, [10, 15]);
    assert_eq!(sizes(&log, &people[8]).await, [1]);
    assert_eq!(faults(&log, busy).await, []);
}

//! The log that changes of contacts leave in a home: sealed, and whatever was done to it behind our back shows.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use rowhouse_audit::{AuditLog as _, Batch, Chain, Check, Entry, FaultKind, Place, Query};
use rowhouse_context::{Ctx, ServiceName};
use rowhouse_db::{Mode, TenantTx};
use rowhouse_devkit::servers::Login;
use rowhouse_types::{ContactId, Placement, TenantId};
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, SqlSafeStr as _};
use tokio::time::timeout;

use super::bench::{Bench, PLACEMENTS, details, named};
use crate::audit::{HomeLog, RELAY_STATEMENTS, Sealed};
use crate::contact::actions::Change;
use crate::contact::store::{self, Record};
use crate::contact::{Contact, now};

/// Makes contacts and deletes them: two entries each.
async fn work(bench: &Bench, ctx: &Ctx, contacts: usize) {
    for at in 0..contacts {
        let created = bench.contacts.create(ctx, named(&format!("C{at}"))).await.unwrap();
        let change = Change {
            id: created.id,
            etag: Some(created.etag),
        };
        bench.contacts.delete(ctx, change).await.unwrap();
    }
}

async fn batches(log: &HomeLog, ctx: &Ctx) -> Vec<Batch> {
    let mut all: Vec<Batch> = Vec::new();
    loop {
        let after = all.last().map_or(0, |batch| batch.seal.number);
        let page = log.seals(ctx, ctx.tenant_opt(), after).await.unwrap();
        if page.is_empty() {
            return all;
        }
        all.extend(page);
    }
}

/// What a check of the tenant's chain finds.
async fn faults(log: &HomeLog, ctx: &Ctx) -> Vec<FaultKind> {
    let chain = Chain {
        service: ServiceName::Crm,
        tenant: ctx.tenant_opt(),
    };
    let mut check = Check::new(chain, Place::default(), None);
    batches(log, ctx).await.iter().for_each(|batch| check.take(batch));
    check.end(&log.unsealed(ctx, ctx.tenant_opt()).await.unwrap().lost);
    check.faults().iter().map(|fault| fault.kind).collect()
}

#[tokio::test]
async fn changes_are_sealed_and_read_in_every_placement() {
    for placement in PLACEMENTS {
        let bench = Bench::start_in("crm_audit", placement).await;
        let log = HomeLog::new(&bench.db);
        let (one, two) = (bench.ctx(bench.one), bench.ctx(bench.two));
        work(&bench, &one, 2).await;
        work(&bench, &two, 1).await;
        assert_eq!(log.seal(bench.one).await.unwrap(), Sealed::Now(4));
        assert_eq!(log.seal(bench.one).await.unwrap(), Sealed::Now(0));
        assert_eq!(log.seal(bench.two).await.unwrap(), Sealed::Now(2));
        for ctx in [&one, &two] {
            assert_eq!(faults(&log, ctx).await, [], "{placement:?}");
        }
        let query = Query {
            limit: 10,
            action: Some("contacts:delete".to_owned()),
            ..Query::default()
        };
        let deleted = log.page(&one, Some(bench.one), &query).await.unwrap();
        assert_eq!(deleted.len(), 2, "{placement:?}");
        assert!(deleted[0].id > deleted[1].id && deleted.iter().all(|entry| entry.tenant == Some(bench.one)));
        let of_one = Query {
            target: Some(deleted[0].target.clone()),
            actor: Some(one.principal().actor()),
            before: Some(deleted[0].id),
            action: None,
            ..query
        };
        let older = log.page(&one, Some(bench.one), &of_one).await.unwrap();
        assert_eq!(older.len(), 1, "its creation");
        assert!(log.page(&two, Some(bench.two), &of_one).await.unwrap().is_empty());
        assert!(
            log.page(&two, Some(bench.one), &of_one).await.is_err(),
            "another tenant than the call's"
        );
    }
}

/// The wall: what one tenant's transaction sees and takes of the queue is its own.
#[tokio::test]
async fn the_queue_of_another_tenant_is_never_seen() {
    let bench = Bench::start("crm_audit_wall").await;
    let log = HomeLog::new(&bench.db);
    work(&bench, &bench.ctx(bench.one), 1).await;
    bench
        .execute(
            bench.two,
            "INSERT INTO rowhouse.unsealed SELECT gen_random_uuid(), id FROM rowhouse.unsealed",
        )
        .await;
    assert_eq!(log.seal(bench.two).await.unwrap(), Sealed::Now(0));
    assert_eq!(bench.count(bench.two, "rowhouse.unsealed").await, 4);
    assert_eq!(log.seal(bench.one).await.unwrap(), Sealed::Now(2));
    assert_eq!(bench.count(bench.two, "rowhouse.unsealed").await, 2);
}

#[tokio::test]
async fn many_sealers_at_once_seal_every_entry_once() {
    let bench = Bench::start("crm_audit_race").await;
    let log = HomeLog::new(&bench.db);
    let ctx = bench.ctx(bench.one);
    let mut overtaken = 0;
    for _ in 0..20 {
        work(&bench, &ctx, 2).await;
        let sealed = join_all((0..4).map(|_| log.seal(bench.one))).await;
        overtaken += sealed
            .into_iter()
            .filter(|sealed| matches!(sealed, Ok(Sealed::Overtaken)))
            .count();
    }
    assert!(overtaken > 0, "they never met");
    let mut times: BTreeMap<_, usize> = BTreeMap::new();
    for batch in batches(&log, &ctx).await {
        for id in batch.seal.entries {
            *times.entry(id).or_default() += 1;
        }
    }
    assert_eq!(times.len(), 80);
    assert!(times.values().all(|count| *count == 1), "{times:?}");
    assert_eq!(faults(&log, &ctx).await, []);
}

/// A contact is written, and the transaction stays open.
async fn held(bench: &Bench, ctx: &Ctx) -> TenantTx {
    let owner = ctx.principal().user().unwrap();
    let contact = Contact::new(ContactId::generate(), details("Late"), owner, now());
    let record = Record::of(ctx, contact.created_at);
    let mut tx = bench.db.begin(ctx, Mode::Write).await.unwrap();
    assert_eq!(store::create(&mut tx, &contact, &record, None).await.unwrap(), None);
    tx
}

/// Writers of one tenant share no lock, so one ends after what came later was sealed: its entry is in the next seal.
#[tokio::test]
async fn an_entry_that_is_committed_late_keeps_no_writer_waiting_and_goes_into_the_next_seal() {
    for placement in PLACEMENTS {
        let bench = Bench::start_in("crm_audit_late", placement).await;
        let log = HomeLog::new(&bench.db);
        let [late, meanwhile] = [(); 2].map(|()| bench.ctx(bench.one));
        let tx = held(&bench, &late).await;
        bench.contacts.create(&meanwhile, named("Meanwhile")).await.unwrap();
        assert_eq!(log.seal(bench.one).await.unwrap(), Sealed::Now(1), "{placement:?}");
        tx.commit().await.unwrap();
        assert_eq!(log.seal(bench.one).await.unwrap(), Sealed::Now(1), "{placement:?}");
        let batches = batches(&log, &late).await;
        let entries: Vec<&str> = batches
            .iter()
            .flat_map(|batch| batch.entries.iter().flatten())
            .map(String::as_str)
            .collect();
        let writers = [&meanwhile, &late].map(|ctx| ctx.principal().actor());
        assert!(batches.len() == 2 && entries.len() == 2, "{entries:?}");
        assert!(
            entries
                .iter()
                .zip(&writers)
                .all(|(entry, writer)| entry.contains(writer)),
            "{entries:?}"
        );
        assert!(
            batches[1].seal.entries < batches[0].seal.entries,
            "it was written first"
        );
        assert_eq!(faults(&log, &late).await, [], "{placement:?}");
    }
}

/// The control: a lock that the writers of a home share, as one would need who chains entries as they are written.
#[tokio::test]
async fn where_writers_share_a_lock_one_that_is_held_open_keeps_the_others_waiting() {
    let bench = Bench::start("crm_audit_lock").await;
    let shared = "CREATE FUNCTION one_by_one() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN PERFORM pg_advisory_xact_lock(4711); RETURN NEW; END';
        CREATE TRIGGER audit_entries_one_by_one BEFORE INSERT ON audit_entries
            FOR EACH ROW EXECUTE FUNCTION one_by_one()";
    bench.as_owner(shared).await;
    let tx = held(&bench, &bench.ctx(bench.one)).await;
    let ctx = bench.ctx(bench.one);
    let waiting = "pg_stat_activity WHERE datname = current_database() AND wait_event = 'advisory'";
    let ended = async {
        while bench.count(bench.one, waiting).await == 0 {
            tokio::task::yield_now().await;
        }
        tx.commit().await.unwrap();
    };
    let ended = timeout(Duration::from_secs(30), ended);
    let (created, ended) = tokio::join!(bench.contacts.create(&ctx, named("Meanwhile")), ended);
    ended.expect("nobody waits");
    created.unwrap();
}

/// Whoever has the whole database in hand: each thing that they may do to the log, and what it shows as.
#[tokio::test]
async fn what_is_done_to_the_log_behind_our_back_shows() {
    let tampering = [
        (
            "UPDATE audit_entries SET actor = 'nobody' WHERE id = (SELECT min(id::text)::uuid FROM audit_entries)",
            FaultKind::EntryChanged,
        ),
        (
            "UPDATE audit_entries SET after = after || '{\"company\": \"x\"}' WHERE after IS NOT NULL",
            FaultKind::EntryChanged,
        ),
        (
            "DELETE FROM audit_entries WHERE id = (SELECT max(id::text)::uuid FROM audit_entries)",
            FaultKind::EntryMissing,
        ),
        (
            "DELETE FROM audit_seals WHERE number = 1",
            FaultKind::SealMissing,
        ),
        (
            "UPDATE audit_seals SET leaves = set_byte(leaves, 0, 255 - get_byte(leaves, 0)) WHERE number = 1",
            FaultKind::SealChanged,
        ),
        (
            "UPDATE audit_seals SET sealed_at = sealed_at - interval '1 day' WHERE number = 2",
            FaultKind::SealChanged,
        ),
        (
            "ALTER TABLE audit_entries DISABLE TRIGGER audit_entries_unsealed;
             INSERT INTO audit_entries SELECT tenant_id, gen_random_uuid(), at - interval '1 month', actor, on_behalf_of,
                 reason, address, request_id, action, target, before, after, outcome FROM audit_entries LIMIT 1",
            FaultKind::EntryUnsealed,
        ),
        (
            "UPDATE audit_seals SET entries[1] = NULL WHERE number = 1",
            FaultKind::SealChanged,
        ),
        (
            "UPDATE audit_seals SET leaves = leaves || leaves WHERE number = 1",
            FaultKind::SealChanged,
        ),
        (
            "UPDATE audit_seals SET hash = '\\x00', sealed_at = 'infinity' WHERE number = 1",
            FaultKind::SealChanged,
        ),
        (
            "UPDATE audit_entries SET at = 'infinity' WHERE id = (SELECT min(id::text)::uuid FROM audit_entries)",
            FaultKind::EntryChanged,
        ),
        (
            "UPDATE audit_seals SET sealed_at = '290000-01-01' WHERE number = 1",
            FaultKind::SealChanged,
        ),
        ("DELETE FROM audit_seals WHERE number = 2", FaultKind::EntryUnsealed),
    ];
    for (statement, fault) in tampering {
        let bench = Bench::start("crm_audit_tampered").await;
        let log = HomeLog::new(&bench.db);
        let ctx = bench.ctx(bench.one);
        for _ in 0..2 {
            work(&bench, &ctx, 1).await;
            log.seal(bench.one).await.unwrap();
        }
        assert_eq!(faults(&log, &ctx).await, [], "before");
        bench.execute(bench.one, statement).await;
        let found = faults(&log, &ctx).await;
        assert!(found.contains(&fault), "{statement}: {found:?}");
    }
}

/// Slipped in with our own login, which the trigger queues like any other: sealed, but its time tells.
#[tokio::test]
async fn an_entry_of_an_older_time_shows_although_it_is_sealed() {
    let bench = Bench::start("crm_audit_misdated").await;
    let log = HomeLog::new(&bench.db);
    let ctx = bench.ctx(bench.one);
    work(&bench, &ctx, 1).await;
    log.seal(bench.one).await.unwrap();
    let slipped_in = Entry {
        at: chrono::Utc::now() - chrono::TimeDelta::minutes(11),
        outcome: "succeeded".to_owned(),
        ..Entry::done(ServiceName::Crm, &ctx, "contacts:delete", "")
    };
    log.note(&slipped_in).await.unwrap();
    assert_eq!(log.seal(bench.one).await.unwrap(), Sealed::Now(1));
    assert_eq!(faults(&log, &ctx).await, [FaultKind::EntryMisdated]);
}

/// What cannot be sealed now waits, and that is no fault.
#[tokio::test]
async fn entries_wait_while_a_home_cannot_be_written() {
    let bench = Bench::start("crm_audit_waiting").await;
    let log = HomeLog::new(&bench.db);
    let ctx = bench.ctx(bench.one);
    work(&bench, &ctx, 1).await;
    bench.freeze(bench.one).await;
    assert!(log.seal(bench.one).await.is_err());
    assert_eq!(bench.count(bench.one, "rowhouse.unsealed").await, 2);
    let other = bench.ctx(bench.two);
    work(&bench, &other, 2).await;
    let unsealed = log.unsealed(&other, Some(bench.two)).await.unwrap();
    assert_eq!((unsealed.lost.len(), unsealed.waiting), (0, 4));
}

/// Entries from before there were seals are queued by the migration, those of every tenant of a shared house too.
#[tokio::test]
async fn entries_from_before_the_migration_are_queued_by_it() {
    for placement in PLACEMENTS {
        let bench = Bench::start_in("crm_audit_backfill", placement).await;
        let ctxs = [bench.ctx(bench.one), bench.ctx(bench.two)];
        for ctx in &ctxs {
            work(&bench, ctx, 1).await;
        }
        // As homes were before: then the migration's own text is run again.
        let undone = "DROP TABLE audit_seals; TRUNCATE rowhouse.unsealed;
            DROP TRIGGER audit_entries_unsealed ON audit_entries";
        bench.as_owner(undone).await;
        assert_eq!(bench.count(bench.one, "rowhouse.unsealed").await, 0);
        let migration = crate::migrations::MIGRATIONS.after(2).next().unwrap();
        bench.as_owner(migration.sql).await;
        let expected = if bench.has_neighbours() { 4 } else { 2 };
        for tenant in [bench.one, bench.two] {
            assert_eq!(
                bench.count(tenant, "rowhouse.unsealed").await,
                expected,
                "{placement:?}"
            );
        }
    }
}

/// Until a run of migrations is over the directory says the older version of a home that it has reached already.
#[tokio::test]
async fn a_home_is_sealed_before_the_directory_knows_its_version() {
    let bench = Bench::start("crm_audit_older").await;
    let older = bench.at_version(bench.one, 2).await;
    let log_of_older = HomeLog::new(&older);
    let ctx = bench.ctx(bench.one);
    work(&bench, &ctx, 1).await;
    assert_eq!(log_of_older.seal(bench.one).await.unwrap(), Sealed::Now(2));
    assert_eq!(
        faults(&log_of_older, &ctx).await,
        [],
        "what the older version shows holds too"
    );
    assert_eq!(faults(&HomeLog::new(&bench.db), &ctx).await, []);
}

#[tokio::test]
async fn a_refusal_is_an_entry_that_is_about_no_contact() {
    let bench = Bench::start("crm_audit_refused").await;
    let log = HomeLog::new(&bench.db);
    let ctx = bench.ctx(bench.one);
    let entry = Entry {
        outcome: "refused".to_owned(),
        after: Some(json!({ "times": 3 })),
        ..Entry::done(
            ServiceName::Crm,
            &ctx,
            "rowhouse.crm.v1.ContactService/DeleteContact",
            "",
        )
    };
    log.note(&entry).await.unwrap();
    assert_eq!(log.seal(bench.one).await.unwrap(), Sealed::Now(1));
    let query = Query {
        limit: 10,
        outcome: Some("refused".to_owned()),
        ..Query::default()
    };
    let read = log.page(&ctx, Some(bench.one), &query).await.unwrap();
    assert_eq!(read.len(), 1);
    assert_eq!((read[0].target.as_str(), &read[0].after), ("", &entry.after));
    assert_eq!(read[0].actor, ctx.principal().actor());
    assert_eq!(faults(&log, &ctx).await, []);
    let stranger = Entry {
        tenant: Some(TenantId::generate()),
        ..entry
    };
    assert!(log.note(&stranger).await.is_err());
}

/// That an operator was let in, with the outcome that homes know.
#[tokio::test]
async fn what_was_done_without_a_change_stands_in_a_home_as_succeeded() {
    let bench = Bench::start("crm_audit_access").await;
    let log = HomeLog::new(&bench.db);
    let ctx = bench.ctx(bench.one);
    let entry = Entry {
        reason: Some("ticket 7".to_owned()),
        after: Some(json!({ "rpc": "rowhouse.crm.v1.ContactService/ListContacts", "times": 2 })),
        ..Entry::done(ServiceName::Crm, &ctx, "operator.access", "")
    };
    log.note(&entry).await.unwrap();
    assert_eq!(log.seal(bench.one).await.unwrap(), Sealed::Now(1));
    let query = Query {
        limit: 10,
        outcome: Some("succeeded".to_owned()),
        ..Query::default()
    };
    let read = log.page(&ctx, Some(bench.one), &query).await.unwrap();
    assert_eq!(read.len(), 1);
    assert_eq!((&read[0].action, &read[0].after), (&entry.action, &entry.after));
    assert_eq!((&read[0].reason, read[0].target.as_str()), (&entry.reason, ""));
    assert_eq!(faults(&log, &ctx).await, []);
}

#[tokio::test]
async fn the_relays_login_may_do_what_it_is_asked_and_no_more() {
    let bench = Bench::start_in("crm_audit_relay", Placement::Schema).await;
    let mut relay = PgConnection::connect(&bench.databases.data_url(Login::Relay))
        .await
        .unwrap();
    for sql in RELAY_STATEMENTS {
        let prepared = relay.prepare(AssertSqlSafe(*sql).into_sql_str()).await;
        assert!(prepared.is_ok(), "{sql}: {:?}", prepared.err());
    }
    let refused = sqlx::raw_sql("UPDATE rowhouse.unsealed SET id = gen_random_uuid()")
        .execute(&mut relay)
        .await;
    assert!(refused.is_err());
}

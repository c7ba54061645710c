//! Hand-overs of many contacts, within what a plan allows a statement and within the deadline.

use std::time::Duration;

use rowhouse_context::{Ctx, Reach};
use rowhouse_db::{Error as Db, Mode};
use rowhouse_types::{IdempotencyKey, UserId};
use tokio::time::Instant;

use super::{all_of, done, user};
use crate::contact::actions::reassign::Reassignment;
use crate::contact::filter::Filter;
use crate::contact::now;
use crate::contact::store::{self, Record, Taking};
use crate::contact::tests::bench::Bench;
use crate::error::Error;

/// Plants contacts of one owner, who is answered with.
async fn planted(bench: &Bench, count: i32) -> UserId {
    let owner = UserId::generate();
    bench.plant(bench.one, count).await;
    bench
        .execute(bench.one, &format!("UPDATE contacts SET owner_id = '{}'", owner.uuid()))
        .await;
    owner
}

/// Makes the database take this long for each contact that changes.
async fn slow_down(bench: &Bench, each_ms: u32) {
    let trigger = format!(
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN PERFORM pg_sleep({each_ms} / 1000.0); RETURN NEW; END $$;
         CREATE TRIGGER slow BEFORE UPDATE ON contacts FOR EACH ROW EXECUTE FUNCTION slow()"
    );
    bench.execute(bench.one, &trigger).await;
}

/// 1,000 contacts take two seconds at least, and 100 a fifth of one: a step has ninefold room.
#[tokio::test]
async fn a_hand_over_takes_longer_than_the_plan_allows_a_statement() {
    let bench = Bench::start("crm_reassign_plan").await;
    let heir = bench.ctx(bench.one);
    let leaver = planted(&bench, 1_000).await;
    slow_down(&bench, 2).await;
    bench.bound_statements(bench.one, 1_900).await;
    let asked = all_of(leaver, user(&heir));
    assert_eq!(bench.contacts.reassign(&heir, &asked).await.unwrap(), done(1_000, 0));

    // The control: as one statement it is ended.
    let filter = Filter::default();
    let taking = Taking {
        reach: &Reach::All,
        from: user(&heir),
        filter: &filter,
    };
    let mut tx = bench.db.begin(&heir, Mode::Write).await.unwrap();
    let contacts = store::take(&mut tx, taking, 1_000).await.unwrap();
    let record = Record::of(&heir, now());
    let ended = store::give(&mut tx, &contacts, leaver, &record).await;
    assert!(
        matches!(ended, Err(Error::Database(Db::StatementExceeded { .. }))),
        "{ended:?}"
    );
}

/// 1,000 contacts take five seconds at least, more than there are. Half of the 4,500 ms is over after the fifth step at the latest;
/// the step that was begun last, the count and the COMMIT have the other half, fourfold room for a step of 500 ms.
#[tokio::test]
async fn where_time_is_short_fewer_contacts_are_given_and_not_none() {
    let bench = Bench::start("crm_reassign_hurry").await;
    let heir = bench.ctx(bench.one);
    let leaver = planted(&bench, 1_000).await;
    slow_down(&bench, 5).await;
    let (principal, deadline) = (heir.principal().clone(), Instant::now() + Duration::from_millis(4_500));
    let hurried = Ctx::new(heir.request_id().clone(), principal, Some(bench.one), deadline).with_reach(Reach::All);
    let asked = all_of(leaver, user(&heir));
    let answer = bench.contacts.reassign(&hurried, &asked).await.unwrap();
    assert!((100..1_000).contains(&answer.given), "{answer:?}");
    assert_eq!(answer.remaining, 1_000 - answer.given);
    let own = heir.with_reach(Reach::owners([user(&hurried)]));
    assert_eq!(bench.contacts.count(&own).await.unwrap(), answer.given);
}

/// The newest contact is the last to be given, in the second step.
#[tokio::test]
async fn what_fails_in_a_later_step_undoes_the_earlier_one() {
    let bench = Bench::start("crm_reassign_undone").await;
    let heir = bench.ctx(bench.one);
    let leaver = planted(&bench, 150).await;
    let trigger = "UPDATE contacts SET created_at = created_at + interval '1 hour' WHERE display_name = 'Contact 150';
         CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not this one'; END $$;
         CREATE TRIGGER fail BEFORE UPDATE ON contacts FOR EACH ROW WHEN (OLD.display_name = 'Contact 150')
             EXECUTE FUNCTION fail()";
    bench.execute(bench.one, trigger).await;
    let asked = Reassignment {
        request_id: Some(IdempotencyKey::generate()),
        ..all_of(leaver, user(&heir))
    };
    let failed = bench.contacts.reassign(&heir, &asked).await;
    assert!(matches!(failed, Err(Error::Database(_))), "{failed:?}");
    let theirs = heir.with_reach(Reach::owners([leaver]));
    assert_eq!(bench.contacts.count(&theirs).await.unwrap(), 150);
    for table in ["audit_entries", "requests", "rowhouse.outbox"] {
        assert_eq!(bench.count(bench.one, table).await, 0, "{table}");
    }
}

#[tokio::test]
async fn no_more_than_ten_thousand_are_counted() {
    let bench = Bench::start("crm_reassign_counted").await;
    let heir = bench.ctx(bench.one);
    let leaver = planted(&bench, 10_001).await;
    let trial = Reassignment {
        validate_only: true,
        ..all_of(leaver, user(&heir))
    };
    assert_eq!(bench.contacts.reassign(&heir, &trial).await.unwrap(), done(0, 10_000));
}

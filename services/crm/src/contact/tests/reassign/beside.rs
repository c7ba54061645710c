//! Hand-overs beside the work of others: the rows that they hold, and their connections.

use rowhouse_context::Reach;
use rowhouse_db::Mode;

use super::{all_of, done, make, user};
use crate::contact::actions::reassign::Reassignment;
use crate::contact::filter::Filter;
use crate::contact::store::{self, Taking};
use crate::contact::tests::bench::Bench;

#[tokio::test]
async fn contacts_that_another_call_holds_are_passed_over_and_count_as_left() {
    let bench = Bench::start("crm_reassign_held").await;
    let [leaver, heir, other] = [(); 3].map(|()| bench.ctx(bench.one));
    make(&bench, &leaver, &["A", "B"]).await;
    let filter = Filter::default();
    let taking = Taking {
        reach: &Reach::All,
        from: user(&leaver),
        filter: &filter,
    };
    let mut holder = bench.db.begin(&other, Mode::Write).await.unwrap();
    assert_eq!(store::take(&mut holder, taking, 1).await.unwrap().len(), 1);

    let asked = all_of(user(&leaver), user(&heir));
    assert_eq!(bench.contacts.reassign(&heir, &asked).await.unwrap(), done(1, 1));
    assert_eq!(bench.contacts.reassign(&heir, &asked).await.unwrap(), done(0, 1));
    holder.commit().await.unwrap();
    assert_eq!(bench.contacts.reassign(&heir, &asked).await.unwrap(), done(1, 0));
}

/// The streams' connections are few and all tenants', and readiness asks over them.
#[tokio::test]
async fn a_hand_over_waits_for_no_connection_of_the_streams() {
    let bench = Bench::start("crm_reassign_lane").await;
    let (db, contacts) = bench.in_lanes().await;
    let [leaver, heir] = [(); 2].map(|()| bench.ctx(bench.one));
    make(&bench, &leaver, &["A"]).await;
    let mut stream = db.bulk().begin(&leaver, Mode::Read).await.unwrap();
    assert_eq!(store::count(&mut stream, leaver.reach()).await.unwrap(), 1);

    let asked = all_of(user(&leaver), user(&heir));
    let trial = Reassignment {
        validate_only: true,
        ..asked.clone()
    };
    assert_eq!(contacts.reassign(&heir, &trial).await.unwrap(), done(0, 1));
    assert_eq!(contacts.reassign(&heir, &asked).await.unwrap(), done(1, 0));
    stream.commit().await.unwrap();
}

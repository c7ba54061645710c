//! Hand-overs that are repeated.

use futures_util::future::join_all;
use rowhouse_context::Reach;
use rowhouse_types::{IdempotencyKey, UserId};

use super::{all_of, done, make, user};
use crate::contact::actions::reassign::Reassignment;
use crate::contact::tests::bench::{Bench, named};
use crate::error::Error;

fn once(from: UserId, to: UserId) -> Reassignment {
    Reassignment {
        request_id: Some(IdempotencyKey::generate()),
        ..all_of(from, to)
    }
}

#[tokio::test]
async fn a_repeated_call_answers_what_the_first_did_and_does_nothing() {
    let bench = Bench::start("crm_reassign_again").await;
    let [leaver, heir] = [(); 2].map(|()| bench.ctx(bench.one));
    make(&bench, &leaver, &["A", "B"]).await;
    let asked = once(user(&leaver), user(&heir));
    assert_eq!(bench.contacts.reassign(&heir, &asked).await.unwrap(), done(2, 0));
    let later = make(&bench, &leaver, &["C"]).await.remove(0);
    assert_eq!(bench.contacts.reassign(&heir, &asked).await.unwrap(), done(2, 0));
    assert_eq!(bench.contacts.get(&heir, later.id).await.unwrap(), later);
    assert_eq!(bench.count(bench.one, "audit_entries").await, 5);
    assert_eq!(bench.count(bench.one, "rowhouse.outbox").await, 5);
    // Another id is another call.
    let next = once(user(&leaver), user(&heir));
    assert_eq!(bench.contacts.reassign(&heir, &next).await.unwrap(), done(1, 0));
}

#[tokio::test]
async fn a_repeated_call_is_answered_though_the_receiver_may_get_nothing_any_more() {
    let bench = Bench::start("crm_reassign_receiver_gone").await;
    let [caller, leaver, heir] = [(); 3].map(|()| bench.ctx(bench.one));
    make(&bench, &leaver, &["A", "B"]).await;
    let asked = once(user(&leaver), user(&heir));
    assert_eq!(bench.contacts.reassign(&caller, &asked).await.unwrap(), done(2, 0));
    let later = make(&bench, &leaver, &["C"]).await.remove(0);
    let without_heir = caller.clone().with_reach(Reach::owners([user(&caller), user(&leaver)]));
    let repeated = bench.contacts.reassign(&without_heir, &asked).await.unwrap();
    assert_eq!(repeated, done(2, 0));
    assert_eq!(bench.contacts.get(&leaver, later.id).await.unwrap(), later);
}

/// The row that is found must be about this very call, and not be a day old.
#[tokio::test]
async fn without_a_receiver_no_call_gets_the_answer_of_another() {
    let bench = Bench::start("crm_reassign_receiver_other").await;
    let [caller, leaver, heir, other] = [(); 4].map(|()| bench.ctx(bench.one));
    make(&bench, &leaver, &["A"]).await;
    let asked = once(user(&leaver), user(&heir));
    assert_eq!(bench.contacts.reassign(&caller, &asked).await.unwrap(), done(1, 0));
    let trial = Reassignment {
        validate_only: true,
        ..asked.clone()
    };
    let filtered = Reassignment {
        filter: "display_name = A".parse().unwrap(),
        ..asked.clone()
    };
    let without_id = all_of(user(&leaver), user(&heir));
    let unused_id = once(user(&leaver), user(&heir));
    let [caller, other] = [caller, other].map(|by| by.with_reach(Reach::owners([user(&leaver)])));
    for (by, asked) in [
        (&caller, &trial),
        (&caller, &filtered),
        (&caller, &without_id),
        (&caller, &unused_id),
        (&other, &asked),
    ] {
        let refused = bench.contacts.reassign(by, asked).await;
        assert!(matches!(refused, Err(Error::ReceiverUnknown)), "{asked:?}: {refused:?}");
    }
    bench
        .execute(
            bench.one,
            "UPDATE requests SET expires_at = now() - interval '1 second'",
        )
        .await;
    let refused = bench.contacts.reassign(&caller, &asked).await;
    assert!(matches!(refused, Err(Error::ReceiverUnknown)), "{refused:?}");
}

#[tokio::test]
async fn a_request_id_with_other_content_or_by_another_user_is_refused() {
    let bench = Bench::start("crm_reassign_reused").await;
    let [leaver, heir, other] = [(); 3].map(|()| bench.ctx(bench.one));
    make(&bench, &leaver, &["A"]).await;
    let asked = once(user(&leaver), user(&heir));
    bench.contacts.reassign(&heir, &asked).await.unwrap();
    let mates = make(&bench, &other, &["B"]).await.remove(0);
    let filtered = Reassignment {
        filter: "display_name = A".parse().unwrap(),
        ..asked.clone()
    };
    let of_other = Reassignment {
        from: user(&other),
        ..asked.clone()
    };
    let to_other = Reassignment {
        to: user(&other),
        ..asked.clone()
    };
    for (by, asked) in [
        (&heir, &filtered),
        (&heir, &of_other),
        (&heir, &to_other),
        (&other, &asked),
    ] {
        let refused = bench.contacts.reassign(by, asked).await;
        assert!(matches!(refused, Err(Error::RequestReused)), "{asked:?}: {refused:?}");
    }
    assert_eq!(bench.contacts.get(&other, mates.id).await.unwrap(), mates);
    // In another tenant, and for another method, it is another request.
    let abroad = bench.contacts.reassign(&bench.ctx(bench.two), &asked).await.unwrap();
    assert_eq!(abroad, done(0, 0));
    let mut new = named("C");
    new.request_id = asked.request_id;
    assert!(bench.contacts.create(&heir, new).await.is_ok());
}

#[tokio::test]
async fn simultaneous_calls_with_one_request_id_get_one_answer() {
    let bench = Bench::start("crm_reassign_one_answer").await;
    let [leaver, heir] = [(); 2].map(|()| bench.ctx(bench.one));
    for round in 0..5 {
        make(&bench, &leaver, &["A", "B"]).await;
        let asked = once(user(&leaver), user(&heir));
        let answers = join_all((0..4).map(|_| bench.contacts.reassign(&heir, &asked))).await;
        for answer in answers {
            assert_eq!(answer.unwrap(), done(2, 0), "round {round}");
        }
    }
    assert_eq!(
        bench.count(bench.one, "rowhouse.outbox").await,
        20,
        "created, and given, once each"
    );
}

#[tokio::test]
async fn a_trial_uses_no_request_id_up() {
    let bench = Bench::start("crm_reassign_trial_once").await;
    let [leaver, heir] = [(); 2].map(|()| bench.ctx(bench.one));
    make(&bench, &leaver, &["A"]).await;
    let asked = once(user(&leaver), user(&heir));
    let trial = Reassignment {
        validate_only: true,
        ..asked.clone()
    };
    assert_eq!(bench.contacts.reassign(&heir, &trial).await.unwrap(), done(0, 1));
    assert_eq!(bench.contacts.reassign(&heir, &asked).await.unwrap(), done(1, 0));
    assert_eq!(bench.contacts.reassign(&heir, &trial).await.unwrap(), done(0, 0));
}

#[tokio::test]
async fn a_request_id_counts_as_new_after_its_time_and_takes_four_others_away() {
    let bench = Bench::start("crm_reassign_expired").await;
    let [leaver, heir] = [(); 2].map(|()| bench.ctx(bench.one));
    let asked = once(user(&leaver), user(&heir));
    bench.contacts.reassign(&heir, &asked).await.unwrap();
    for _ in 0..5 {
        let other = once(user(&leaver), user(&heir));
        bench.contacts.reassign(&heir, &other).await.unwrap();
    }
    bench
        .execute(
            bench.one,
            "UPDATE requests SET expires_at = now() - interval '1 second'",
        )
        .await;
    make(&bench, &leaver, &["A"]).await;
    assert_eq!(bench.contacts.reassign(&heir, &asked).await.unwrap(), done(1, 0));
    assert_eq!(bench.count(bench.one, "requests").await, 2);
    // It was taken over whole: the next call is a repetition of this one.
    assert_eq!(bench.contacts.reassign(&heir, &asked).await.unwrap(), done(1, 0));
}

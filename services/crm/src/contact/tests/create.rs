//! Creates, and creates that are repeated.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use rowhouse_status::{Failure, Reason};
use rowhouse_types::{ContactId, Etag, IdempotencyKey};

use super::bench::{Bench, PLACEMENTS, details, named};
use crate::error::Error;

#[tokio::test]
async fn a_created_contact_is_read_back_and_leaves_an_entry_and_an_event() {
    let bench = Bench::start("crm_create").await;
    let ctx = bench.ctx(bench.one);
    let created = bench.contacts.create(&ctx, named("Ada Lovelace")).await.unwrap();
    assert_eq!(created.etag, Etag::from_revision(1));
    assert_eq!(Some(created.owner), ctx.principal().user());
    assert_eq!(bench.contacts.get(&ctx, created.id).await.unwrap(), created);

    let entry = bench
        .text(
            bench.one,
            "SELECT concat_ws('|', actor, action, target, outcome, request_id, before IS NULL, after->>'display_name',
                 address, reason)
             FROM audit_entries",
        )
        .await;
    let expected = format!(
        "{}|contacts:create|{}|succeeded|{}|t|Ada Lovelace|192.0.2.7|because",
        ctx.principal().actor(),
        created.id.uuid(),
        ctx.request_id()
    );
    assert_eq!(entry, expected);
    let event = bench
        .text(
            bench.one,
            "SELECT concat_ws('|', tenant_id, kind, payload->>'contact_id', request_id) FROM rowhouse.outbox",
        )
        .await;
    let tenant = bench.one.uuid();
    let expected = format!("{tenant}|crm.contact_created.v1|{}|{}", created.id, ctx.request_id());
    assert_eq!(event, expected);
}

#[tokio::test]
async fn a_repeated_call_answers_the_contact_as_it_was_then() {
    let bench = Bench::start("crm_create_again").await;
    let ctx = bench.ctx(bench.one);
    let new = named("Ada").once();
    let created = bench.contacts.create(&ctx, new.clone()).await.unwrap();
    let change = crate::contact::actions::Change {
        id: created.id,
        etag: None,
    };
    bench.contacts.delete(&ctx, change).await.unwrap();
    assert_eq!(bench.contacts.create(&ctx, new).await.unwrap(), created);
    assert_eq!(bench.count(bench.one, "contacts").await, 1);
    // The second call wrote nothing: one entry for the create, one for the delete.
    assert_eq!(bench.count(bench.one, "audit_entries").await, 2);
    assert_eq!(bench.count(bench.one, "rowhouse.outbox").await, 2);
}

#[tokio::test]
async fn a_request_id_with_other_content_or_by_another_user_is_refused() {
    let bench = Bench::start("crm_reused").await;
    let ctx = bench.ctx(bench.one);
    let new = named("Ada").once();
    bench.contacts.create(&ctx, new.clone()).await.unwrap();
    let mut other = named("Grace");
    other.request_id = new.request_id;
    let refused = bench.contacts.create(&ctx, other).await.unwrap_err();
    assert!(matches!(refused, Error::RequestReused));
    let refused = Failure::from(refused);
    assert_eq!(refused.reason(), Reason::RequestIdReused);
    assert_eq!(refused.violations()[0].field, "request_id");
    let stranger = bench.ctx(bench.one);
    assert!(matches!(
        bench.contacts.create(&stranger, new.clone()).await,
        Err(Error::RequestReused)
    ));
    assert_eq!(bench.count(bench.one, "contacts").await, 1);
    // In another tenant it is another request.
    assert!(bench.contacts.create(&bench.ctx(bench.two), new).await.is_ok());
}

#[tokio::test]
async fn simultaneous_calls_with_one_request_id_create_one_contact() {
    let bench = Bench::start("crm_at_once").await;
    let ctx = bench.ctx(bench.one);
    for round in 0..5 {
        let new = named(&format!("Ada {round}")).once();
        let calls = (0..8).map(|_| bench.contacts.create(&ctx, new.clone()));
        let answers = join_all(calls).await;
        let ids: BTreeSet<ContactId> = answers.into_iter().map(|answer| answer.unwrap().id).collect();
        assert_eq!(ids.len(), 1);
    }
    assert_eq!(bench.count(bench.one, "contacts").await, 5);
    assert_eq!(bench.count(bench.one, "rowhouse.outbox").await, 5);
}

#[tokio::test]
async fn after_its_time_a_request_id_counts_as_new() {
    let bench = Bench::start("crm_expired").await;
    let ctx = bench.ctx(bench.one);
    let new = named("Ada").once();
    let first = bench.contacts.create(&ctx, new.clone()).await.unwrap();
    bench
        .execute(
            bench.one,
            "UPDATE requests SET expires_at = now() - interval '1 second'",
        )
        .await;
    let second = bench.contacts.create(&ctx, new.clone()).await.unwrap();
    assert_ne!(first.id, second.id);
    // It was taken over whole: the next call is a repetition of the second one.
    assert_eq!(bench.contacts.create(&ctx, new).await.unwrap().id, second.id);
    assert_eq!(bench.count(bench.one, "requests").await, 1);
}

#[tokio::test]
async fn creates_take_expired_requests_away_a_few_at_a_time() {
    let bench = Bench::start("crm_tidy").await;
    let ctx = bench.ctx(bench.one);
    for number in 0..6 {
        let new = named(&format!("Ada {number}")).once();
        bench.contacts.create(&ctx, new).await.unwrap();
    }
    bench
        .execute(
            bench.one,
            "UPDATE requests SET expires_at = now() - interval '1 second'",
        )
        .await;
    bench.contacts.create(&ctx, named("Grace").once()).await.unwrap();
    assert_eq!(bench.count(bench.one, "requests").await, 3);
    bench.contacts.create(&ctx, named("Edsger").once()).await.unwrap();
    assert_eq!(bench.count(bench.one, "requests").await, 2);
}

/// Of tenants that make no more calls, too: what was answered holds what contacts say.
#[tokio::test]
async fn answers_of_yesterday_are_forgotten_in_every_home_that_may_be_changed() {
    for placement in PLACEMENTS {
        let bench = Bench::start_in("crm_forget", placement).await;
        for tenant in [bench.one, bench.two] {
            for name in ["Ada", "Grace"] {
                let ctx = bench.ctx(tenant);
                bench.contacts.create(&ctx, named(name).once()).await.unwrap();
            }
        }
        let left = || async { [bench.requests(bench.one).await, bench.requests(bench.two).await] };
        assert_eq!((bench.forget().await, left().await), (0, [2, 2]), "{placement:?}");

        // By the clock of who calls it may not be over yet.
        bench.expire_requests(bench.one, 2, "30 seconds").await;
        assert_eq!((bench.forget().await, left().await), (0, [2, 2]), "{placement:?}");

        bench.expire_requests(bench.one, 1, "2 minutes").await;
        bench.expire_requests(bench.two, 2, "2 minutes").await;
        bench.freeze(bench.two).await;
        assert_eq!((bench.forget().await, left().await), (1, [1, 2]), "{placement:?}");
        bench.thaw(bench.two).await;
        assert_eq!((bench.forget().await, left().await), (2, [1, 0]), "{placement:?}");
        assert_eq!(bench.contacts.count(&bench.ctx(bench.two)).await.unwrap(), 2);
    }
}

#[tokio::test]
async fn awkward_text_is_kept_as_it_is() {
    let bench = Bench::start("crm_text").await;
    let ctx = bench.ctx(bench.one);
    for name in [
        "O'Hara; DROP TABLE contacts; --",
        // Composed and decomposed letters, and joiners.
        "\u{e4}o\u{308} \u{1f469}\u{200d}\u{1f4bb}",
        "\u{645}\u{631}\u{62d}\u{628}\u{627} \u{645}\u{6cc}\u{200c}\u{631}\u{648}\u{645}",
        "100% _under\\score_ $1 {brace}",
        &"\u{1f469}".repeat(200),
    ] {
        let mut new = named("x");
        new.details = details(name);
        let created = bench.contacts.create(&ctx, new.once()).await.unwrap();
        assert_eq!(created.details.display_name.as_str(), name);
        assert_eq!(bench.contacts.get(&ctx, created.id).await.unwrap(), created);
    }
}

#[tokio::test]
async fn a_contact_with_text_that_is_refused_by_now_is_still_read() {
    let bench = Bench::start("crm_text_before").await;
    let ctx = bench.ctx(bench.one);
    let created = bench.contacts.create(&ctx, named("Ada").once()).await.unwrap();
    bench
        .execute(
            bench.one,
            r"UPDATE contacts SET display_name = U&'A\200Bda', email = U&'a\202Eda@example.com', company = U&'\2028'",
        )
        .await;
    let read = bench.contacts.get(&ctx, created.id).await.unwrap();
    let details = &read.details;
    assert_eq!(details.display_name.as_str(), "A\u{200b}da");
    assert_eq!(details.email.as_str(), "a\u{202e}da@example.com");
    assert_eq!(details.company.as_str(), "\u{2028}");
}

#[tokio::test]
async fn a_failed_create_leaves_nothing() {
    let bench = Bench::start("crm_nothing_left").await;
    let ctx = bench.ctx(bench.one);
    // The event's insert fails, last of all that the statement does.
    bench
        .execute(bench.one, "REVOKE INSERT ON rowhouse.outbox FROM rowhouse_tenant")
        .await;
    let mut new = named("Ada");
    new.request_id = Some(IdempotencyKey::generate());
    assert!(matches!(
        bench.contacts.create(&ctx, new).await,
        Err(Error::Database(_))
    ));
    for table in ["contacts", "audit_entries", "requests", "rowhouse.outbox"] {
        assert_eq!(bench.count(bench.one, table).await, 0, "{table}");
    }
}

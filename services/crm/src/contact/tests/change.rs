//! Updates, deletes and undeletes; etags.

use futures_util::future::join_all;
use rowhouse_status::{Failure, Reason};
use rowhouse_types::{ContactId, Etag, Text};

use super::bench::{Bench, PLACEMENTS, named};
use crate::contact::actions::Change;
use crate::contact::{OptionalEmail, Patch};
use crate::error::Error;

fn unconditional(id: ContactId) -> Change {
    Change { id, etag: None }
}

fn named_patch(name: &str) -> Patch {
    Patch {
        display_name: Some(Text::parse_required(name).unwrap()),
        ..Patch::default()
    }
}

/// `İ` may be in no address since it can pass for an `i`. Members entered it before.
#[tokio::test]
async fn an_address_that_is_taken_no_more_is_read_and_kept() {
    for placement in PLACEMENTS {
        let bench = Bench::start_in("crm_update_older", placement).await;
        let ctx = bench.ctx(bench.one);
        let created = bench.contacts.create(&ctx, named("Ada")).await.unwrap();
        let older = "ada@\u{130}stanbul.example";
        assert!(OptionalEmail::parse(older).is_err());
        bench
            .execute(bench.one, &format!("UPDATE contacts SET email = '{older}'"))
            .await;
        let read = bench.contacts.get(&ctx, created.id).await.unwrap();
        assert_eq!(read.details.email.as_str(), older);
        let change = unconditional(created.id);
        let updated = bench
            .contacts
            .update(&ctx, change, &named_patch("Ada L"))
            .await
            .unwrap();
        assert_eq!(updated.details.email.as_str(), older);
    }
}

#[tokio::test]
async fn an_update_changes_what_the_patch_holds_and_nothing_else() {
    for placement in PLACEMENTS {
        let bench = Bench::start_in("crm_update", placement).await;
        let ctx = bench.ctx(bench.one);
        let created = bench.contacts.create(&ctx, named("Ada")).await.unwrap();
        let patch = Patch {
            phone: Some(Text::parse_optional("+44 20").unwrap()),
            email: Some(OptionalEmail::default()),
            ..Patch::default()
        };
        let change = Change {
            id: created.id,
            etag: Some(created.etag),
        };
        let updated = bench.contacts.update(&ctx, change, &patch).await.unwrap();
        let mut expected = created.clone();
        expected.details.phone = Text::parse_optional("+44 20").unwrap();
        expected.details.email = OptionalEmail::default();
        expected.etag = Etag::from_revision(2);
        expected.updated_at = updated.updated_at;
        assert_eq!(updated, expected);
        assert!(updated.updated_at >= created.updated_at);
        assert_eq!(bench.contacts.get(&ctx, created.id).await.unwrap(), updated);

        let entry = bench
            .text(
                bench.one,
                "SELECT concat_ws('|', before->>'phone', after->>'phone', before->>'revision', after->>'revision')
                 FROM audit_entries WHERE action = 'contacts:update'",
            )
            .await;
        assert_eq!(entry, "|+44 20|1|2");
        let kinds = bench
            .text(
                bench.one,
                "SELECT string_agg(kind, ' ' ORDER BY created_at) FROM rowhouse.outbox",
            )
            .await;
        assert_eq!(kinds, "crm.contact_created.v1 crm.contact_updated.v1");
    }
}

#[tokio::test]
async fn a_stale_etag_is_rejected_and_nothing_is_written() {
    for placement in PLACEMENTS {
        let bench = Bench::start_in("crm_stale", placement).await;
        let ctx = bench.ctx(bench.one);
        let created = bench.contacts.create(&ctx, named("Ada")).await.unwrap();
        let stale = Change {
            id: created.id,
            etag: Some(created.etag),
        };
        bench.contacts.update(&ctx, stale, &named_patch("Grace")).await.unwrap();
        let outcomes = [
            bench.contacts.update(&ctx, stale, &named_patch("Edsger")).await,
            bench.contacts.delete(&ctx, stale).await,
        ];
        for outcome in outcomes {
            let refused = outcome.unwrap_err();
            assert!(matches!(refused, Error::EtagMismatch { .. }));
            assert_eq!(Failure::from(refused).reason(), Reason::EtagMismatch);
        }
        let now = bench.contacts.get(&ctx, created.id).await.unwrap();
        assert_eq!(now.details.display_name.as_str(), "Grace");
        assert_eq!(bench.count(bench.one, "audit_entries").await, 2);
        assert_eq!(bench.count(bench.one, "rowhouse.outbox").await, 2);
    }
}

#[tokio::test]
async fn of_simultaneous_updates_with_one_etag_exactly_one_succeeds() {
    for placement in PLACEMENTS {
        let bench = Bench::start_in("crm_one_wins", placement).await;
        let ctx = bench.ctx(bench.one);
        let mut contact = bench.contacts.create(&ctx, named("Ada")).await.unwrap();
        for round in 0..5 {
            let change = Change {
                id: contact.id,
                etag: Some(contact.etag),
            };
            let patches: Vec<Patch> = (0..8).map(|n| named_patch(&format!("Ada {round} {n}"))).collect();
            let outcomes = join_all(patches.iter().map(|patch| bench.contacts.update(&ctx, change, patch))).await;
            let (won, lost): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
            assert_eq!(won.len(), 1);
            assert!(lost.iter().all(|lost| matches!(lost, Err(Error::EtagMismatch { .. }))));
            contact = bench.contacts.get(&ctx, contact.id).await.unwrap();
            assert_eq!(Some(&contact), won[0].as_ref().ok());
        }
    }
}

#[tokio::test]
async fn simultaneous_updates_without_an_etag_all_count() {
    for placement in PLACEMENTS {
        let bench = Bench::start_in("crm_all_count", placement).await;
        let ctx = bench.ctx(bench.one);
        let created = bench.contacts.create(&ctx, named("Ada")).await.unwrap();
        let patch = named_patch("Grace");
        let outcomes = join_all((0..8).map(|_| bench.contacts.update(&ctx, unconditional(created.id), &patch))).await;
        assert!(outcomes.iter().all(Result::is_ok));
        let now = bench.contacts.get(&ctx, created.id).await.unwrap();
        assert_eq!(now.etag, Etag::from_revision(9));
        assert_eq!(bench.count(bench.one, "audit_entries").await, 9);
    }
}

#[tokio::test]
async fn a_deleted_contact_is_gone_until_it_is_undeleted() {
    for placement in PLACEMENTS {
        let bench = Bench::start_in("crm_delete", placement).await;
        let ctx = bench.ctx(bench.one);
        let created = bench.contacts.create(&ctx, named("Ada")).await.unwrap();
        let change = unconditional(created.id);
        let deleted = bench.contacts.delete(&ctx, change).await.unwrap();
        assert!(deleted.deleted_at.is_some());
        assert_eq!(deleted.etag, Etag::from_revision(2));
        let patch = named_patch("Grace");
        let outcomes = [
            bench.contacts.get(&ctx, created.id).await,
            bench.contacts.update(&ctx, change, &patch).await,
            bench.contacts.delete(&ctx, change).await,
        ];
        assert!(
            outcomes
                .iter()
                .all(|outcome| matches!(outcome, Err(Error::ContactUnknown { .. })))
        );

        let stale = Change {
            id: created.id,
            etag: Some(created.etag),
        };
        assert!(matches!(
            bench.contacts.undelete(&ctx, stale).await,
            Err(Error::EtagMismatch { .. })
        ));
        let current = Change {
            id: created.id,
            etag: Some(deleted.etag),
        };
        let back = bench.contacts.undelete(&ctx, current).await.unwrap();
        assert_eq!((back.deleted_at, back.etag), (None, Etag::from_revision(3)));
        assert_eq!(bench.contacts.get(&ctx, created.id).await.unwrap(), back);
        assert!(matches!(
            bench.contacts.undelete(&ctx, change).await,
            Err(Error::NotDeleted { .. })
        ));
        let kinds = bench
            .text(
                bench.one,
                "SELECT string_agg(kind, ' ' ORDER BY created_at) FROM rowhouse.outbox",
            )
            .await;
        assert_eq!(
            kinds,
            "crm.contact_created.v1 crm.contact_deleted.v1 crm.contact_undeleted.v1"
        );
    }
}

//! The stream of all contacts.

use std::collections::BTreeSet;

use futures_util::StreamExt as _;

use rowhouse_types::ContactId;

use super::bench::{Bench, PLACEMENTS, named};
use crate::contact::actions::Change;
use crate::error::Error;
use crate::export;

#[tokio::test]
async fn every_contact_that_is_not_deleted_comes_once() {
    for placement in PLACEMENTS {
        let bench = Bench::start_in("crm_stream", placement).await;
        let ctx = bench.ctx(bench.one);
        bench
            .contacts
            .create(&bench.ctx(bench.two), named("Mallory"))
            .await
            .unwrap();
        let gone = bench.contacts.create(&ctx, named("Gone")).await.unwrap();
        let change = Change {
            id: gone.id,
            etag: None,
        };
        bench.contacts.delete(&ctx, change).await.unwrap();
        bench.plant(bench.one, 1_201).await;

        let mut pages = export::contacts(bench.contacts.clone(), ctx, None).await.unwrap();
        let (mut ids, mut sizes) = (BTreeSet::new(), Vec::new());
        while let Some(page) = pages.next().await {
            let page = page.unwrap();
            assert_eq!(page.total, 1_201);
            sizes.push(page.contacts.len());
            ids.extend(page.contacts.iter().map(|contact| contact.id));
        }
        assert_eq!((ids.len(), sizes), (1_201, vec![500, 500, 201]));
        assert!(!ids.contains(&gone.id));
    }
}

#[tokio::test]
async fn a_tenant_without_contacts_gets_one_empty_page() {
    for placement in PLACEMENTS {
        let bench = Bench::start_in("crm_stream_empty", placement).await;
        let mut pages = export::contacts(bench.contacts.clone(), bench.ctx(bench.one), None)
            .await
            .unwrap();
        let page = pages.next().await.unwrap().unwrap();
        assert_eq!((page.contacts.len(), page.total), (0, 0));
        assert!(pages.next().await.is_none());
    }
}

#[tokio::test]
async fn a_home_that_is_frozen_between_two_pages_ends_the_stream() {
    for placement in PLACEMENTS {
        let bench = Bench::start_in("crm_stream_frozen", placement).await;
        bench.plant(bench.one, 600).await;
        let mut pages = export::contacts(bench.contacts.clone(), bench.ctx(bench.one), None)
            .await
            .unwrap();
        assert!(pages.next().await.unwrap().is_ok());
        bench.freeze(bench.one).await;
        let refused = pages.next().await.unwrap().unwrap_err();
        assert!(
            matches!(refused, Error::Database(rowhouse_db::Error::TenantSuspended)),
            "{refused:?}"
        );
        assert!(pages.next().await.is_none());
    }
}

/// Ids and page sizes of a stream that begins behind `after`, and the total that it shows.
async fn streamed(bench: &Bench, after: Option<ContactId>) -> (Vec<ContactId>, Vec<usize>, Vec<i64>) {
    let pages = export::contacts(bench.contacts.clone(), bench.ctx(bench.one), after).await;
    let pages: Vec<_> = pages.unwrap().map(Result::unwrap).collect().await;
    let ids = pages
        .iter()
        .flat_map(|page| page.contacts.iter().map(|contact| contact.id));
    let sizes = pages.iter().map(|page| page.contacts.len());
    (
        ids.collect(),
        sizes.collect(),
        pages.iter().map(|page| page.total).collect(),
    )
}

#[tokio::test]
async fn a_stream_goes_on_behind_any_contact_without_a_gap_or_a_repetition() {
    for placement in PLACEMENTS {
        let bench = Bench::start_in("crm_stream_after", placement).await;
        bench.plant(bench.one, 1_201).await;
        let (all, ..) = streamed(&bench, None).await;
        assert!(all.is_sorted());
        for last in [0, 1, 499, 500, 999, 1_198, 1_199] {
            let (rest, _, totals) = streamed(&bench, Some(all[last])).await;
            assert_eq!(rest, all[last + 1..], "behind {last}");
            // Of all contacts, so that progress goes on where it was.
            assert!(totals.iter().all(|total| *total == 1_201), "{totals:?}");
        }
        // Behind the last one there is nothing, not even a page that says so.
        assert_eq!(streamed(&bench, Some(all[1_200])).await, (vec![], vec![], vec![]));
    }
}

#[tokio::test]
async fn where_a_stream_goes_on_names_nothing() {
    for placement in PLACEMENTS {
        let bench = Bench::start_in("crm_stream_cursor", placement).await;
        bench.plant(bench.one, 20).await;
        bench.plant(bench.two, 20).await;
        let ctx = bench.ctx(bench.one);
        let gone = bench.contacts.create(&ctx, named("Gone")).await.unwrap().id;
        bench
            .contacts
            .delete(&ctx, Change { id: gone, etag: None })
            .await
            .unwrap();
        let foreign = bench
            .contacts
            .page_by_id(&bench.ctx(bench.two), None, 20)
            .await
            .unwrap();
        let (all, ..) = streamed(&bench, None).await;
        let cursors = foreign.iter().map(|contact| contact.id);
        for cursor in cursors.chain([gone, ContactId::generate(), ContactId::generate()]) {
            let behind: Vec<_> = all.iter().copied().filter(|id| *id > cursor).collect();
            assert_eq!(streamed(&bench, Some(cursor)).await.0, behind, "{cursor}");
        }
    }
}

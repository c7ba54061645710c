//! The stream of all contacts.

use std::collections::BTreeSet;

use futures_util::StreamExt as _;

use super::bench::{Bench, named};
use crate::contact::actions::Change;
use crate::error::Error;
use crate::export;

#[tokio::test]
async fn every_contact_that_is_not_deleted_comes_once() {
    let bench = Bench::start("crm_stream").await;
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

    let mut pages = export::contacts(bench.contacts.clone(), ctx).await.unwrap();
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

#[tokio::test]
async fn a_tenant_without_contacts_gets_one_empty_page() {
    let bench = Bench::start("crm_stream_empty").await;
    let mut pages = export::contacts(bench.contacts.clone(), bench.ctx(bench.one))
        .await
        .unwrap();
    let page = pages.next().await.unwrap().unwrap();
    assert_eq!((page.contacts.len(), page.total), (0, 0));
    assert!(pages.next().await.is_none());
}

#[tokio::test]
async fn a_home_that_is_frozen_between_two_pages_ends_the_stream() {
    let bench = Bench::start("crm_stream_frozen").await;
    bench.plant(bench.one, 600).await;
    let mut pages = export::contacts(bench.contacts.clone(), bench.ctx(bench.one))
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

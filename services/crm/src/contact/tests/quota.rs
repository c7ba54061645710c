//! Plans' bounds on contacts.

use rowhouse_status::{Failure, Reason};
use rowhouse_types::{ContactId, Limits};

use super::bench::{Bench, named};
use crate::contact::actions::{Change, Contacts};
use crate::error::Error;

fn at_most(contacts: u32) -> Limits {
    Limits {
        contacts: Some(contacts),
        ..Limits::default()
    }
}

async fn create(bench: &Bench, contacts: &Contacts, name: &str) -> Result<crate::contact::Contact, Error> {
    contacts.create(&bench.ctx(bench.one), named(name)).await
}

#[tokio::test]
async fn no_more_contacts_than_the_plan_allows_and_each_tenant_has_its_own_room() {
    let bench = Bench::start("quota_contacts").await;
    let contacts = bench.bounded(at_most(2));
    for name in ["one", "two"] {
        create(&bench, &contacts, name).await.unwrap();
    }
    let refused = Failure::from(create(&bench, &contacts, "three").await.unwrap_err());
    assert_eq!(refused.reason(), Reason::QuotaExceeded);
    assert_eq!(bench.count(bench.one, "contacts").await, 2);
    contacts
        .create(&bench.ctx(bench.two), named("neighbour"))
        .await
        .unwrap();
    // The control: without a bound there is room.
    create(&bench, &bench.contacts, "three").await.unwrap();
    // A plan below what is used takes nothing away, and another process counts for itself.
    let less = bench.bounded(at_most(1));
    assert!(matches!(
        create(&bench, &less, "four").await,
        Err(Error::QuotaExceeded { most: 1, .. })
    ));
    assert_eq!(bench.count(bench.one, "contacts").await, 3);
}

#[tokio::test]
async fn a_deleted_contact_takes_no_room_until_it_is_brought_back() {
    let bench = Bench::start("quota_deleted").await;
    let ctx = bench.ctx(bench.one);
    let first = create(&bench, &bench.contacts, "first").await.unwrap();
    let change = Change {
        id: first.id,
        etag: None,
    };
    bench.contacts.delete(&ctx, change).await.unwrap();
    let contacts = bench.bounded(at_most(1));
    create(&bench, &contacts, "second").await.unwrap();
    let refused = contacts.undelete(&ctx, change).await;
    assert!(matches!(refused, Err(Error::QuotaExceeded { .. })));
}

#[tokio::test]
async fn a_repeated_call_gets_its_contact_from_a_tenant_that_is_full() {
    let bench = Bench::start("quota_repeated").await;
    let contacts = bench.bounded(at_most(1));
    let ctx = bench.ctx(bench.one);
    let new = named("only").once();
    let first = contacts.create(&ctx, new.clone()).await.unwrap();
    assert_eq!(contacts.create(&ctx, new).await.unwrap(), first);
    let another = contacts.create(&ctx, named("another").once()).await;
    assert!(matches!(another, Err(Error::QuotaExceeded { .. })));
}

#[tokio::test]
async fn a_tenant_that_is_full_gives_the_contact_of_a_call_to_no_other_call() {
    let bench = Bench::start("quota_reused").await;
    let contacts = bench.bounded(at_most(1));
    let (ctx, stranger) = (bench.ctx(bench.one), bench.ctx(bench.one));
    let new = named("only").once();
    contacts.create(&ctx, new.clone()).await.unwrap();
    let mut other = named("other");
    other.request_id = new.request_id;
    for (by, asked) in [(&ctx, other), (&stranger, new)] {
        let refused = contacts.create(by, asked).await;
        assert!(matches!(refused, Err(Error::QuotaExceeded { .. })), "{refused:?}");
    }
}

#[tokio::test]
async fn calls_that_create_nothing_take_no_room() {
    let bench = Bench::start("quota_nothing").await;
    let contacts = bench.bounded(at_most(2));
    let ctx = bench.ctx(bench.one);
    let new = named("first").once();
    contacts.create(&ctx, new.clone()).await.unwrap();
    contacts.create(&ctx, new).await.unwrap();
    let unknown = Change {
        id: ContactId::generate(),
        etag: None,
    };
    let undeleted = contacts.undelete(&ctx, unknown).await;
    assert!(matches!(undeleted, Err(Error::ContactUnknown { .. })));
    create(&bench, &contacts, "second").await.unwrap();
    // The control: the room that contacts have taken is kept.
    let third = create(&bench, &contacts, "third").await;
    assert!(matches!(third, Err(Error::QuotaExceeded { most: 2, .. })));
}

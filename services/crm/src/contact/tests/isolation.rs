//! Another tenant's contacts are answered like contacts that never were.

use rowhouse_db::{Mode, Statement};
use rowhouse_status::Failure;
use rowhouse_types::{ContactId, Placement, Text};

use super::bench::{Bench, PLACEMENTS, named};
use crate::contact::actions::Change;
use crate::contact::{Contact, Patch};
use crate::error::Result;

/// A refusal with everything the caller would see, the id in it replaced.
fn refusal(answer: Result<Contact>, id: ContactId) -> String {
    let failure = Failure::from(answer.unwrap_err());
    format!("{failure:?}").replace(&id.to_string(), "ID")
}

#[tokio::test]
async fn a_foreign_id_is_answered_like_a_random_one_and_like_a_deleted_one() {
    for placement in PLACEMENTS {
        foreign_ids_in(placement).await;
    }
}

async fn foreign_ids_in(placement: Placement) {
    let bench = Bench::start_in("crm_foreign", placement).await;
    let (ours, theirs) = (bench.ctx(bench.one), bench.ctx(bench.two));
    let foreign = bench.contacts.create(&theirs, named("Ada")).await.unwrap();
    let deleted = bench.contacts.create(&ours, named("Grace")).await.unwrap();
    let gone = Change {
        id: deleted.id,
        etag: None,
    };
    bench.contacts.delete(&ours, gone).await.unwrap();
    let patch = Patch {
        display_name: Some(Text::parse_required("Mallory").unwrap()),
        ..Patch::default()
    };
    let mut seen = Vec::new();
    for id in [foreign.id, ContactId::generate(), deleted.id] {
        // The foreign contact's own etag gives nothing away either.
        for etag in [None, Some(foreign.etag)] {
            let change = Change { id, etag };
            seen.push([
                refusal(bench.contacts.get(&ours, id).await, id),
                refusal(bench.contacts.update(&ours, change, &patch).await, id),
                refusal(bench.contacts.delete(&ours, change).await, id),
            ]);
        }
    }
    assert!(seen.windows(2).all(|pair| pair[0] == pair[1]), "{seen:#?}");
    for id in [foreign.id, ContactId::generate()] {
        let change = Change { id, etag: None };
        assert_eq!(refusal(bench.contacts.undelete(&ours, change).await, id), seen[0][0]);
    }
    assert_eq!(bench.contacts.get(&theirs, foreign.id).await.unwrap(), foreign);
}

/// The control: the owner of the id gets another answer, so equal answers above mean something.
#[tokio::test]
async fn the_owner_of_the_id_is_answered() {
    let bench = Bench::start("crm_owner").await;
    let theirs = bench.ctx(bench.two);
    let contact = bench.contacts.create(&theirs, named("Ada")).await.unwrap();
    assert_eq!(bench.contacts.get(&theirs, contact.id).await.unwrap(), contact);
}

#[tokio::test]
async fn the_tenants_role_can_neither_change_nor_remove_audit_entries() {
    const CHANGE: Statement<()> = Statement::new(
        "test.change_entry",
        "UPDATE audit_entries SET actor = 'nobody' WHERE tenant_id = $1",
        &[],
    );
    const REMOVE: Statement<()> = Statement::new(
        "test.remove_entry",
        "DELETE FROM audit_entries WHERE tenant_id = $1",
        &[],
    );
    const REMOVE_CONTACT: Statement<()> =
        Statement::new("test.remove_contact", "DELETE FROM contacts WHERE tenant_id = $1", &[]);
    const READ_OUTBOX: Statement<()> = Statement::new(
        "test.read_outbox",
        "SELECT FROM rowhouse.outbox WHERE tenant_id = $1",
        &[],
    );
    let bench = Bench::start("crm_audit").await;
    let ctx = bench.ctx(bench.one);
    bench.contacts.create(&ctx, named("Ada")).await.unwrap();
    for statement in [&CHANGE, &REMOVE, &REMOVE_CONTACT, &READ_OUTBOX] {
        let mut tx = bench.db.begin_single(&ctx, Mode::Write).await.unwrap();
        let refused = tx.execute(statement, &[]).await.unwrap_err();
        assert!(refused.to_string().contains("42501"), "{refused}");
    }
    assert_eq!(bench.count(bench.one, "audit_entries").await, 1);
}

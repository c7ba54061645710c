//! Contacts of one owner that become another's: which, how many in a call, and what is written about each.

mod beside;
mod bounds;
mod once;

use std::collections::BTreeSet;

use futures_util::future::join_all;
use rowhouse_audit::{AuditLog as _, Entry, Query};
use rowhouse_context::{Ctx, Principal, Reach};
use rowhouse_status::Failure;
use rowhouse_types::{ContactId, Etag, IdempotencyKey, Placement, TenantId, UserId};
use serde_json::Value;

use super::bench::{Bench, PLACEMENTS, named};
use crate::audit::HomeLog;
use crate::contact::actions::Change;
use crate::contact::actions::reassign::{Reassigned, Reassignment};
use crate::contact::{Contact, Patch};
use crate::error::Error;

fn user(ctx: &Ctx) -> UserId {
    ctx.principal().user().unwrap()
}

fn change(id: ContactId) -> Change {
    Change { id, etag: None }
}

/// All contacts of one to another.
fn all_of(from: UserId, to: UserId) -> Reassignment {
    Reassignment {
        from,
        to,
        filter: "".parse().unwrap(),
        validate_only: false,
        request_id: None,
    }
}

fn done(given: i64, remaining: i64) -> Reassigned {
    Reassigned { given, remaining }
}

/// Contacts of these names.
async fn make(bench: &Bench, ctx: &Ctx, names: &[&str]) -> Vec<Contact> {
    let mut made = Vec::new();
    for name in names {
        made.push(bench.contacts.create(ctx, named(name)).await.unwrap());
    }
    made
}

/// The same person in another tenant.
fn elsewhere(ctx: &Ctx, tenant: TenantId) -> Ctx {
    let Principal::Member { user, session, .. } = ctx.principal().clone() else {
        panic!("is no member");
    };
    let principal = Principal::Member { user, session, tenant };
    Ctx::new(ctx.request_id().clone(), principal, Some(tenant), ctx.deadline()).with_reach(Reach::All)
}

/// Entries about changes, the newest first.
async fn entries(bench: &Bench, ctx: &Ctx) -> Vec<Entry> {
    let query = Query {
        limit: 10,
        action: Some("contacts:update".to_owned()),
        ..Query::default()
    };
    let page = HomeLog::new(&bench.db).page(ctx, ctx.tenant_opt(), &query).await;
    page.unwrap()
}

/// The names of what is not the same before and after.
fn changed(entry: &Entry) -> BTreeSet<&str> {
    let (Some(Value::Object(before)), Some(Value::Object(after))) = (&entry.before, &entry.after) else {
        panic!("an update has a before and an after");
    };
    assert_eq!(before.len(), 11, "all of a contact");
    assert_eq!(before.len(), after.len());
    let names = before.iter().filter(|(name, value)| after.get(*name) != Some(value));
    names.map(|(name, _)| name.as_str()).collect()
}

#[tokio::test]
async fn all_contacts_of_a_leaver_become_anothers_and_nobody_elses_do() {
    for placement in PLACEMENTS {
        let bench = Bench::start_in("crm_reassign", placement).await;
        let [leaver, heir, mate] = [(); 3].map(|()| bench.ctx(bench.one));
        let made = make(&bench, &leaver, &["A", "B", "C"]).await;
        let deleted = make(&bench, &leaver, &["D"]).await.remove(0).id;
        bench.contacts.delete(&leaver, change(deleted)).await.unwrap();
        let mates = make(&bench, &mate, &["M"]).await;
        let abroad = elsewhere(&leaver, bench.two);
        let foreign = make(&bench, &abroad, &["F"]).await;

        let asked = all_of(user(&leaver), user(&heir));
        let given = bench.contacts.reassign(&heir, &asked).await.unwrap();
        assert_eq!(given, done(3, 0), "{placement:?}");
        for contact in &made {
            let now = bench.contacts.get(&heir, contact.id).await.unwrap();
            let expected = Contact {
                owner: user(&heir),
                etag: Etag::from_revision(2),
                updated_at: now.updated_at,
                ..contact.clone()
            };
            assert_eq!(now, expected, "{placement:?}");
            assert!(now.updated_at >= contact.updated_at);
        }
        assert_eq!(bench.contacts.get(&mate, mates[0].id).await.unwrap(), mates[0]);
        assert_eq!(bench.contacts.get(&abroad, foreign[0].id).await.unwrap(), foreign[0]);
        let undeleted = bench.contacts.undelete(&mate, change(deleted)).await.unwrap();
        assert_eq!(undeleted.owner, user(&leaver), "a deleted one stays theirs");
    }
}

#[tokio::test]
async fn each_contact_leaves_what_a_change_of_its_owner_alone_leaves() {
    for placement in PLACEMENTS {
        let bench = Bench::start_in("crm_reassign_record", placement).await;
        let [leaver, heir] = [(); 2].map(|()| bench.ctx(bench.one));
        let made = make(&bench, &leaver, &["A", "B", "C"]).await;
        let patch = Patch {
            owner: Some(user(&heir)),
            ..Patch::default()
        };
        bench.contacts.update(&heir, change(made[0].id), &patch).await.unwrap();
        let asked = all_of(user(&leaver), user(&heir));
        assert_eq!(bench.contacts.reassign(&heir, &asked).await.unwrap(), done(2, 0));

        let entries = entries(&bench, &heir).await;
        assert_eq!(entries.len(), 3, "{placement:?}");
        let alone = entries.last().unwrap();
        let mut targets = BTreeSet::new();
        for entry in &entries {
            assert_eq!(changed(entry), BTreeSet::from(["owner_id", "revision", "updated_at"]));
            let read = |value: &Option<Value>, name: &str| value.as_ref().unwrap()[name].clone();
            assert_eq!(read(&entry.before, "owner_id"), user(&leaver).uuid().to_string());
            assert_eq!(read(&entry.after, "owner_id"), user(&heir).uuid().to_string());
            assert_eq!(read(&entry.before, "id"), read(&entry.after, "id"));
            let same = Entry {
                id: alone.id,
                at: alone.at,
                target: alone.target.clone(),
                before: alone.before.clone(),
                after: alone.after.clone(),
                ..entry.clone()
            };
            assert_eq!(&same, alone, "actor, address, reason, call and outcome");
            targets.insert(entry.target.clone());
        }
        assert_eq!(targets.len(), 3, "one about each");

        let events = bench
            .text(
                bench.one,
                "SELECT string_agg(event, ' ' ORDER BY event COLLATE \"C\") FROM (
                     SELECT concat_ws('|', payload->>'contact_id', tenant_id, request_id) AS event
                     FROM rowhouse.outbox WHERE kind = 'crm.contact_updated.v1') AS events",
            )
            .await;
        let mut expected: Vec<String> = made
            .iter()
            .map(|contact| format!("{}|{}|{}", contact.id, bench.one.uuid(), heir.request_id()))
            .collect();
        expected.sort();
        assert_eq!(events, expected.join(" "), "{placement:?}");
    }
}

#[tokio::test]
async fn a_call_gives_a_thousand_and_the_next_goes_on() {
    let bench = Bench::start("crm_reassign_many").await;
    let heir = bench.ctx(bench.one);
    bench.plant(bench.one, 2_500).await;
    bench
        .execute(
            bench.one,
            "UPDATE contacts SET owner_id = '0197a6de-1c8f-7c1e-a4a5-5f0e9d6f3b21'",
        )
        .await;
    let leaver: uuid::Uuid = "0197a6de-1c8f-7c1e-a4a5-5f0e9d6f3b21".parse().unwrap();
    let asked = all_of(UserId::from_uuid(leaver), user(&heir));
    for expected in [done(1_000, 1_500), done(1_000, 500), done(500, 0), done(0, 0)] {
        assert_eq!(bench.contacts.reassign(&heir, &asked).await.unwrap(), expected);
    }
    assert_eq!(bench.count(bench.one, "audit_entries").await, 2_500);
    assert_eq!(bench.count(bench.one, "rowhouse.outbox").await, 2_500);
    let own = heir.clone().with_reach(Reach::owners([user(&heir)]));
    assert_eq!(bench.contacts.count(&own).await.unwrap(), 2_500);
}

#[tokio::test]
async fn a_trial_says_how_many_there_are_and_gives_none() {
    let bench = Bench::start("crm_reassign_trial").await;
    let [leaver, heir] = [(); 2].map(|()| bench.ctx(bench.one));
    let made = make(&bench, &leaver, &["A", "B"]).await;
    let trial = Reassignment {
        validate_only: true,
        ..all_of(user(&leaver), user(&heir))
    };
    assert_eq!(bench.contacts.reassign(&heir, &trial).await.unwrap(), done(0, 2));
    assert_eq!(bench.contacts.get(&heir, made[0].id).await.unwrap(), made[0]);
    assert_eq!(bench.count(bench.one, "audit_entries").await, 2, "of the creates");
    assert_eq!(bench.count(bench.one, "rowhouse.outbox").await, 2);
}

#[tokio::test]
async fn whoever_reaches_some_owners_gives_the_contacts_of_no_other() {
    for placement in PLACEMENTS {
        let bench = Bench::start_in("crm_reassign_reach", placement).await;
        let [caller, mate, stranger] = [(); 3].map(|()| bench.ctx(bench.one));
        make(&bench, &mate, &["M"]).await;
        let strangers = make(&bench, &stranger, &["S"]).await.remove(0);
        let own = caller.clone().with_reach(Reach::owners([user(&caller)]));
        let team = caller.clone().with_reach(Reach::owners([user(&caller), user(&mate)]));
        let nobody = caller.clone().with_reach(Reach::nobody());
        let of_mate = all_of(user(&mate), user(&caller));
        let of_stranger = all_of(user(&stranger), user(&caller));
        for (by, asked) in [(&own, &of_mate), (&own, &of_stranger), (&team, &of_stranger)] {
            for validate_only in [true, false] {
                let asked = Reassignment {
                    validate_only,
                    ..asked.clone()
                };
                let answer = bench.contacts.reassign(by, &asked).await.unwrap();
                assert_eq!(answer, done(0, 0), "{placement:?} {asked:?}");
            }
        }
        let refused = bench.contacts.reassign(&nobody, &of_mate).await;
        assert!(matches!(refused, Err(Error::ReceiverUnknown)), "{refused:?}");
        assert_eq!(bench.contacts.reassign(&team, &of_mate).await.unwrap(), done(1, 0));
        assert_eq!(bench.contacts.get(&stranger, strangers.id).await.unwrap(), strangers);
        assert_eq!(
            bench.contacts.reassign(&caller, &of_stranger).await.unwrap(),
            done(1, 0)
        );
    }
}

#[tokio::test]
async fn nobody_gets_contacts_who_has_left_or_is_out_of_reach() {
    let bench = Bench::start("crm_reassign_receiver").await;
    let [caller, mate] = [(); 2].map(|()| bench.ctx(bench.one));
    let made = make(&bench, &caller, &["A"]).await.remove(0);
    let own = caller.clone().with_reach(Reach::owners([user(&caller)]));
    let left = UserId::from_uuid(uuid::Uuid::nil());
    let mut seen = BTreeSet::new();
    for (by, to) in [(&caller, left), (&own, user(&mate)), (&own, left)] {
        for validate_only in [true, false] {
            let asked = Reassignment {
                validate_only,
                ..all_of(user(&caller), to)
            };
            let refused = bench.contacts.reassign(by, &asked).await.unwrap_err();
            assert!(matches!(refused, Error::ReceiverUnknown), "{refused:?}");
            seen.insert(format!("{:?}", Failure::from(refused)));
        }
    }
    assert_eq!(seen.len(), 1, "{seen:#?}");
    assert_eq!(bench.contacts.get(&caller, made.id).await.unwrap(), made);
}

#[tokio::test]
async fn another_tenants_member_is_answered_as_one_who_never_was() {
    for placement in PLACEMENTS {
        let bench = Bench::start_in("crm_reassign_foreign", placement).await;
        let (heir, stranger) = (bench.ctx(bench.one), bench.ctx(bench.two));
        let theirs = make(&bench, &stranger, &["F"]).await.remove(0);
        for from in [user(&stranger), UserId::generate()] {
            for validate_only in [true, false] {
                let asked = Reassignment {
                    validate_only,
                    ..all_of(from, user(&heir))
                };
                let answer = bench.contacts.reassign(&heir, &asked).await.unwrap();
                assert_eq!(answer, done(0, 0), "{placement:?}");
            }
        }
        assert_eq!(bench.contacts.get(&stranger, theirs.id).await.unwrap(), theirs);
    }
}

#[tokio::test]
async fn a_filter_chooses_among_the_owners_contacts_alone() {
    let bench = Bench::start("crm_reassign_filter").await;
    let [leaver, heir, mate] = [(); 3].map(|()| bench.ctx(bench.one));
    let made = make(&bench, &leaver, &["Ada", "Grace", "Edsger"]).await;
    let mates = make(&bench, &mate, &["Grace"]).await.remove(0);
    let asked = Reassignment {
        filter: "display_name = Ada OR display_name = Grace".parse().unwrap(),
        ..all_of(user(&leaver), user(&heir))
    };
    assert_eq!(bench.contacts.reassign(&heir, &asked).await.unwrap(), done(2, 0));
    assert_eq!(bench.contacts.get(&heir, made[2].id).await.unwrap(), made[2]);
    assert_eq!(bench.contacts.get(&heir, mates.id).await.unwrap(), mates);
}

#[tokio::test]
async fn of_simultaneous_calls_each_contact_goes_to_one() {
    let bench = Bench::start("crm_reassign_at_once").await;
    let heirs: Vec<Ctx> = (0..4).map(|_| bench.ctx(bench.one)).collect();
    for round in 0..3 {
        let leaver = bench.ctx(bench.one);
        make(&bench, &leaver, &["A", "B", "C", "D", "E", "F"]).await;
        let asked: Vec<Reassignment> = heirs.iter().map(|heir| all_of(user(&leaver), user(heir))).collect();
        let calls = heirs
            .iter()
            .zip(&asked)
            .map(|(heir, asked)| bench.contacts.reassign(heir, asked));
        let given: i64 = join_all(calls)
            .await
            .into_iter()
            .map(|answer| answer.unwrap().given)
            .sum();
        assert_eq!(given, 6, "round {round}");
    }
    assert_eq!(
        bench.count(bench.one, "rowhouse.outbox").await,
        36,
        "created, and given, once each"
    );
}

#[tokio::test]
async fn a_failed_call_gives_nothing() {
    let bench = Bench::start_in("crm_reassign_nothing", Placement::Schema).await;
    let [leaver, heir] = [(); 2].map(|()| bench.ctx(bench.one));
    let made = make(&bench, &leaver, &["A", "B"]).await;
    // The events' insert fails, last of all that the statement does.
    bench
        .execute(bench.one, "REVOKE INSERT ON rowhouse.outbox FROM rowhouse_tenant")
        .await;
    let asked = Reassignment {
        request_id: Some(IdempotencyKey::generate()),
        ..all_of(user(&leaver), user(&heir))
    };
    let failed = bench.contacts.reassign(&heir, &asked).await;
    assert!(matches!(failed, Err(Error::Database(_))), "{failed:?}");
    for contact in &made {
        assert_eq!(&bench.contacts.get(&heir, contact.id).await.unwrap(), contact);
    }
    assert_eq!(bench.count(bench.one, "audit_entries").await, 2, "of the creates");
    assert_eq!(bench.count(bench.one, "requests").await, 0);
}

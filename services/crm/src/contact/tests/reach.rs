//! Whose contacts a caller reaches, in every placement: any other is as if it were not there.

use rowhouse_context::{Ctx, Reach};
use rowhouse_types::{ContactId, UserId};

use super::bench::{Bench, PLACEMENTS, named};
use crate::contact::actions::{Change, ListQuery};
use crate::contact::store::{own_list, taken_of};
use crate::contact::{Contact, Patch};
use crate::error::Error;

/// Four members with a contact each: the caller, a mate whom they may reach too, a stranger, and one of the neighbour's.
struct Office {
    bench: Bench,
    /// Their contexts, each reaching everybody's.
    members: Vec<Ctx>,
    contacts: Vec<Contact>,
}

impl Office {
    async fn open(name: &str, placement: rowhouse_types::Placement) -> Self {
        let bench = Bench::start_in(name, placement).await;
        let tenants = [bench.one, bench.one, bench.one, bench.two];
        let members: Vec<Ctx> = tenants.iter().map(|tenant| bench.ctx(*tenant)).collect();
        let mut contacts = Vec::new();
        for (at, member) in members.iter().enumerate() {
            contacts.push(bench.contacts.create(member, named(&format!("C{at}"))).await.unwrap());
        }
        Self {
            bench,
            members,
            contacts,
        }
    }

    fn owner(&self, at: usize) -> UserId {
        self.members[at].principal().user().unwrap()
    }

    /// The first member's context, reaching these people's contacts.
    fn reaching(&self, people: &[usize]) -> Ctx {
        let owners = people.iter().map(|at| self.owner(*at));
        self.members[0].clone().with_reach(Reach::owners(owners))
    }
}

fn change(id: ContactId) -> Change {
    Change { id, etag: None }
}

fn everything() -> ListQuery {
    ListQuery {
        size: 100,
        token: String::new(),
        filter: "display_name = C*".parse().unwrap(),
        order: "create_time".parse().unwrap(),
        show_deleted: true,
    }
}

#[tokio::test]
async fn only_the_contacts_of_those_within_reach_are_read_counted_or_changed() {
    for placement in PLACEMENTS {
        let office = Office::open("crm_reach", placement).await;
        let contacts = &office.bench.contacts;
        // Naming a neighbour's member reaches nothing of theirs: the tenant still bounds everything.
        for people in [&[0][..], &[0, 1], &[0, 1, 3], &[]] {
            let ctx = office.reaching(people);
            let within: Vec<usize> = (0..3).filter(|at| people.contains(at)).collect();
            let ids: Vec<ContactId> = within.iter().map(|at| office.contacts[*at].id).collect();

            let listed = contacts.list(&ctx, &everything()).await.unwrap().items;
            assert_eq!(
                listed.iter().map(|contact| contact.id).collect::<Vec<_>>(),
                ids,
                "{placement:?} {people:?}"
            );
            let streamed = contacts.page_by_id(&ctx, None, 10).await.unwrap();
            let mut streamed: Vec<ContactId> = streamed.iter().map(|contact| contact.id).collect();
            streamed.sort_by_key(|id| ids.iter().position(|known| known == id));
            assert_eq!(streamed, ids);
            assert_eq!(contacts.count(&ctx).await.unwrap(), i64::try_from(ids.len()).unwrap());

            for (at, contact) in office.contacts.iter().enumerate() {
                let id = contact.id;
                let patch = Patch {
                    display_name: Some(rowhouse_types::Text::parse_required("C changed").unwrap()),
                    ..Patch::default()
                };
                let answers = [
                    contacts.get(&ctx, id).await.map(drop),
                    contacts.update(&ctx, change(id), &patch).await.map(drop),
                    contacts.delete(&ctx, change(id)).await.map(drop),
                    contacts.undelete(&ctx, change(id)).await.map(drop),
                ];
                for answer in answers {
                    if within.contains(&at) {
                        assert!(answer.is_ok(), "{placement:?} {people:?} {at}: {answer:?}");
                    } else {
                        assert!(
                            matches!(answer, Err(Error::ContactUnknown { id: unknown }) if unknown == id),
                            "{placement:?} {people:?} {at}: {answer:?}"
                        );
                    }
                }
            }
        }
        // What was out of reach is as it was made, and nobody wrote that they had touched it.
        let stranger = contacts.get(&office.members[2], office.contacts[2].id).await.unwrap();
        assert_eq!(stranger, office.contacts[2]);
    }
}

/// Creating is always within reach; what is made is the caller's own.
#[tokio::test]
async fn who_reaches_only_their_own_creates_and_finds_it() {
    let office = Office::open("crm_reach_create", rowhouse_types::Placement::Schema).await;
    let ctx = office.reaching(&[0]);
    let made = office.bench.contacts.create(&ctx, named("Mine").once()).await.unwrap();
    assert_eq!(made.owner, office.owner(0));
    assert_eq!(office.bench.contacts.get(&ctx, made.id).await.unwrap(), made);
}

/// A context that nobody has judged reaches nothing.
#[tokio::test]
async fn a_call_that_was_not_judged_reaches_nothing() {
    let office = Office::open("crm_reach_nobody", rowhouse_types::Placement::Schema).await;
    let unjudged = Ctx::new(
        office.members[0].request_id().clone(),
        office.members[0].principal().clone(),
        Some(office.bench.one),
        office.members[0].deadline(),
    );
    let got = office.bench.contacts.get(&unjudged, office.contacts[0].id).await;
    assert!(matches!(got, Err(Error::ContactUnknown { .. })), "{got:?}");
    assert_eq!(office.bench.contacts.count(&unjudged).await.unwrap(), 0);
}

/// One member's newest contacts come from the index of owners, in order, whatever else the tenant has, and so do the oldest
/// that are given away.
#[tokio::test]
async fn a_members_own_list_reads_no_more_than_their_own() {
    let office = Office::open("crm_reach_plan", rowhouse_types::Placement::Schema).await;
    office.bench.plant(office.bench.one, 20_000).await;
    office.bench.execute(office.bench.one, "ANALYZE contacts").await;
    let owner = office.owner(0);
    for sql in [own_list(owner), taken_of(owner)] {
        let plan = office.bench.plan(office.bench.one, owner, &sql).await;
        assert!(
            plan.contains("contacts_owner_created_at_idx") && !plan.contains("Sort"),
            "{sql}: {plan}"
        );
    }
}

#[tokio::test]
async fn a_contact_is_given_to_whom_the_caller_reaches_and_to_nobody_else() {
    for placement in PLACEMENTS {
        let office = Office::open("crm_give", placement).await;
        let contacts = &office.bench.contacts;
        let give = |to: UserId| Patch {
            owner: Some(to),
            ..Patch::default()
        };
        let ctx = office.reaching(&[0, 1]);
        let mine = change(office.contacts[0].id);
        let left = UserId::from_uuid(uuid::Uuid::nil());
        let everybody = office.members[0].clone();
        for (by, to) in [(&ctx, office.owner(2)), (&ctx, UserId::generate()), (&everybody, left)] {
            let refused = contacts.update(by, mine, &give(to)).await;
            assert!(matches!(refused, Err(Error::OwnerUnknown)), "{refused:?}");
        }
        let given = contacts.update(&ctx, mine, &give(office.owner(1))).await.unwrap();
        assert_eq!(
            (given.owner, given.etag),
            (office.owner(1), rowhouse_types::Etag::from_revision(2))
        );
        // Whoever reaches only their own has given it away.
        let gone = contacts.get(&office.reaching(&[0]), mine.id).await;
        assert!(matches!(gone, Err(Error::ContactUnknown { .. })), "{gone:?}");
        let theirs = contacts
            .update(&office.reaching(&[0]), mine, &give(office.owner(0)))
            .await;
        assert!(
            matches!(theirs, Err(Error::ContactUnknown { .. })),
            "nobody takes what they do not reach: {theirs:?}"
        );
        contacts.update(&everybody, mine, &give(office.owner(2))).await.unwrap();
        if placement == rowhouse_types::Placement::Shared {
            // The look below goes by the name of a home of its own.
            continue;
        }
        let owners = office
            .bench
            .text(
                office.bench.one,
                "SELECT string_agg(after->>'owner_id', ' ' ORDER BY at) FROM audit_entries WHERE action = 'contacts:update'",
            )
            .await;
        let expected = [office.owner(1), office.owner(2)]
            .map(|owner| owner.uuid().to_string())
            .join(" ");
        assert_eq!(owners, expected);
    }
}

//! Every way to tamper with a chain shows, and one that nobody touched does not.

use rowhouse_context::ServiceName;
use rowhouse_types::TenantId;

use super::*;
use crate::Seal;

/// An entry that was made some minutes from now, as its id says too.
fn entry(minute: i64) -> Entry {
    let at = Utc::now() + TimeDelta::minutes(minute);
    let seconds = u64::try_from(at.timestamp()).unwrap();
    let stamp = uuid::Timestamp::from_unix(uuid::NoContext, seconds, at.timestamp_subsec_nanos());
    Entry {
        id: AuditEntryId::from_uuid(uuid::Uuid::new_v7(stamp)),
        service: ServiceName::Crm,
        tenant: None,
        at,
        actor: "user_1".to_owned(),
        on_behalf_of: None,
        action: "contact.update".to_owned(),
        target: "contact_1".to_owned(),
        before: None,
        after: Some(serde_json::json!({ "company": "Harbour Tea" })),
        reason: None,
        address: None,
        request_id: "r".to_owned(),
        outcome: "done".to_owned(),
    }
}

fn chain() -> Chain {
    Chain {
        service: ServiceName::Crm,
        tenant: Some(TenantId::from_uuid(uuid::Uuid::nil())),
    }
}

fn sealed(head: Head, entries: &[Entry]) -> Batch {
    Batch::of(Seal::next(&chain(), &head, entries), entries)
}

fn head(batch: &Batch) -> Head {
    Head {
        number: batch.seal.number,
        hash: batch.seal.hash,
    }
}

/// Three batches of two entries each.
fn batches() -> Vec<Batch> {
    let mut batches: Vec<Batch> = Vec::new();
    for _ in 0..3 {
        let head = batches.last().map_or_else(Head::start, head);
        batches.push(sealed(head, &[entry(0), entry(0)]));
    }
    batches
}

fn faults(batches: &[Batch], known: Option<Head>) -> Vec<(FaultKind, i64)> {
    let mut check = Check::new(chain(), Place::default(), known);
    batches.iter().for_each(|batch| check.take(batch));
    check.end(&[]);
    check.faults().iter().map(|fault| (fault.kind, fault.number)).collect()
}

#[test]
fn a_chain_that_nobody_touched_holds_in_one_piece_and_in_two() {
    let batches = batches();
    assert_eq!(faults(&batches, None), []);
    assert_eq!(faults(&batches, Some(head(&batches[1]))), []);
    let mut first = Check::new(chain(), Place::default(), None);
    first.take(&batches[0]);
    let place: Place = serde_json::from_str(&serde_json::to_string(first.place()).unwrap()).unwrap();
    let mut second = Check::new(chain(), place, None);
    batches[1..].iter().for_each(|batch| second.take(batch));
    assert_eq!(second.faults(), []);
    assert_eq!((second.place().number, second.place().entries), (3, 6));
}

#[test]
fn what_is_removed_changed_or_slipped_in_shows() {
    let whole = batches();
    let tampered = |change: fn(&mut Vec<Batch>)| {
        let mut batches = whole.clone();
        change(&mut batches);
        faults(&batches, None)
    };
    assert_eq!(
        tampered(|batches| batches[1].entries[0] = None),
        [(FaultKind::EntryMissing, 2)]
    );
    assert_eq!(
        tampered(|batches| batches[1].entries[1] = Some(entry(0).canonical())),
        [(FaultKind::EntryChanged, 2)]
    );
    assert_eq!(
        tampered(|batches| drop(batches.remove(0))),
        [(FaultKind::SealMissing, 1)]
    );
    assert_eq!(
        tampered(|batches| drop(batches.remove(1))),
        [(FaultKind::SealMissing, 2)]
    );
    // The entry and its hash in the seal.
    assert_eq!(
        tampered(|batches| {
            let text = entry(0).canonical();
            batches[1].seal.leaves[0] = Hash::of(&text);
            batches[1].entries[0] = Some(text);
        }),
        [(FaultKind::SealChanged, 2)]
    );
    // The seal whole: the one after it does not continue it.
    assert_eq!(
        tampered(|batches| batches[1] = sealed(head(&batches[0]), &[entry(0)])),
        [(FaultKind::ChainBroken, 3)]
    );
    // One more entry in a seal.
    assert_eq!(
        tampered(|batches| {
            let more = entry(0);
            batches[1].seal.entries.push(more.id);
            batches[1].entries.push(Some(more.canonical()));
        }),
        [(FaultKind::SealChanged, 2), (FaultKind::EntryChanged, 2)]
    );
}

#[test]
fn an_entry_whose_time_does_not_fit_shows() {
    let first = sealed(Head::start(), &[entry(-60), entry(-30)]);
    let late = sealed(head(&first), &[entry(-39)]);
    assert_eq!(
        faults(&[first.clone(), late], None),
        [],
        "as late as a transaction may be"
    );
    let slipped_in = sealed(head(&first), &[entry(-41)]);
    assert_eq!(
        faults(&[first.clone(), slipped_in], None),
        [(FaultKind::EntryMisdated, 2)]
    );
    let of_tomorrow = sealed(head(&first), &[entry(11)]);
    assert_eq!(
        faults(&[first.clone(), of_tomorrow], None),
        [(FaultKind::EntryMisdated, 2)]
    );
    let with_another_id = Entry {
        id: entry(-20).id,
        ..entry(0)
    };
    let with_another_id = sealed(head(&first), &[with_another_id]);
    assert_eq!(faults(&[first, with_another_id], None), [(FaultKind::EntryMisdated, 2)]);
}

/// What waited for long, in several seals that are made at once, is no fault: its order is.
#[test]
fn a_backlog_that_is_sealed_at_last_holds() {
    let mut batches: Vec<Batch> = Vec::new();
    for hour in (1..5).rev() {
        let head = batches.last().map_or_else(Head::start, head);
        batches.push(sealed(head, &[entry(-60 * hour), entry(-60 * hour + 30)]));
    }
    assert_eq!(faults(&batches, None), []);
}

/// Whoever can write everything makes all hashes anew: only who has noted one sees it.
#[test]
fn a_chain_that_was_made_anew_or_cut_differs_from_what_was_noted() {
    let noted = batches();
    let anew = batches();
    assert_eq!(faults(&anew, None), []);
    assert_eq!(faults(&anew, Some(head(&noted[1]))), [(FaultKind::KnownDiffers, 2)]);
    assert_eq!(
        faults(&noted[..1], Some(head(&noted[2]))),
        [(FaultKind::KnownDiffers, 3)]
    );
}

#[test]
fn entries_without_a_seal_are_faults_and_what_is_told_is_bounded() {
    let mut check = Check::new(chain(), Place::default(), None);
    check.end(&vec![AuditEntryId::generate(); 1_000]);
    assert_eq!(check.faults().len(), FAULTS_MAX);
    assert!(
        check
            .faults()
            .iter()
            .all(|fault| fault.kind == FaultKind::EntryUnsealed)
    );
}

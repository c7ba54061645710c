//! Reports whose streams are cut, against a real database, with a crm that cuts them where a test wants it.

use rowhouse_mq::{Handler as _, HandlerError};
use rowhouse_proto::crm::v1::Contact;
use rowhouse_status::Reason;
use rowhouse_types::{ContactId, UserId};
use uuid::Uuid;

use super::*;
use crate::job::tests::{NO_MAIL, queued};
use crate::report::State;
use crate::testing::{Cut, Peers, Script, World, files_below};

/// Pages of contacts in the order of their ids.
fn pages(sizes: &[usize]) -> Vec<Vec<Contact>> {
    let mut ids: Vec<String> = (0..sizes.iter().sum())
        .map(|_| ContactId::generate().to_string())
        .collect();
    ids.sort();
    let mut ids = ids.into_iter();
    let page = |size: &usize| {
        let contact = |id| Contact {
            id,
            ..Contact::default()
        };
        ids.by_ref().take(*size).map(contact).collect()
    };
    sizes.iter().map(page).collect()
}

fn ids(pages: &[Vec<Contact>]) -> Vec<String> {
    pages.iter().flatten().map(|contact| contact.id.clone()).collect()
}

/// Ids in the one file that was made.
fn ids_in_file(world: &World) -> Vec<String> {
    let files = files_below(&world.folder.path().join("files"));
    assert_eq!(files.len(), 1, "{files:?}");
    let text = std::fs::read_to_string(&files[0]).unwrap();
    let id = |line: &str| line.split(',').next().unwrap().to_owned();
    text.lines().skip(1).map(id).collect()
}

fn cut(pages: usize, by: Reason) -> Cut {
    Cut { pages, by }
}

#[tokio::test]
async fn a_report_goes_on_behind_its_last_row_with_a_new_token_each_time() {
    let world = World::new("cut").await;
    let contacts = pages(&[3, 2, 3, 1]);
    let script = Script {
        pages: contacts.clone(),
        cuts: vec![
            cut(1, Reason::DeadlineExceeded),
            cut(2, Reason::DependencyUnavailable),
            // After the last page and before its end: nothing is left to send.
            cut(1, Reason::DeadlineExceeded),
        ],
        ..Script::default()
    };
    let peers = Peers::start(script).await;
    let (ctx, report, message) = queued(&world).await;
    MakeReport::new(world.tools(&peers, NO_MAIL))
        .handle(&message)
        .await
        .unwrap();

    assert_eq!(ids_in_file(&world), ids(&contacts));
    let done = world.reports().get(&ctx, report.id).await.unwrap();
    assert_eq!((done.state, done.row_count), (State::Succeeded, 9));
    let all = ids(&contacts);
    assert_eq!(peers.asked_after(), ["", &all[2], &all[7], &all[8]]);
    let tokens: Vec<String> = peers.seen().iter().map(|seen| seen[..14].to_owned()).collect();
    assert_eq!(
        tokens,
        ["Bearer token-1", "Bearer token-2", "Bearer token-3", "Bearer token-4"]
    );
    assert_eq!(
        world
            .count("SELECT count(*) FROM worker.outbox WHERE kind = 'worker.report_finished.v1'")
            .await,
        1
    );
}

#[tokio::test]
async fn whose_records_stand_in_the_file_is_noted_over_all_streams() {
    let world = World::new("owners").await;
    let [ada, bob] = [(); 2].map(|()| UserId::generate());
    let mut contacts = pages(&[2, 1]);
    for (contact, owner) in contacts.iter_mut().flatten().zip([ada, bob, ada]) {
        contact.owner_id = owner.to_string();
    }
    let script = Script {
        pages: contacts,
        cuts: vec![cut(1, Reason::DeadlineExceeded)],
        ..Script::default()
    };
    let peers = Peers::start(script).await;
    let (_, _, message) = queued(&world).await;
    MakeReport::new(world.tools(&peers, NO_MAIL))
        .handle(&message)
        .await
        .unwrap();
    let noted: Option<Vec<Uuid>> = sqlx::query_scalar("SELECT owner_ids FROM worker.reports")
        .fetch_one(&world.pool)
        .await
        .unwrap();
    let mut expected = [ada.uuid(), bob.uuid()];
    expected.sort_unstable();
    assert_eq!(noted.as_deref(), Some(expected.as_slice()));
}

#[tokio::test]
async fn a_report_that_takes_many_streams_is_made_in_one_attempt() {
    let world = World::new("many_cuts").await;
    let contacts = pages(&[2; 30]);
    let script = Script {
        pages: contacts.clone(),
        cuts: (0..29).map(|_| cut(1, Reason::DeadlineExceeded)).collect(),
        ..Script::default()
    };
    let peers = Peers::start(script).await;
    let (ctx, report, message) = queued(&world).await;
    MakeReport::new(world.tools(&peers, NO_MAIL))
        .handle(&message)
        .await
        .unwrap();
    assert_eq!(ids_in_file(&world), ids(&contacts));
    assert_eq!(world.reports().get(&ctx, report.id).await.unwrap().row_count, 60);
    assert_eq!(peers.asked_after().len(), 30);
}

#[tokio::test]
async fn rights_that_were_lost_between_two_streams_end_the_report() {
    let world = World::new("cut_rights").await;
    for (tokens_max, exports_max) in [(Some(1), None), (None, Some(1))] {
        let script = Script {
            pages: pages(&[3, 2]),
            cuts: vec![cut(1, Reason::DeadlineExceeded)],
            tokens_max,
            exports_max,
            ..Script::default()
        };
        let peers = Peers::start(script).await;
        let (ctx, report, message) = queued(&world).await;
        MakeReport::new(world.tools(&peers, NO_MAIL))
            .handle(&message)
            .await
            .unwrap();
        let done = world.reports().get(&ctx, report.id).await.unwrap();
        assert_eq!(
            (done.state, &done.file),
            (State::Failed, &None),
            "{tokens_max:?} {exports_max:?}"
        );
        assert!(files_below(&world.folder.path().join("files")).is_empty());
    }
}

#[tokio::test]
async fn a_stream_that_is_cut_without_a_row_is_left_to_the_next_attempt() {
    let world = World::new("cut_empty").await;
    // At once, and after progress.
    for (cuts, asked) in [
        (vec![cut(0, Reason::DeadlineExceeded)], 1),
        (
            vec![
                cut(1, Reason::DependencyUnavailable),
                cut(0, Reason::DependencyUnavailable),
            ],
            2,
        ),
    ] {
        let script = Script {
            pages: pages(&[3, 2]),
            cuts,
            ..Script::default()
        };
        let peers = Peers::start(script).await;
        let (ctx, report, message) = queued(&world).await;
        let job = MakeReport::new(world.tools(&peers, NO_MAIL));
        let outcome = job.handle(&message).await;
        assert!(matches!(outcome, Err(HandlerError::Retry(_))), "{outcome:?}");
        assert_eq!(peers.asked_after().len(), asked);
        assert!(files_below(&world.folder.path().join("files")).is_empty());
        assert_eq!(
            world.reports().get(&ctx, report.id).await.unwrap().state,
            State::Running
        );

        // The next attempt writes a file of its own, from the start.
        job.handle(&message).await.unwrap();
        assert_eq!(peers.asked_after()[asked], "");
        let done = world.reports().get(&ctx, report.id).await.unwrap();
        assert_eq!((done.state, done.row_count), (State::Succeeded, 5));
        assert_eq!(ids_in_file(&world).len(), 5);
        world.files().discard(&done.file.unwrap()).await;
    }
}

#[tokio::test]
async fn other_faults_are_not_gone_on_from() {
    let world = World::new("cut_fault").await;
    for by in [Reason::Internal, Reason::Overloaded] {
        let script = Script {
            pages: pages(&[3, 2]),
            cuts: vec![cut(1, by)],
            ..Script::default()
        };
        let peers = Peers::start(script).await;
        let (_, _, message) = queued(&world).await;
        let outcome = MakeReport::new(world.tools(&peers, NO_MAIL)).handle(&message).await;
        assert!(matches!(outcome, Err(HandlerError::Retry(_))), "{by:?}: {outcome:?}");
        assert_eq!(peers.asked_after().len(), 1);
    }
}

#[tokio::test]
async fn a_crm_that_begins_from_the_start_again_writes_no_row_twice() {
    let world = World::new("cut_old_crm").await;
    let script = Script {
        pages: pages(&[3, 2]),
        cuts: vec![cut(1, Reason::DeadlineExceeded)],
        ignores_after_id: true,
        ..Script::default()
    };
    let peers = Peers::start(script).await;
    let (ctx, report, message) = queued(&world).await;
    let job = MakeReport::new(world.tools(&peers, NO_MAIL));
    let outcome = job.handle(&message).await;
    assert!(matches!(outcome, Err(HandlerError::Retry(_))), "{outcome:?}");
    assert!(files_below(&world.folder.path().join("files")).is_empty());
    job.handle(&message).await.unwrap();
    assert_eq!(world.reports().get(&ctx, report.id).await.unwrap().row_count, 5);
    assert_eq!(ids_in_file(&world).len(), 5);
}

#[test]
fn progress_stays_within_its_bounds_whatever_the_estimate_was() {
    let shown = [(0, 0), (0, 10), (5, 10), (10, 10), (20, 10), (7, 0)].map(|(done, total)| percent(done, total));
    assert_eq!(shown, [0, 0, 50, 99, 99, 0]);
    assert!((0..=99).contains(&percent(usize::MAX, u64::MAX)));
}

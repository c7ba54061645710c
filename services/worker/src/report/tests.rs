//! Reports against a fresh, real database.

use futures_util::future::join_all;
use futures_util::{StreamExt as _, TryStreamExt as _};
use rowhouse_context::Reach;
use rowhouse_status::{Failure, Reason};
use rowhouse_types::{IdempotencyKey, Limits, ReportId, TenantId, UserId};
use tokio::io::AsyncWriteExt as _;
use uuid::Uuid;

use super::store::{self, Made};
use super::{FileOwners, Kind, NewReport, Report, State};
use crate::error::Error;
use crate::files::Files;
use crate::testing::{World, member};

fn new(request: Option<IdempotencyKey>) -> NewReport {
    NewReport {
        kind: Kind::Contacts,
        request,
    }
}

#[tokio::test]
async fn a_report_is_queued_with_its_event_and_its_audit_entry() {
    let world = World::new("queued").await;
    let ctx = member(TenantId::generate());
    let report = world.reports().run(&ctx, new(None)).await.unwrap();
    assert_eq!((report.state, report.progress_percent), (State::Queued, 0));
    assert_eq!(world.reports().get(&ctx, report.id).await.unwrap(), report);
    let event: (String, String, Option<Uuid>) =
        sqlx::query_as("SELECT kind, payload ->> 'report_id', tenant_id FROM worker.outbox")
            .fetch_one(&world.pool)
            .await
            .unwrap();
    assert_eq!(
        event,
        (
            "worker.report_requested.v1".to_owned(),
            report.id.to_string(),
            Some(report.tenant.uuid())
        )
    );
    let actor: String = sqlx::query_scalar("SELECT actor FROM worker.audit WHERE action = 'report.run'")
        .fetch_one(&world.pool)
        .await
        .unwrap();
    assert_eq!(actor, report.requester.to_string());
}

#[tokio::test]
async fn a_repeated_request_answers_the_same_report_also_when_both_come_at_once() {
    let world = World::new("repeated").await;
    let (ctx, request) = (member(TenantId::generate()), Some(IdempotencyKey::generate()));
    let mut racing = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (reports, ctx) = (world.reports(), ctx.clone());
        racing.spawn(async move { reports.run(&ctx, new(request)).await.unwrap().id });
    }
    let mut ids = racing.join_all().await;
    ids.dedup();
    assert_eq!(ids.len(), 1);
    assert_eq!(world.count("SELECT count(*) FROM worker.reports").await, 1);
    assert_eq!(world.count("SELECT count(*) FROM worker.outbox").await, 1);
}

#[tokio::test]
async fn a_plan_bounds_the_reports_in_flight_exactly_and_one_that_has_ended_makes_room() {
    let world = World::new("in_flight").await;
    let limits = Limits {
        jobs_in_flight: Some(3),
        ..Limits::default()
    };
    let reports = world.reports_within(limits);
    let tenant = TenantId::generate();
    let calls = (0..8).map(|_| {
        let (reports, ctx) = (reports.clone(), member(tenant));
        async move { reports.run(&ctx, new(None)).await }
    });
    let answers = join_all(calls).await;
    let mut queued: Vec<Report> = answers.into_iter().filter_map(Result::ok).collect();
    assert_eq!(queued.len(), 3);
    let refused = Failure::from(reports.run(&member(tenant), new(None)).await.unwrap_err());
    assert_eq!(refused.reason(), Reason::QuotaExceeded);
    let neighbour = reports.run(&member(TenantId::generate()), new(None)).await;
    assert!(neighbour.is_ok());

    succeeded(&world, queued.remove(0), b"done").await;
    reports.run(&member(tenant), new(None)).await.unwrap();
}

#[tokio::test]
async fn a_request_id_of_another_caller_is_refused_and_of_another_tenant_is_another() {
    let world = World::new("reused").await;
    let (tenant, request) = (TenantId::generate(), Some(IdempotencyKey::generate()));
    world.reports().run(&member(tenant), new(request)).await.unwrap();
    let other = world.reports().run(&member(tenant), new(request)).await.unwrap_err();
    assert!(matches!(other, Error::RequestReused), "{other:?}");
    let refused = Failure::from(other);
    assert_eq!(refused.reason(), Reason::RequestIdReused);
    assert_eq!(refused.violations()[0].field, "request_id");
    world
        .reports()
        .run(&member(TenantId::generate()), new(request))
        .await
        .unwrap();
    assert_eq!(world.count("SELECT count(*) FROM worker.reports").await, 2);
}

#[tokio::test]
async fn a_request_id_is_forgotten_after_a_day_and_not_before() {
    let world = World::new("forgotten").await;
    let (ctx, request) = (member(TenantId::generate()), Some(IdempotencyKey::generate()));
    let first = world.reports().run(&ctx, new(request)).await.unwrap();
    assert_eq!(crate::request::TABLE.forget(&world.pool).await.unwrap(), 0);
    assert_eq!(world.reports().run(&ctx, new(request)).await.unwrap().id, first.id);
    let past = "UPDATE worker.requests SET expires_at = now() - interval '1 s'";
    sqlx::raw_sql(past).execute(&world.pool).await.unwrap();
    assert_eq!(crate::request::TABLE.forget(&world.pool).await.unwrap(), 1);
    assert_ne!(world.reports().run(&ctx, new(request)).await.unwrap().id, first.id);
}

#[tokio::test]
async fn a_colleagues_report_out_of_reach_is_as_unknown_as_none() {
    let world = World::new("reach").await;
    let tenant = TenantId::generate();
    let (ours, theirs) = (member(tenant), member(tenant));
    let [own, colleagues] = [&ours, &theirs].map(|ctx| ctx.principal().user().unwrap());
    let reach_of_two = Reach::owners([own, colleagues]);
    let report = world.reports().run(&theirs, new(None)).await.unwrap();
    succeeded(&world, report.clone(), b"theirs").await;
    for (reach, reached) in [
        (Reach::All, true),
        (Reach::owners([own, colleagues]), true),
        (Reach::owners([own]), false),
        (Reach::nobody(), false),
    ] {
        let ctx = ours.clone().with_reach(reach.clone());
        for answer in [
            world.reports().get(&ctx, report.id).await.map(drop),
            world.reports().download(&ctx, report.id, &Reach::All).await.map(drop),
        ] {
            assert_eq!(answer.is_ok(), reached, "{reach:?}: {answer:?}");
            assert!(
                reached || matches!(answer, Err(Error::ReportUnknown { .. })),
                "{reach:?}: {answer:?}"
            );
        }
        // A file may hold more than the caller sees: without everybody's records it is its requester's alone.
        let file = world.reports().download(&ctx, report.id, &reach_of_two).await.map(drop);
        assert!(matches!(file, Err(Error::ReportUnknown { .. })), "{reach:?}: {file:?}");
    }
    world
        .reports()
        .download(&theirs, report.id, &reach_of_two)
        .await
        .map(drop)
        .unwrap();
}

#[tokio::test]
async fn whoever_reaches_less_than_their_own_report_holds_gets_it_no_more() {
    let world = World::new("narrowed").await;
    let ctx = member(TenantId::generate());
    let own = ctx.principal().user().unwrap();
    let mate = UserId::generate();
    let report = world.reports().run(&ctx, new(None)).await.unwrap();
    let early = world
        .reports()
        .download(&ctx, report.id, &Reach::nobody())
        .await
        .map(drop);
    assert!(matches!(early, Err(Error::NoFile { .. })), "{early:?}");
    let report = succeeded_with(&world, report, b"of two", &[own, mate]).await;
    let reaches = [
        (Reach::All, true),
        (Reach::owners([own, mate]), true),
        (Reach::owners([own, UserId::generate()]), false),
        (Reach::owners([own]), false),
        (Reach::nobody(), false),
    ];
    for (exports, reached) in &reaches {
        let file = world.reports().download(&ctx, report.id, exports).await.map(drop);
        assert_eq!(file.is_ok(), *reached, "{exports:?}: {file:?}");
        assert!(
            *reached || matches!(file, Err(Error::ReportUnknown { .. })),
            "{exports:?}: {file:?}"
        );
        // That there is such a report, its requester may know all the same.
        assert!(world.reports().get(&ctx, report.id).await.is_ok());
    }
    // The control: a file of which less is noted than stands in it is handed out.
    let noted = "UPDATE worker.reports SET owner_ids = owner_ids[:0]";
    sqlx::query(noted).execute(&world.pool).await.unwrap();
    let file = world.reports().download(&ctx, report.id, &Reach::nobody()).await;
    assert!(file.is_ok());
    // Of one that was made before, nobody knows whose records it holds.
    let forgotten = "UPDATE worker.reports SET owner_ids = NULL";
    sqlx::query(forgotten).execute(&world.pool).await.unwrap();
    for (exports, _) in reaches {
        let file = world.reports().download(&ctx, report.id, &exports).await.map(drop);
        assert_eq!(file.is_ok(), exports == Reach::All, "{exports:?}: {file:?}");
    }
}

#[tokio::test]
async fn another_tenants_report_is_as_unknown_as_none() {
    let world = World::new("foreign").await;
    let report = world
        .reports()
        .run(&member(TenantId::generate()), new(None))
        .await
        .unwrap();
    let stranger = member(TenantId::generate());
    for id in [report.id, ReportId::generate()] {
        let got = world.reports().get(&stranger, id).await;
        assert!(
            matches!(got, Err(Error::ReportUnknown { id: asked }) if asked == id),
            "{got:?}"
        );
        let file = world.reports().download(&stranger, id, &Reach::All).await.map(|_| ());
        assert!(
            matches!(file, Err(Error::ReportUnknown { id: asked }) if asked == id),
            "{file:?}"
        );
    }
}

#[tokio::test]
async fn only_the_last_attempt_may_finish_and_only_once() {
    let world = World::new("attempts").await;
    let ctx = member(TenantId::generate());
    let report = world.reports().run(&ctx, new(None)).await.unwrap();
    let first = store::claim(&world.pool, report.tenant, report.id)
        .await
        .unwrap()
        .unwrap();
    let second = store::claim(&world.pool, report.tenant, report.id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((first.number, second.number), (1, 2));
    assert!(!store::progress(&world.pool, &first, 50).await.unwrap());
    assert!(store::progress(&world.pool, &second, 60).await.unwrap());
    let made = Made {
        row_count: 1,
        size_bytes: 2,
        file: "x".to_owned(),
        owners: FileOwners::default(),
    };
    let mut connection = world.pool.acquire().await.unwrap();
    assert!(!store::succeed(&mut connection, &first, &made).await.unwrap());
    assert!(store::succeed(&mut connection, &second, &made).await.unwrap());
    assert!(!store::fail(&mut connection, &second, "late").await.unwrap());
    assert!(
        store::claim(&world.pool, report.tenant, report.id)
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test]
async fn a_report_without_a_file_cannot_be_downloaded() {
    let world = World::new("no_file").await;
    let ctx = member(TenantId::generate());
    let report = world.reports().run(&ctx, new(None)).await.unwrap();
    let refused = world.reports().download(&ctx, report.id, &Reach::All).await.map(|_| ());
    assert!(
        matches!(
            refused,
            Err(Error::NoFile {
                state: State::Queued,
                ..
            })
        ),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_file_is_downloaded_as_it_was_written_in_pieces_of_64_kib() {
    let world = World::new("download").await;
    let ctx = member(TenantId::generate());
    let bytes: Vec<u8> = (0..1_000_003_u32).map(|at| (at % 251).to_le_bytes()[0]).collect();
    let report = succeeded(&world, world.reports().run(&ctx, new(None)).await.unwrap(), &bytes).await;
    let stream = world.reports().download(&ctx, report.id, &Reach::All).await.unwrap();
    let pieces: Vec<bytes::Bytes> = stream.try_collect().await.unwrap();
    assert!(pieces.iter().all(|piece| (1..=65_536).contains(&piece.len())));
    assert_eq!(pieces.concat(), bytes);
}

#[tokio::test]
async fn a_download_that_is_dropped_holds_nothing() {
    let world = World::new("dropped").await;
    let ctx = member(TenantId::generate());
    let report = succeeded(
        &world,
        world.reports().run(&ctx, new(None)).await.unwrap(),
        &[7; 300_000],
    )
    .await;
    for _ in 0..20 {
        let mut stream = world.reports().download(&ctx, report.id, &Reach::All).await.unwrap();
        assert!(stream.next().await.unwrap().is_ok());
    }
}

/// Ends a report with a file.
async fn succeeded(world: &World, report: Report, bytes: &[u8]) -> Report {
    let requester = report.requester;
    succeeded_with(world, report, bytes, &[requester]).await
}

/// Ends a report with a file of these people's records.
async fn succeeded_with(world: &World, report: Report, bytes: &[u8], people: &[UserId]) -> Report {
    let mut owners = FileOwners::default();
    for person in people {
        owners.add(&person.to_string());
    }
    let attempt = store::claim(&world.pool, report.tenant, report.id)
        .await
        .unwrap()
        .unwrap();
    let file = Files::path(report.tenant, report.id, attempt.number);
    let mut writer = world.files().writer(&file);
    writer.write_all(bytes).await.unwrap();
    writer.shutdown().await.unwrap();
    let made = Made {
        row_count: 1,
        size_bytes: i64::try_from(bytes.len()).unwrap(),
        file,
        owners,
    };
    let mut connection = world.pool.acquire().await.unwrap();
    assert!(store::succeed(&mut connection, &attempt, &made).await.unwrap());
    report
}

#[tokio::test]
async fn a_report_that_nobody_works_on_ends_after_a_day() {
    let world = World::new("given_up").await;
    let ctx = member(TenantId::generate());
    let (old, young) = (
        world.reports().run(&ctx, new(None)).await.unwrap(),
        world.reports().run(&ctx, new(None)).await.unwrap(),
    );
    sqlx::query("UPDATE worker.reports SET updated_at = now() - interval '25 hours' WHERE id = $1")
        .bind(old.id.uuid())
        .execute(&world.pool)
        .await
        .unwrap();
    assert_eq!(store::give_up(&world.pool).await.unwrap(), 1);
    assert_eq!(world.reports().get(&ctx, old.id).await.unwrap().state, State::Failed);
    assert_eq!(world.reports().get(&ctx, young.id).await.unwrap().state, State::Queued);
}

/// Explaining a statement checks its tables and columns, and the rights of the login.
#[tokio::test]
async fn every_statement_fits_the_schema_and_the_login() {
    let world = World::new("statements").await;
    let own = store::STATEMENTS
        .iter()
        .chain(crate::email::store::STATEMENTS)
        .chain(crate::purge::store::STATEMENTS);
    let own = own.map(|statement| (*statement).to_owned());
    let shared = [crate::audit::TABLE.statements(), crate::request::TABLE.statements()];
    for statement in own.chain(shared.into_iter().flatten()) {
        // NULL stands in for each bind; the longer numbers first.
        let filled = (1..=13).rev().fold(format!("EXPLAIN {statement}"), |sql, at| {
            sql.replace(&format!("${at}"), "NULL")
        });
        let explained = sqlx::raw_sql(sqlx::AssertSqlSafe(filled)).execute(&world.pool).await;
        assert!(explained.is_ok(), "{statement}: {explained:?}");
    }
    let changed = sqlx::raw_sql("DELETE FROM worker.audit").execute(&world.pool).await;
    assert!(changed.is_err(), "audit entries are only ever added");
}

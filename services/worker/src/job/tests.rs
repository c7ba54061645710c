//! Jobs against a real database and mail server, with auth and crm answering what a test wants.

use rowhouse_context::Ctx;
use rowhouse_devkit::smtp::SmtpSink;
use rowhouse_mq::{Delivery, Handler as _, HandlerError};
use rowhouse_proto::auth::v1::{AccountMailKind, OperatorChange};
use rowhouse_proto::crm::v1::Contact;
use rowhouse_status::Reason;
use rowhouse_types::{AccountMailId, InvitationId, Limits, TenantId};
use serde_json::json;

use super::Tools;
use super::account_mail::SendAccountMail;
use super::invitation_mail::SendInvitation;
use super::report::MakeReport;
use super::report_mail::SendReportFinished;
use crate::report::{Kind, NewReport, Report, State};
use crate::testing::{Cut, Peers, Script, World, delivery, files_below, fixed, member};

/// Nobody listens there.
pub(super) const NO_MAIL: &str = "smtp://127.0.0.1:1";

fn contact(name: &str) -> Contact {
    Contact {
        id: "contact_1".to_owned(),
        display_name: name.to_owned(),
        ..Contact::default()
    }
}

pub(super) async fn queued(world: &World) -> (Ctx, Report, Delivery) {
    let ctx = member(TenantId::generate());
    let new = NewReport {
        kind: Kind::Contacts,
        request: None,
    };
    let report = world.reports().run(&ctx, new).await.unwrap();
    let message = delivery(
        "worker.report_requested.v1",
        report.tenant,
        json!({ "report_id": report.id }),
    );
    (ctx, report, message)
}

#[tokio::test]
async fn a_report_is_made_with_the_requesters_token_and_told_of() {
    let world = World::new("made").await;
    let script = Script {
        pages: vec![vec![contact("Ada"), contact("=1+1")], vec![contact("Grace")]],
        ..Script::default()
    };
    let peers = Peers::start(script).await;
    let (ctx, report, message) = queued(&world).await;
    let job = MakeReport::new(world.tools(&peers, NO_MAIL));
    job.handle(&message).await.unwrap();
    job.handle(&message).await.unwrap();

    let done = world.reports().get(&ctx, report.id).await.unwrap();
    assert_eq!(
        (done.state, done.row_count, done.progress_percent),
        (State::Succeeded, 3, 100)
    );
    let files = files_below(world.folder.path());
    assert_eq!(files.len(), 1);
    let text = std::fs::read_to_string(&files[0]).unwrap();
    assert_eq!(i64::try_from(text.len()).unwrap(), done.size_bytes);
    assert_eq!(text.lines().count(), 4);
    assert!(text.contains("contact_1,'=1+1,"), "{text}");
    let token = format!(
        "Bearer token-1-of-{}-for-{} {}",
        report.requester, report.id, report.tenant
    );
    assert_eq!(peers.seen(), [token]);
    let finished = "SELECT count(*) FROM worker.outbox WHERE kind = 'worker.report_finished.v1'";
    assert_eq!(world.count(finished).await, 1);
    let audited = "SELECT count(*) FROM worker.audit WHERE action = 'report.finish' AND actor = 'service:worker' \
                   AND on_behalf_of IS NOT NULL AND outcome = 'done'";
    assert_eq!(world.count(audited).await, 1);
    assert_eq!(world.count("SELECT count(*) FROM worker.processed").await, 1);
}

#[tokio::test]
async fn a_tenant_without_contacts_gets_a_report_with_a_header() {
    let world = World::new("empty").await;
    let peers = Peers::start(Script::default()).await;
    let (ctx, report, message) = queued(&world).await;
    MakeReport::new(world.tools(&peers, NO_MAIL))
        .handle(&message)
        .await
        .unwrap();
    let done = world.reports().get(&ctx, report.id).await.unwrap();
    assert_eq!((done.state, done.row_count), (State::Succeeded, 0));
    assert!(done.size_bytes > 0);
}

#[tokio::test]
async fn a_requester_without_the_right_gets_no_report_and_a_plain_reason() {
    let refusals = [
        (Some(Reason::SessionRevoked), None),
        (Some(Reason::ResourceNotFound), None),
        (Some(Reason::TenantSuspended), None),
        (None, Some(Reason::PermissionMissing)),
        (None, Some(Reason::SessionRevoked)),
    ];
    let world = World::new("refused").await;
    for (token_refused, export_refused) in refusals {
        let script = Script {
            token_refused,
            export_refused,
            pages: vec![vec![contact("Ada")]],
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
            "{token_refused:?} {export_refused:?}"
        );
        assert!(!done.failure.unwrap().is_empty());
        assert_eq!(
            files_below(&world.folder.path().join("files")),
            Vec::<std::path::PathBuf>::new()
        );
    }
}

#[tokio::test]
async fn a_stream_that_breaks_leaves_no_file_and_is_tried_again() {
    let world = World::new("breaks").await;
    let script = Script {
        pages: vec![vec![contact("Ada")]],
        cuts: vec![
            Cut {
                pages: 1,
                by: Reason::Internal,
            };
            2
        ],
        ..Script::default()
    };
    let peers = Peers::start(script.clone()).await;
    let (ctx, report, mut message) = queued(&world).await;
    let job = MakeReport::new(world.tools(&peers, NO_MAIL));
    let outcome = job.handle(&message).await;
    assert!(matches!(outcome, Err(HandlerError::Retry(_))), "{outcome:?}");
    assert_eq!(
        world.reports().get(&ctx, report.id).await.unwrap().state,
        State::Running
    );
    assert_eq!(
        files_below(&world.folder.path().join("files")),
        Vec::<std::path::PathBuf>::new()
    );

    message.attempt = 8;
    let outcome = job.handle(&message).await;
    assert!(matches!(outcome, Err(HandlerError::Park(_))), "{outcome:?}");
    let done = world.reports().get(&ctx, report.id).await.unwrap();
    assert_eq!(done.state, State::Failed);
    assert!(done.failure.unwrap().contains("try again later"));
}

#[tokio::test]
async fn a_peer_that_is_away_is_waited_for() {
    let world = World::new("away").await;
    let peers = Peers::start(Script::default()).await;
    let tools = world.tools(&peers, NO_MAIL);
    drop(peers);
    let (_, _, message) = queued(&world).await;
    let outcome = MakeReport::new(tools).handle(&message).await;
    assert!(matches!(outcome, Err(HandlerError::Retry(_))), "{outcome:?}");
}

#[tokio::test]
async fn messages_that_name_nothing_are_parked() {
    let world = World::new("nothing").await;
    let peers = Peers::start(Script::default()).await;
    let tenant = TenantId::generate();
    for payload in [
        json!({}),
        json!({"report_id": 7}),
        json!({"report_id": "contact_1"}),
        json!([]),
    ] {
        let message = delivery("worker.report_requested.v1", tenant, payload);
        let outcome = MakeReport::new(world.tools(&peers, NO_MAIL)).handle(&message).await;
        assert!(matches!(outcome, Err(HandlerError::Park(_))), "{outcome:?}");
        let outcome = SendInvitation::new(world.tools(&peers, NO_MAIL)).handle(&message).await;
        assert!(matches!(outcome, Err(HandlerError::Park(_))), "{outcome:?}");
    }
}

#[tokio::test]
async fn an_invitation_is_mailed_with_its_link_and_kept_nowhere() {
    let world = World::new("invite").await;
    let peers = Peers::start(Script::default()).await;
    let sink = SmtpSink::start(&world.folder.path().join("mails")).await.unwrap();
    let payload = json!({ "invitation_id": InvitationId::generate() });
    let message = delivery("auth.invitation_created.v1", TenantId::generate(), payload);
    SendInvitation::new(world.tools(&peers, &sink.url()))
        .handle(&message)
        .await
        .unwrap();
    let mails = sink.mails().unwrap();
    assert_eq!(mails[0].to, ["ada@example.com"]);
    let lines: Vec<&str> = mails[0].text.lines().collect();
    assert!(
        lines.contains(&"https://app.rowhouse.example/invitations/accept#token=secret-token"),
        "{lines:?}"
    );
    assert!(lines.contains(&"secret-token"), "{lines:?}");
    assert!(mails[0].text.contains("15 January 2027, 08:00 UTC"), "{lines:?}");
    let kept: String = sqlx::query_scalar("SELECT string_agg(mail::text, ' ') FROM worker.mails AS mail")
        .fetch_one(&world.pool)
        .await
        .unwrap();
    assert!(!kept.contains("secret-token") && !kept.contains("ada@"), "{kept}");
}

#[tokio::test]
async fn an_invitation_that_is_gone_sends_nothing() {
    let world = World::new("gone").await;
    let script = Script {
        invitation_gone: true,
        ..Script::default()
    };
    let peers = Peers::start(script).await;
    let payload = json!({ "invitation_id": InvitationId::generate() });
    let message = delivery("auth.invitation_created.v1", TenantId::generate(), payload);
    SendInvitation::new(world.tools(&peers, NO_MAIL))
        .handle(&message)
        .await
        .unwrap();
    assert_eq!(
        world
            .count("SELECT count(*) FROM worker.mails WHERE state = 'void'")
            .await,
        1
    );
    assert_eq!(world.count("SELECT count(*) FROM worker.processed").await, 1);
}

#[tokio::test]
async fn a_mail_about_an_account_holds_its_link_and_nothing_is_sent_where_there_is_no_account() {
    let world = World::new("account").await;
    let sink = SmtpSink::start(&world.folder.path().join("mails")).await.unwrap();
    for (kind, line) in [
        (
            AccountMailKind::PasswordReset,
            "https://app.rowhouse.example/password/reset#token=secret-token",
        ),
        (
            AccountMailKind::EmailChange,
            "https://app.rowhouse.example/email/confirm#token=secret-token",
        ),
    ] {
        let script = Script {
            account_mail: Some(kind),
            ..Script::default()
        };
        let peers = Peers::start(script).await;
        let payload = json!({ "account_mail_id": AccountMailId::generate() });
        let mut message = delivery("auth.account_mail.v1", TenantId::generate(), payload);
        message.tenant = None;
        SendAccountMail::new(world.tools(&peers, &sink.url()))
            .handle(&message)
            .await
            .unwrap();
        let mails = sink.mails().unwrap();
        let mail = mails.last().unwrap();
        assert_eq!(mail.to, ["ada@example.com"]);
        assert!(mail.text.lines().any(|found| found == line), "{}", mail.text);
    }
    let kept: String = sqlx::query_scalar("SELECT string_agg(mail::text, ' ') FROM worker.mails AS mail")
        .fetch_one(&world.pool)
        .await
        .unwrap();
    assert!(!kept.contains("secret-token") && !kept.contains("ada@"), "{kept}");

    let nobody = Peers::start(Script::default()).await;
    let payload = json!({ "account_mail_id": AccountMailId::generate() });
    let message = delivery("auth.account_mail.v1", TenantId::generate(), payload);
    SendAccountMail::new(world.tools(&nobody, NO_MAIL))
        .handle(&message)
        .await
        .unwrap();
    assert_eq!(
        world
            .count("SELECT count(*) FROM worker.mails WHERE state = 'void'")
            .await,
        1
    );
    let unnamed = delivery("auth.account_mail.v1", TenantId::generate(), json!({}));
    let outcome = SendAccountMail::new(world.tools(&nobody, NO_MAIL))
        .handle(&unnamed)
        .await;
    assert!(matches!(outcome, Err(HandlerError::Park(_))), "{outcome:?}");
}

#[tokio::test]
async fn an_operator_is_told_of_another_and_by_whom_they_were_made() {
    let world = World::new("account_operator").await;
    let sink = SmtpSink::start(&world.folder.path().join("mails")).await.unwrap();
    let change = OperatorChange {
        user_id: "user_01m8540aacec5aazg0ce3wv6jk".to_owned(),
        email: "mole@rowhouse.example".to_owned(),
        actor: "root@rowhouse.example".to_owned(),
    };
    for (kind, subject) in [
        (
            AccountMailKind::OperatorMade,
            "A platform operator was made on Rowhouse",
        ),
        (
            AccountMailKind::OperatorUnmade,
            "A platform operator's role on Rowhouse has ended",
        ),
    ] {
        let script = Script {
            account_mail: Some(kind),
            operator_change: Some(change.clone()),
            ..Script::default()
        };
        let peers = Peers::start(script).await;
        let payload = json!({ "account_mail_id": AccountMailId::generate() });
        let mut message = delivery("auth.account_mail.v1", TenantId::generate(), payload);
        message.tenant = None;
        SendAccountMail::new(world.tools(&peers, &sink.url()))
            .handle(&message)
            .await
            .unwrap();
        let mails = sink.mails().unwrap();
        let mail = mails.last().unwrap();
        assert_eq!(
            (mail.to.as_slice(), mail.subject.as_str()),
            (["ada@example.com".to_owned()].as_slice(), subject)
        );
        for said in [&change.user_id, &change.email, &change.actor] {
            assert!(mail.text.contains(said.as_str()), "{said}: {}", mail.text);
        }
    }
}

#[tokio::test]
async fn the_requester_is_told_and_nobody_who_has_left() {
    let world = World::new("told").await;
    let sink = SmtpSink::start(&world.folder.path().join("mails")).await.unwrap();
    for recipient_gone in [false, true] {
        let script = Script {
            recipient_gone,
            recipient_name: "Ada <script>\r\nBcc: x@example.com".to_owned(),
            ..Script::default()
        };
        let peers = Peers::start(script).await;
        let tools = world.tools(&peers, &sink.url());
        let (_, report, message) = queued(&world).await;
        MakeReport::new(tools.clone()).handle(&message).await.unwrap();
        let finished = delivery(
            "worker.report_finished.v1",
            report.tenant,
            json!({ "report_id": report.id }),
        );
        SendReportFinished::new(tools).handle(&finished).await.unwrap();
    }
    let mails = sink.mails().unwrap();
    assert_eq!(mails.len(), 1);
    assert_eq!(
        (mails[0].subject.as_str(), mails[0].to.len()),
        ("Your contacts report is ready", 1)
    );
    assert!(mails[0].html.as_ref().unwrap().contains("Ada &lt;script&gt;"));
}

#[tokio::test]
async fn a_mail_about_a_report_is_left_out_where_the_plan_allows_no_more_today() {
    let world = World::new("mails_a_day").await;
    let sink = SmtpSink::start(&world.folder.path().join("mails")).await.unwrap();
    let peers = Peers::start(Script::default()).await;
    let (_, report, message) = queued(&world).await;
    let unbounded = world.tools(&peers, &sink.url());
    MakeReport::new(unbounded.clone()).handle(&message).await.unwrap();
    let bounded = Tools {
        limits: fixed(Limits {
            mails_per_day: Some(1),
            ..Limits::default()
        }),
        ..unbounded
    };
    let payload = || json!({ "report_id": report.id });
    let send = async |tools: &Tools| {
        let finished = delivery("worker.report_finished.v1", report.tenant, payload());
        SendReportFinished::new(tools.clone()).handle(&finished).await.unwrap();
        sink.mails().unwrap().len()
    };
    assert_eq!((send(&bounded).await, send(&bounded).await), (1, 1));
    let left_out = "SELECT count(*) FROM worker.mails WHERE state = 'void'";
    assert_eq!(world.count(left_out).await, 1);
    // A day later.
    sqlx::query("UPDATE worker.mails SET created_at = now() - interval '25 hours'")
        .execute(&world.pool)
        .await
        .unwrap();
    assert_eq!(send(&bounded).await, 2);
}

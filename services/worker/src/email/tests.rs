//! Texts, headers, and mails that are sent once.

use std::time::SystemTime;

use lettre::Address;
use lettre::message::Mailbox;
use rowhouse_devkit::smtp::SmtpSink;
use rowhouse_mq::{Delivery, HandlerError};
use rowhouse_types::{Email, TenantId};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use uuid::Uuid;

use self::table::{Row, Verdict, addresses};
use super::letter::{Letter, message_id};
use super::template::{AccountText, InvitationText, ReportText, Templates, one_line};
use crate::peer::{AccountMailKind, OperatorChange};
use crate::testing::{World, delivery};

/// The table by which `rowhouse_types` is tested.
#[path = "../../../../libs/types/src/email/table.rs"]
mod table;

const QUEUE: &str = "worker.invitation_mails";

fn invitation(organisation: &str) -> InvitationText {
    InvitationText {
        organisation: organisation.to_owned(),
        link: "https://app.rowhouse.example/invitations/accept#token=abc".to_owned(),
        token: "abc".to_owned(),
        expires: "1 December 2026, 12:00 UTC".to_owned(),
    }
}

fn report(name: &str, succeeded: bool) -> ReportText {
    ReportText {
        name: name.to_owned(),
        succeeded,
        report_id: "report_1".to_owned(),
        row_count: 500,
        failure: "the organisation is suspended".to_owned(),
        link: "https://app.rowhouse.example/reports/report_1".to_owned(),
    }
}

#[test]
fn an_invitation_reads_well() {
    let written = Templates::new().unwrap().invitation(&invitation("Ada & Sons")).unwrap();
    assert_eq!(written.subject, "You are invited to Ada & Sons on Rowhouse");
    assert_eq!(
        written.text,
        "Hello,\n\nyou are invited to join Ada & Sons on Rowhouse.\n\nTo accept, open this link:\n\n\
         https://app.rowhouse.example/invitations/accept#token=abc\n\nIf you accept by a call instead, this is the \
         token:\n\nabc\n\nThe invitation is for you alone, can be used once and ends on 1 December 2026, 12:00 UTC.\n\
         If you did not expect it, you need not do anything."
    );
    assert!(
        written.html.contains("<strong>Ada &amp; Sons</strong>"),
        "{}",
        written.html
    );
}

fn account(kind: AccountMailKind, name: &str) -> AccountText {
    AccountText {
        kind,
        name: name.to_owned(),
        link: "https://app.rowhouse.example/password/reset#token=abc".to_owned(),
        token: "abc".to_owned(),
        time: "1 December 2026, 12:00 UTC".to_owned(),
        operator: OperatorChange::default(),
    }
}

#[test]
fn a_change_of_operators_names_who_made_it_of_whom_and_when_and_what_to_do() {
    let templates = Templates::new().unwrap();
    let written = |kind, actor: &str| {
        let mut text = account(kind, "Ada");
        text.operator = OperatorChange {
            user_id: "user_01m8540aacec5aazg0ce3wv6jk".to_owned(),
            email: "mole@rowhouse.example".to_owned(),
            actor: actor.to_owned(),
        };
        templates.account(&text).unwrap()
    };
    let log = "\n\nAll operators are told. Nobody gets more than 20 such mails within an hour;\n\
        the log has every change (platform.grant and platform.revoke).";
    let made = written(AccountMailKind::OperatorMade, "root@rowhouse.example");
    assert_eq!(made.subject, "A platform operator was made on Rowhouse");
    assert_eq!(
        made.text,
        format!(
            "Hello Ada,\n\nmole@rowhouse.example was made a platform operator of Rowhouse on 1 December 2026, 12:00 UTC,\nby \
             root@rowhouse.example.\n\nIf this is wrong, take the role from them at once, by \
             OperatorService/RevokeOperator with this user_id,\nor by the command revoke-operator:\n\n\
             user_01m8540aacec5aazg0ce3wv6jk\n\nThen somebody else has been in the account of root@rowhouse.example:\n\
             take the role from it too until its password is another, and look in the platform's audit log for what was \
             done with it.{log}"
        )
    );
    let unmade = written(AccountMailKind::OperatorUnmade, "");
    assert_eq!(unmade.subject, "A platform operator's role on Rowhouse has ended");
    assert_eq!(
        unmade.text,
        format!(
            "Hello Ada,\n\nmole@rowhouse.example is no platform operator of Rowhouse any more since 1 December 2026, 12:00 \
             UTC.\nThe role was taken by a command of the auth service.\n\nIf this is wrong, give it back by \
             OperatorService/GrantOperator, or where no operator can log in,\nby the command grant-operator. It was the \
             role of this user_id:\n\nuser_01m8540aacec5aazg0ce3wv6jk\n\nThen ask those who run the auth service who has \
             run the command, and look in the platform's audit log for its reason.{log}"
        )
    );
    for (mail, actor) in [
        (&made, "root@rowhouse.example"),
        (&unmade, "a command of the auth service"),
    ] {
        for said in [
            actor,
            "mole@rowhouse.example",
            "user_01m8540aacec5aazg0ce3wv6jk",
            "12:00 UTC",
        ] {
            assert!(mail.html.contains(said), "{said}: {}", mail.html);
        }
        assert!(
            !mail.text.contains("abc") && !mail.html.contains("abc"),
            "a notice holds no link"
        );
    }
    let typed = written(AccountMailKind::OperatorMade, "<script>@rowhouse.example");
    assert!(!typed.html.contains("<script>"), "{}", typed.html);
}

#[test]
fn mails_about_accounts_read_well() {
    let templates = Templates::new().unwrap();
    let written = |kind, name| templates.account(&account(kind, name)).unwrap();
    let reset = written(AccountMailKind::PasswordReset, "Ada");
    assert_eq!(reset.subject, "Choose a new password for Rowhouse");
    assert_eq!(
        reset.text,
        "Hello Ada,\n\nsomebody asked for a new password for your account on Rowhouse. To choose one, open this link:\n\n\
         https://app.rowhouse.example/password/reset#token=abc\n\nIf you choose it by a call instead, this is the \
         token:\n\nabc\n\nThe link can be used once and ends on 1 December 2026, 12:00 UTC. A new password ends every \
         session of your account.\nIf it was not you, you need not do anything: your password stays as it is."
    );
    let change = written(AccountMailKind::EmailChange, "");
    assert_eq!(change.subject, "Confirm your new address for Rowhouse");
    assert!(
        change.text.starts_with("Hello,\n") && change.text.contains("\n\nabc\n\n"),
        "{}",
        change.text
    );
    for (kind, subject, line) in [
        (
            AccountMailKind::PasswordChanged,
            "Your password for Rowhouse was changed",
            "the password of your account on Rowhouse was changed on 1 December 2026, 12:00 UTC.",
        ),
        (
            AccountMailKind::EmailChanged,
            "Your address for Rowhouse was changed",
            "your account on Rowhouse was given another e-mail address on 1 December 2026, 12:00 UTC. This one can no \
             longer be used to log in.",
        ),
    ] {
        let notice = written(kind, "Ada");
        assert_eq!(notice.subject, subject);
        assert!(notice.text.lines().any(|found| found == line), "{}", notice.text);
        assert!(
            !notice.text.contains("abc") && !notice.html.contains("abc"),
            "a notice holds no link"
        );
    }
    for linked in [reset, change] {
        assert!(linked.html.contains("#token=abc"), "{}", linked.html);
    }
    let typed = templates
        .account(&account(AccountMailKind::PasswordReset, "<script>"))
        .unwrap();
    assert!(!typed.html.contains("<script>"), "{}", typed.html);
}

#[test]
fn a_report_that_is_ready_and_one_that_is_not_read_well() {
    let templates = Templates::new().unwrap();
    let ready = templates.report_finished(&report("Ada", true)).unwrap();
    assert_eq!(ready.subject, "Your contacts report is ready");
    assert_eq!(
        ready.text,
        "Hello Ada,\n\nyour report is ready. It has 500 rows.\n\nDownload it here:\n\n\
         https://app.rowhouse.example/reports/report_1\n\nReport: report_1"
    );
    let failed = templates.report_finished(&report("", false)).unwrap();
    assert_eq!(failed.subject, "Your contacts report could not be made");
    assert_eq!(
        failed.text,
        "Hello,\n\nyour report could not be made: the organisation is suspended.\n\nReport: report_1"
    );
}

#[test]
fn what_somebody_typed_is_neither_markup_nor_template() {
    let templates = Templates::new().unwrap();
    for typed in [
        "<script>alert(1)</script>",
        "{{ 7 * 7 }}",
        "{% for x in range(9) %}x{% endfor %}",
        "\" onclick=\"x",
    ] {
        let written = templates.report_finished(&report(typed, true)).unwrap();
        assert!(written.text.contains(typed), "{}", written.text);
        let escaped = typed
            .replace('<', "&lt;")
            .replace('>', "&gt;")
            .replace('"', "&quot;")
            .replace('/', "&#x2f;");
        assert!(written.html.contains(&escaped), "{}", written.html);
        assert!(!written.html.contains("<script>"), "{}", written.html);
        let subject = templates.invitation(&invitation(typed)).unwrap().subject;
        assert!(subject.contains(typed), "{subject}");
    }
}

#[test]
fn what_is_an_address_to_us_is_one_to_the_library_that_sends_mails() {
    for Row { verdict, address, why } in addresses() {
        let Ok(email) = address.parse::<Email>() else {
            assert_eq!(verdict, Verdict::Refused, "{why}: {address:?}");
            continue;
        };
        let read = email.to_send().parse::<Address>();
        assert!(read.is_ok(), "{why}: {address:?}: {read:?}");
        // Whatever else is in it: nothing that begins a command or a header.
        let read = read.unwrap();
        assert!(
            !read.to_string().contains(['\r', '\n', '\0', ' ']),
            "{why}: {address:?}"
        );
        assert!(read.domain().is_ascii(), "{why}: {address:?}");
    }
}

#[test]
fn a_domain_in_its_own_script_needs_no_server_that_knows_it() {
    let templates = Templates::new().unwrap();
    let letter = Letter {
        to: "ada@b\u{fc}cher.example".parse().unwrap(),
        name: String::new(),
        written: templates.invitation(&invitation("Ada & Sons")).unwrap(),
    };
    let from: Mailbox = "Rowhouse <no-reply@rowhouse.example>".parse().unwrap();
    let message = letter.message(&from, Uuid::nil(), SystemTime::UNIX_EPOCH).unwrap();
    let to: Vec<String> = message.envelope().to().iter().map(ToString::to_string).collect();
    assert_eq!(to, ["ada@xn--bcher-kva.example"]);
    let bytes = String::from_utf8(message.formatted()).unwrap();
    assert!(bytes.contains("To: ada@xn--bcher-kva.example\r\n"), "{bytes}");
}

#[test]
fn nothing_typed_begins_a_header_of_its_own() {
    let typed = "Ada\r\nBcc: thief@example.com\r\n\r\nbody";
    let templates = Templates::new().unwrap();
    let letter = Letter {
        to: "ada@example.com".parse().unwrap(),
        name: typed.to_owned(),
        written: templates.invitation(&invitation(typed)).unwrap(),
    };
    let from: Mailbox = "Rowhouse <no-reply@rowhouse.example>".parse().unwrap();
    let message = letter.message(&from, Uuid::nil(), SystemTime::UNIX_EPOCH).unwrap();
    let bytes = String::from_utf8(message.formatted()).unwrap();
    let (headers, _) = bytes.split_once("\r\n\r\n").unwrap();
    assert!(!headers.lines().any(|line| line.starts_with("Bcc:")), "{headers}");
    // The name is an encoded word (RFC 2047): nothing in it is read as an address.
    assert!(headers.contains("To: =?utf-8?b?"), "{headers}");
    assert!(headers.contains("Auto-Submitted: auto-generated"), "{headers}");
    assert!(
        headers.contains(&format!("Message-ID: {}", message_id(Uuid::nil()))),
        "{headers}"
    );
    assert_eq!(message.envelope().to().len(), 1);
}

#[test]
fn a_line_for_a_header_is_short_and_has_no_control_characters() {
    assert_eq!(one_line("  a\r\n\tb\u{0}c\u{1b}[31m ", 100), "a b c [31m");
    assert_eq!(one_line(&"\u{e4}".repeat(1_000), 150).chars().count(), 150);
}

async fn letter(world: &World, url: &str) -> Letter {
    let text = invitation("Ada & Sons");
    world
        .post(url)
        .invitation("ada@example.com".parse().unwrap(), &text)
        .unwrap()
}

fn asked() -> Delivery {
    delivery("auth.invitation_created.v1", TenantId::generate(), json!({}))
}

#[tokio::test]
async fn a_mail_is_sent_once_however_often_its_message_comes() {
    let world = World::new("mail_once").await;
    let sink = SmtpSink::start(&world.folder.path().join("mails")).await.unwrap();
    let (post, asked) = (world.post(&sink.url()), asked());
    for _ in 0..3 {
        post.deliver(QUEUE, &asked, Some(letter(&world, &sink.url()).await))
            .await
            .unwrap();
    }
    let mails = sink.mails().unwrap();
    assert_eq!(mails.len(), 1);
    assert_eq!(mails[0].to, ["ada@example.com"]);
    assert_eq!(mails[0].message_id, format!("{}@rowhouse", asked.id));
    assert!(mails[0].text.contains("#token=abc") && mails[0].html.is_some());
    assert_eq!(
        world
            .count("SELECT count(*) FROM worker.mails WHERE state = 'sent' AND attempts = 1")
            .await,
        1
    );
    assert_eq!(world.count("SELECT count(*) FROM worker.processed").await, 1);
}

#[tokio::test]
async fn two_processes_with_one_message_send_one_mail() {
    let world = World::new("mail_race").await;
    let sink = SmtpSink::start(&world.folder.path().join("mails")).await.unwrap();
    let asked = asked();
    let mut racing = tokio::task::JoinSet::new();
    for _ in 0..5 {
        let (post, asked, letter) = (
            world.post(&sink.url()),
            asked.clone(),
            letter(&world, &sink.url()).await,
        );
        racing.spawn(async move { post.deliver(QUEUE, &asked, Some(letter)).await });
    }
    let outcomes = racing.join_all().await;
    assert!(outcomes.iter().any(Result::is_ok));
    assert!(
        outcomes
            .iter()
            .all(|outcome| matches!(outcome, Ok(()) | Err(HandlerError::Retry(_))))
    );
    assert_eq!(sink.mails().unwrap().len(), 1);
}

#[tokio::test]
async fn a_mail_that_was_not_taken_is_tried_again_with_the_same_message_id() {
    let world = World::new("mail_again").await;
    let asked = asked();
    let nobody = {
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("smtp://{}", closed.local_addr().unwrap())
    };
    let failed = world
        .post(&nobody)
        .deliver(QUEUE, &asked, Some(letter(&world, &nobody).await))
        .await;
    assert!(matches!(failed, Err(HandlerError::Retry(_))), "{failed:?}");
    assert_eq!(
        world
            .count("SELECT count(*) FROM worker.mails WHERE state = 'open'")
            .await,
        1
    );
    assert_eq!(world.count("SELECT count(*) FROM worker.processed").await, 0);

    let sink = SmtpSink::start(&world.folder.path().join("mails")).await.unwrap();
    world
        .post(&sink.url())
        .deliver(QUEUE, &asked, Some(letter(&world, &sink.url()).await))
        .await
        .unwrap();
    assert_eq!(sink.mails().unwrap()[0].message_id, format!("{}@rowhouse", asked.id));
}

/// A server that cuts the connection instead of answering the final dot: nobody can know whether it took the mail.
#[tokio::test]
async fn a_cut_at_the_final_dot_is_tried_again() {
    let world = World::new("mail_cut").await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("smtp://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"220 test\r\n").await.unwrap();
        let mut seen = Vec::new();
        let mut data = false;
        let mut buffer = [0; 4096];
        loop {
            let read = stream.read(&mut buffer).await.unwrap();
            seen.extend_from_slice(&buffer[..read]);
            if data && seen.ends_with(b"\r\n.\r\n") {
                return String::from_utf8(seen).unwrap();
            }
            let answer: &[u8] = match (data, seen.ends_with(b"DATA\r\n")) {
                (false, true) => b"354 go\r\n",
                (false, false) => b"250 fine\r\n",
                // The mail itself comes in pieces.
                (true, _) => b"",
            };
            data |= answer.starts_with(b"354");
            stream.write_all(answer).await.unwrap();
        }
    });
    let asked = asked();
    let outcome = world
        .post(&url)
        .deliver(QUEUE, &asked, Some(letter(&world, &url).await))
        .await;
    assert!(matches!(outcome, Err(HandlerError::Retry(_))), "{outcome:?}");
    assert!(server.await.unwrap().contains(&message_id(asked.id)));
    assert_eq!(
        world
            .count("SELECT count(*) FROM worker.mails WHERE state = 'open'")
            .await,
        1
    );
}

#[tokio::test]
async fn nothing_to_send_is_recorded_and_sends_nothing() {
    let world = World::new("mail_void").await;
    let asked = asked();
    for _ in 0..2 {
        world
            .post("smtp://127.0.0.1:1")
            .deliver(QUEUE, &asked, None)
            .await
            .unwrap();
    }
    assert_eq!(
        world
            .count("SELECT count(*) FROM worker.mails WHERE state = 'void'")
            .await,
        1
    );
}

//! The sink, spoken to as a mail client speaks.

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

/// Sends everything at once, as a pipelining client may, and returns all answers.
async fn converse(sink: &SmtpSink, text: &str) -> String {
    let mut stream = TcpStream::connect(sink.address()).await.unwrap();
    stream.write_all(text.replace('\n', "\r\n").as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn sink() -> (TempDir, SmtpSink) {
    let folder = tempfile::tempdir().unwrap();
    let sink = SmtpSink::start(folder.path()).await.unwrap();
    (folder, sink)
}

#[tokio::test]
async fn a_mail_with_dots_arrives_as_it_was_written() {
    let (_folder, sink) = sink().await;
    let answer = converse(
        &sink,
        "EHLO me\nMAIL FROM:<a@rowhouse.example> BODY=8BITMIME\nRCPT TO:<Ann@Example.com>\nDATA\n\
         From: A <a@rowhouse.example>\nSubject: hello\nMessage-ID: <1@rowhouse.example>\n\n..one dot\n...two\nend\n.\nQUIT\n",
    )
    .await;
    assert!(
        answer.ends_with("354 end with a dot\r\n250 kept\r\n221 bye\r\n"),
        "{answer}"
    );
    let mails = sink.mails().unwrap();
    assert_eq!(mails.len(), 1);
    let mail = &mails[0];
    assert_eq!(mail.to, ["ann@example.com"]);
    assert_eq!(mail.from, "a@rowhouse.example");
    assert_eq!(
        (mail.subject.as_str(), mail.message_id.as_str()),
        ("hello", "1@rowhouse.example")
    );
    assert_eq!(mail.text.replace("\r\n", "\n"), ".one dot\n..two\nend\n");
    assert_eq!(mail.html, None);
    sink.stop().await;
}

#[tokio::test]
async fn text_and_html_are_decoded() {
    let (_folder, sink) = sink().await;
    converse(
        &sink,
        "EHLO me\nMAIL FROM:<>\nRCPT TO:<b@example.com>\nDATA\nSubject: =?utf-8?B?w5xiZXI=?=\nMIME-Version: 1.0\n\
         Content-Type: multipart/alternative; boundary=x\n\n--x\nContent-Type: text/plain; charset=utf-8\n\
         Content-Transfer-Encoding: quoted-printable\n\nhttps://app.example/=\naccept?id=3D1\n--x\n\
         Content-Type: text/html; charset=utf-8\nContent-Transfer-Encoding: base64\n\nPGI+w7w8L2I+\n--x--\n.\nQUIT\n",
    )
    .await;
    let mail = sink.mails().unwrap().remove(0);
    assert_eq!(mail.subject, "Über");
    assert_eq!(mail.text.trim(), "https://app.example/accept?id=1");
    assert_eq!(mail.html.as_deref(), Some("<b>ü</b>"));
}

#[tokio::test]
async fn a_mail_that_breaks_off_before_the_dot_is_not_kept() {
    let (_folder, sink) = sink().await;
    converse(
        &sink,
        "EHLO me\nMAIL FROM:<a@b.example>\nRCPT TO:<c@d.example>\nDATA\nSubject: half\n\nhal",
    )
    .await;
    assert_eq!(sink.mails().unwrap(), []);
}

#[tokio::test]
async fn commands_out_of_order_are_refused() {
    let (_folder, sink) = sink().await;
    let answer = converse(
        &sink,
        "RCPT TO:<a@b.example>\nDATA\nMAIL FROM:nobody\nMAIL FROM:<a@b.example>\nRSET\nDATA\nHUH\n",
    )
    .await;
    let codes: Vec<&str> = answer.lines().filter_map(|line| line.get(..3)).collect();
    assert_eq!(codes, ["220", "503", "503", "501", "250", "250", "503", "502"]);
}

#[tokio::test]
async fn what_is_refused_is_quoted_and_not_kept() {
    let (_folder, sink) = sink().await;
    let answer = converse(
        &sink,
        "EHLO me\nMAIL FROM:<a@b.example>\nRCPT TO:<c@Refused.example>\nDATA\nSubject: no\n\nfirst\nsecond\n.\nQUIT\n",
    )
    .await;
    assert!(
        answer.ends_with("550-5.7.1 first\r\n550-5.7.1 second\r\n550 5.7.1 refused\r\n221 bye\r\n"),
        "{answer}"
    );
    assert_eq!(sink.mails().unwrap(), []);
}

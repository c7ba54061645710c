//! One SMTP session: RFC 5321, sections 4.1 and 4.5.2.

use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use uuid::Uuid;

/// Longest line that is read, with its end; RFC 5321 asks for 1,000 at least.
const LINE_BYTES_MAX: u64 = 64 << 10;
/// Largest mail.
const MAIL_BYTES_MAX: usize = 32 << 20;
/// Recipients of one mail; RFC 5321 asks for 100 at least.
const RECIPIENTS_MAX: usize = 1000;
/// What addresses end with whose mail is refused.
const REFUSED: &str = "@refused.example";
/// Of a refused mail, what the answer quotes: a line of an answer has at most 512 bytes (RFC 5321, 4.5.3.1.5).
const QUOTED_LINES_MAX: usize = 100;
const QUOTED_CHARS_MAX: usize = 480;

/// What is known of the mail that is being sent.
#[derive(Debug, Default)]
struct Envelope {
    from: Option<String>,
    to: Vec<String>,
}

/// Serves one connection to its end.
pub(super) async fn run(stream: TcpStream, folder: &Path) -> Result<()> {
    let (read, write) = stream.into_split();
    converse(BufReader::new(read), write, folder).await
}

async fn converse<R, W>(mut read: R, mut write: W, folder: &Path) -> Result<()>
where
    R: AsyncBufRead + AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut envelope = Envelope::default();
    write.write_all(b"220 rowhouse.example sink\r\n").await?;
    while let Some(line) = line(&mut read).await? {
        let text = String::from_utf8_lossy(&line).trim().to_owned();
        let (verb, argument) = text.split_once(' ').unwrap_or((&text, ""));
        let answer = match verb.to_ascii_uppercase().as_str() {
            "EHLO" => "250-rowhouse.example\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 PIPELINING".to_owned(),
            "HELO" => "250 rowhouse.example".to_owned(),
            "MAIL" => envelope.begin(argument),
            "RCPT" => envelope.add(argument),
            "DATA" if envelope.to.is_empty() => "503 nobody to send to".to_owned(),
            "DATA" => {
                write.write_all(b"354 end with a dot\r\n").await?;
                let content = content(&mut read).await?;
                let envelope = std::mem::take(&mut envelope);
                if envelope.is_refused() {
                    refusal(&content)
                } else {
                    keep(folder, &envelope, &content)?
                }
            }
            "RSET" => {
                envelope = Envelope::default();
                "250 forgotten".to_owned()
            }
            "NOOP" => "250 fine".to_owned(),
            "VRFY" => "252 perhaps".to_owned(),
            "QUIT" => {
                write.write_all(b"221 bye\r\n").await?;
                return Ok(());
            }
            _ => "502 not known here".to_owned(),
        };
        write.write_all(format!("{answer}\r\n").as_bytes()).await?;
    }
    Ok(())
}

impl Envelope {
    fn begin(&mut self, argument: &str) -> String {
        let Some(path) = path(argument, "FROM:") else {
            return "501 MAIL FROM:<address>".to_owned();
        };
        *self = Self {
            from: Some(path),
            to: Vec::new(),
        };
        "250 go on".to_owned()
    }

    /// Whether it goes to somebody whose mail is refused.
    fn is_refused(&self) -> bool {
        self.to.iter().any(|to| to.to_lowercase().ends_with(REFUSED))
    }

    fn add(&mut self, argument: &str) -> String {
        let Some(path) = path(argument, "TO:").filter(|path| !path.is_empty()) else {
            return "501 RCPT TO:<address>".to_owned();
        };
        if self.from.is_none() {
            return "503 MAIL comes first".to_owned();
        }
        if self.to.len() >= RECIPIENTS_MAX {
            return "452 enough recipients".to_owned();
        }
        self.to.push(path);
        "250 go on".to_owned()
    }
}

/// An answer of as many lines as the mail's text has.
fn refusal(content: &[u8]) -> String {
    let text = super::mailbox::text(content).unwrap_or_default();
    let mut answer = String::new();
    for line in text.lines().take(QUOTED_LINES_MAX) {
        let line = line.chars().filter(char::is_ascii).take(QUOTED_CHARS_MAX);
        answer.push_str(&format!("550-5.7.1 {}\r\n", line.collect::<String>()));
    }
    answer.push_str("550 5.7.1 refused");
    answer
}

/// The address in `FROM:<address> PARAMETERS`.
fn path(argument: &str, keyword: &str) -> Option<String> {
    let head = argument.get(..keyword.len())?;
    let rest = argument.get(keyword.len()..)?.trim_start();
    let (address, _) = rest.strip_prefix('<')?.split_once('>')?;
    head.eq_ignore_ascii_case(keyword).then(|| address.to_owned())
}

async fn line<R: AsyncBufRead + Unpin>(read: &mut R) -> Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let length = read.take(LINE_BYTES_MAX).read_until(b'\n', &mut line).await?;
    if length > 0 && line.last() != Some(&b'\n') {
        bail!("a line without an end");
    }
    Ok((length > 0).then_some(line))
}

/// Reads up to the dot, taking away the second dot of a line that began with one (RFC 5321, 4.5.2).
async fn content<R: AsyncBufRead + Unpin>(read: &mut R) -> Result<Vec<u8>> {
    let mut content = Vec::new();
    while let Some(line) = line(read).await? {
        if line == b".\r\n" || line == b".\n" {
            return Ok(content);
        }
        content.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
        if content.len() > MAIL_BYTES_MAX {
            bail!("a mail beyond {MAIL_BYTES_MAX} bytes");
        }
    }
    bail!("the client went away before the dot")
}

/// Writes the mail under a name that sorts by time; it is there in full before the client is told so.
fn keep(folder: &Path, envelope: &Envelope, content: &[u8]) -> Result<String> {
    let nanoseconds = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos();
    let name = format!("{nanoseconds:020}-{}.eml", Uuid::new_v4().simple());
    let mut mail = format!("Return-Path: <{}>\r\n", envelope.from.as_deref().unwrap_or_default()).into_bytes();
    for to in &envelope.to {
        mail.extend_from_slice(format!("Delivered-To: {to}\r\n").as_bytes());
    }
    mail.extend_from_slice(content);
    let part = folder.join(format!(".{name}.part"));
    fs::write(&part, mail)?;
    fs::rename(&part, folder.join(name))?;
    Ok("250 kept".to_owned())
}

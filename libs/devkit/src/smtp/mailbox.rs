//! Reading what the sink has kept.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use mail_parser::{HeaderValue, MessageParser};

/// One mail that the sink accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// Recipients of the envelope, lower case.
    pub to: Vec<String>,
    /// The sender's address as the header says it.
    pub from: String,
    /// Decoded.
    pub subject: String,
    /// Without angle brackets.
    pub message_id: String,
    /// The text part, decoded.
    pub text: String,
    /// The HTML part, decoded, where there is one.
    pub html: Option<String>,
    /// The whole mail as it was sent, behind the sink's own lines.
    pub file: PathBuf,
}

/// The mails in a sink's folder, oldest first; none where there is no folder yet.
///
/// # Errors
/// When the folder or a mail cannot be read.
pub fn list(folder: &Path) -> Result<Vec<Mail>> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let paths = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<PathBuf>>>()?;
    // A mail that is still being written has a name of another kind.
    let mut files: Vec<PathBuf> = paths
        .into_iter()
        .filter(|path| path.extension().is_some_and(|e| e == "eml"))
        .collect();
    files.sort();
    files.into_iter().map(|file| read(&file)).collect()
}

fn read(file: &Path) -> Result<Mail> {
    let content = fs::read(file)?;
    let message = MessageParser::default()
        .parse(&content)
        .with_context(|| format!("{} is no mail", file.display()))?;
    let delivered = message.header_values("Delivered-To").filter_map(HeaderValue::as_text);
    let from = message
        .from()
        .and_then(|from| from.first())
        .and_then(|from| from.address());
    // `body_html` of a mail without an HTML part is made up from its text.
    let html = message.html_part(0).filter(|part| part.is_text_html());
    Ok(Mail {
        to: delivered.map(str::to_lowercase).collect(),
        from: from.unwrap_or_default().to_owned(),
        subject: message.subject().unwrap_or_default().to_owned(),
        message_id: message.message_id().unwrap_or_default().to_owned(),
        text: message.body_text(0).unwrap_or_default().into_owned(),
        html: html.and_then(|part| part.text_contents()).map(str::to_owned),
        file: file.to_owned(),
    })
}

/// The text part of a mail, decoded.
pub(super) fn text(content: &[u8]) -> Option<String> {
    let message = MessageParser::default().parse(content)?;
    message.body_text(0).map(|text| text.into_owned())
}

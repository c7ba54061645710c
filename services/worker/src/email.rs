//! E-mails: their texts, and the way to the mail server.
//!
//! - `template`: the texts, from `email/<name>/{subject.txt,body.txt,body.html}.j2`.
//! - `letter`: a mail as MIME.
//! - `mailer`: SMTP.
//! - `post`: one mail for one message, however often that comes.

mod letter;
mod mailer;
mod post;
pub(crate) mod store;
mod template;

#[cfg(test)]
mod tests;

pub(crate) use letter::Letter;
pub(crate) use mailer::Mailer;
pub(crate) use post::PostOffice;
pub(crate) use template::{AccountText, InvitationText, ReportText, Templates};

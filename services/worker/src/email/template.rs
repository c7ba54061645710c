//! The texts of mails. To add one: a folder with its three templates, a struct with what they say, a line in `SOURCES`.

use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value, context};

use crate::peer::{AccountMailKind, OperatorChange};

/// Steps that one template may take: ours take a few hundred, and none has a loop over what somebody typed.
const FUEL: u64 = 20_000;

/// Longest subject, in characters.
const SUBJECT_CHARS_MAX: usize = 150;

macro_rules! sources {
    ($($name:literal),*) => {
        &[$(
            (concat!($name, "/subject.txt"), include_str!(concat!($name, "/subject.txt.j2"))),
            (concat!($name, "/body.txt"), include_str!(concat!($name, "/body.txt.j2"))),
            (concat!($name, "/body.html"), include_str!(concat!($name, "/body.html.j2"))),
        )*]
    };
}

const SOURCES: &[(&str, &str)] = sources!(
    "invitation",
    "password_reset",
    "email_change",
    "account_notice",
    "operator_notice",
    "report_finished"
);

/// What the mail of an invitation says. It holds the secret link: no `Debug`.
pub(crate) struct InvitationText {
    pub(crate) organisation: String,
    pub(crate) link: String,
    /// The secret alone, for those who accept by a call.
    pub(crate) token: String,
    pub(crate) expires: String,
}

/// What a mail about an account says. It may hold a secret link: no `Debug`.
pub(crate) struct AccountText {
    pub(crate) kind: AccountMailKind,
    pub(crate) name: String,
    pub(crate) link: String,
    /// The secret alone, for those who follow the link by a call.
    pub(crate) token: String,
    /// When the link ends, or when it happened.
    pub(crate) time: String,
    /// For mails about operators.
    pub(crate) operator: OperatorChange,
}

/// What the mail about a finished report says.
pub(crate) struct ReportText {
    pub(crate) name: String,
    pub(crate) succeeded: bool,
    pub(crate) report_id: String,
    pub(crate) row_count: i64,
    pub(crate) failure: String,
    pub(crate) link: String,
}

/// All texts, read once.
#[derive(Debug)]
pub(crate) struct Templates {
    environment: Environment<'static>,
}

/// A text with everything filled in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) subject: String,
    pub(crate) text: String,
    pub(crate) html: String,
}

// === impl Templates ===

impl Templates {
    pub(crate) fn new() -> Result<Self, minijinja::Error> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_fuel(Some(FUEL));
        environment.set_auto_escape_callback(|name| {
            if name.ends_with(".html") {
                AutoEscape::Html
            } else {
                AutoEscape::None
            }
        });
        for (name, source) in SOURCES {
            environment.add_template(name, source)?;
        }
        Ok(Self { environment })
    }

    pub(crate) fn invitation(&self, text: &InvitationText) -> Result<Written, minijinja::Error> {
        self.write(
            "invitation",
            &context! {
                organisation => text.organisation.as_str(),
                link => text.link.as_str(),
                token => text.token.as_str(),
                expires => text.expires.as_str(),
            },
        )
    }

    pub(crate) fn account(&self, text: &AccountText) -> Result<Written, minijinja::Error> {
        let (name, notice) = match text.kind {
            AccountMailKind::PasswordReset => ("password_reset", ""),
            AccountMailKind::EmailChange => ("email_change", ""),
            AccountMailKind::PasswordChanged => ("account_notice", "password"),
            AccountMailKind::EmailChanged => ("account_notice", "email"),
            AccountMailKind::SecondFactorOn => ("account_notice", "second_factor_on"),
            AccountMailKind::SecondFactorOff => ("account_notice", "second_factor_off"),
            AccountMailKind::OperatorMade | AccountMailKind::OperatorUnmade => return self.operator(text),
        };
        self.write(
            name,
            &context! {
                name => text.name.as_str(),
                link => text.link.as_str(),
                token => text.token.as_str(),
                time => text.time.as_str(),
                notice => notice,
            },
        )
    }

    fn operator(&self, text: &AccountText) -> Result<Written, minijinja::Error> {
        let OperatorChange { user_id, email, actor } = &text.operator;
        self.write(
            "operator_notice",
            &context! {
                name => text.name.as_str(),
                made => text.kind == AccountMailKind::OperatorMade,
                operator => email.as_str(),
                operator_id => user_id.as_str(),
                actor => actor.as_str(),
                time => text.time.as_str(),
            },
        )
    }

    pub(crate) fn report_finished(&self, text: &ReportText) -> Result<Written, minijinja::Error> {
        self.write(
            "report_finished",
            &context! {
                name => text.name.as_str(),
                succeeded => text.succeeded,
                report_id => text.report_id.as_str(),
                row_count => text.row_count,
                failure => text.failure.as_str(),
                link => text.link.as_str(),
            },
        )
    }

    fn write(&self, name: &str, filled: &Value) -> Result<Written, minijinja::Error> {
        let part = |part: &str| {
            self.environment
                .get_template(&format!("{name}/{part}"))?
                .render(filled.clone())
        };
        Ok(Written {
            subject: one_line(&part("subject.txt")?, SUBJECT_CHARS_MAX),
            text: part("body.txt")?,
            html: part("body.html")?,
        })
    }
}

/// Text for a header: one line without control characters, whatever was typed into it. A line break there would begin
/// another header (RFC 5322, section 2.2).
pub(super) fn one_line(text: &str, chars_max: usize) -> String {
    let flat: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let words: Vec<&str> = flat.split_whitespace().collect();
    words.join(" ").chars().take(chars_max).collect()
}

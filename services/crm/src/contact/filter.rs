//! `filter` of ListContacts and ReassignContacts: a subset of AIP-160, read into a typed tree. No text of the caller becomes
//! SQL: the store writes the tree with fixed pieces and binds.
//!
//! ```text
//! filter     = [ expression ]
//! expression = sequence { "AND" sequence }
//! sequence   = term { "OR" term }                 OR binds tighter than AND, as AIP-160 says
//! term       = "NOT" term | "(" expression ")" | comparison
//! comparison = field operator value
//! field      = "email" | "display_name" | "create_time" | "update_time"
//! operator   = "=" | "!=" | "<" | "<=" | ">" | ">="
//! value      = word | quoted
//! word       = characters other than white space, quotes, parentheses, commas and those of operators
//! quoted     = text between two `"` or two `'`; a backslash stands before a quote, a `*` or a backslash
//! ```
//!
//! Text compares without regard to case. With `=` and `!=`, a `*` at the end matches any ending; elsewhere it is
//! refused, because no index could serve it. Times are RFC 3339 with an offset.

mod lexer;
mod parser;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};

/// Longest filter, in characters.
pub(crate) const FILTER_CHARS_MAX: usize = 2_000;
/// Most comparisons in a filter: each costs the database a condition on every row that the others let through.
pub(crate) const COMPARISONS_MAX: usize = 20;
/// Deepest nesting of parentheses and NOT: the parser recurses once for each.
pub(crate) const DEPTH_MAX: usize = 20;

/// A filter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    /// As written: a page token or a request id is good for the same text only.
    pub(crate) text: String,
    /// `None` lets every contact through.
    pub(crate) expression: Option<Expression>,
}

/// A condition on a contact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expression {
    /// All of them.
    And(Vec<Expression>),
    /// At least one of them.
    Or(Vec<Expression>),
    /// Not this.
    Not(Box<Expression>),
    /// A text against a whole text.
    Text {
        field: TextField,
        operator: Operator,
        value: String,
    },
    /// Whether a text begins with this.
    Prefix {
        field: TextField,
        negated: bool,
        prefix: String,
    },
    /// A time against a time.
    Time {
        field: TimeField,
        operator: Operator,
        value: DateTime<Utc>,
    },
}

/// A field that holds text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TextField {
    Email,
    DisplayName,
}

/// A field that holds a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TimeField {
    CreateTime,
    UpdateTime,
}

/// How two values compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// Where a filter is wrong and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FilterError {
    /// The character, counted from 1.
    pub(crate) at: usize,
    pub(crate) fault: Fault,
}

/// What is wrong with a filter. Texts of the caller are not repeated: the position leads to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    #[error("is longer than {FILTER_CHARS_MAX} characters")]
    TooLong,
    #[error("has more than {COMPARISONS_MAX} comparisons")]
    TooManyComparisons,
    #[error("is nested deeper than {DEPTH_MAX}")]
    TooDeep,
    #[error("has a character that is not allowed")]
    Character,
    #[error("has a quote that is not closed")]
    Unterminated,
    #[error("has a backslash before something else than a quote, * or \\")]
    Escape,
    #[error("lacks {0}")]
    Expected(&'static str),
    #[error("names a field that is none of email, display_name, create_time, update_time")]
    UnknownField,
    #[error("has a value that is not a time such as 2026-01-31T12:00:00Z")]
    Time,
    #[error("has a * that is not at the end of a text")]
    Star,
    #[error("has a * with an operator other than = and !=")]
    StarOperator,
}

// === impl Filter ===

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        if text.chars().nth(FILTER_CHARS_MAX).is_some() {
            return Err(FilterError {
                at: FILTER_CHARS_MAX + 1,
                fault: Fault::TooLong,
            });
        }
        let tokens = lexer::tokens(text)?;
        Ok(Self {
            text: text.to_owned(),
            expression: parser::parse(&tokens)?,
        })
    }
}

// === impl FilterError ===

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (at character {})", self.fault, self.at)
    }
}

impl std::error::Error for FilterError {}

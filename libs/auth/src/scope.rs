//! How far a grant reaches: whose records it is about.

use std::fmt;
use std::str::FromStr;

/// How far a grant reaches, the narrowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// The holder's own records.
    Own,
    /// Those of the people in the holder's teams too, and of those in teams beneath the ones that the holder manages.
    Team,
    /// Everybody's.
    All,
}

/// The text is not a scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a scope")]
pub struct ParseScopeError;

// === impl Scope ===

impl Scope {
    /// All of them, the narrowest first.
    pub const ALL: [Self; 3] = [Self::Own, Self::Team, Self::All];

    /// The word as in grants, behind the `@`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Team => "team",
            Self::All => "all",
        }
    }

    /// Whether who holds this may give `other` to somebody else.
    ///
    /// What is one's own another has not got, so everybody who holds anything may give that. Another's teams are not
    /// one's own: what they reach is known to be within one's own reach only where that is everything.
    #[must_use]
    pub fn covers(self, other: Self) -> bool {
        match other {
            Self::Own => true,
            Self::Team | Self::All => self == Self::All,
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Scope {
    type Err = ParseScopeError;

    fn from_str(text: &str) -> Result<Self, ParseScopeError> {
        let mut known = Self::ALL.into_iter();
        known.find(|scope| scope.as_str() == text).ok_or(ParseScopeError)
    }
}

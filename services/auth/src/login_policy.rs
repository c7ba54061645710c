//! What a tenant asks of its members' log-ins: a second factor, a bound on sessions, domains of addresses, a length of
//! passwords. A tenant without a policy asks nothing beside what the platform asks of everybody. The second factor it asks of
//! operators too: the password of one who has set up theirs then lets nobody act in the tenant. It does not help where an operator
//! has set up none: whoever has found the password can set up their own.
//!
//! The second factor and the bound on sessions decide with the rights (`rights/store.rs`), for sessions that are there too,
//! and a change of them is a change of rights.

pub(crate) mod actions;
mod rpc;
mod store;
#[cfg(test)]
mod tests;
mod wire;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, Utc};
use rowhouse_types::{Email, Etag};

use crate::error::Error;
pub(crate) use rpc::LoginPolicyRpc;
#[cfg(test)]
pub(crate) use store::STATEMENTS;
pub(crate) use store::{find, of_member};

/// Domains that a policy can list.
const MAIL_DOMAINS_MAX: usize = 50;

/// Shortest and longest bound on sessions. Shorter, and people log in all day; longer than sessions live says nothing.
const SESSION_LIFETIME_S: std::ops::RangeInclusive<u64> = 900..=7_776_000;

/// The shortest and the longest "shortest password": the platform's own, and NIST SP 800-63B's least longest one.
const PASSWORD_LENGTH_MIN: std::ops::RangeInclusive<u32> = 15..=64;

/// A tenant's policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LoginPolicy {
    pub(crate) second_factor_required: bool,
    pub(crate) session_lifetime: Option<Duration>,
    /// Empty for any.
    pub(crate) mail_domains: Vec<Domain>,
    /// In characters; `None` for the platform's. A bound from when the platform's was shorter is none.
    pub(crate) password_length_min: Option<u32>,
    /// `None` where there never was one.
    pub(crate) written: Option<Written>,
}

/// When a policy was last written, and which one it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) at: DateTime<Utc>,
    pub(crate) etag: Etag,
}

/// A domain of addresses, in the spelling in which they are compared ([`Email::domain`]).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Domain {
    text: String,
}

/// The text cannot be what stands behind the `@` of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be the domain of addresses, such as acme.example")]
pub(crate) struct ParseDomainError;

/// A change of a policy. What is `None` stays.
#[derive(Clone, Debug, Default)]
pub(crate) struct Change {
    pub(crate) second_factor_required: Option<bool>,
    pub(crate) session_lifetime: Option<Option<Duration>>,
    pub(crate) mail_domains: Option<Vec<Domain>>,
    pub(crate) password_length_min: Option<Option<u32>>,
    pub(crate) etag: Option<Etag>,
}

// === impl LoginPolicy ===

impl LoginPolicy {
    /// The policy as a change makes it.
    fn changed(&self, change: &Change) -> Self {
        Self {
            second_factor_required: change.second_factor_required.unwrap_or(self.second_factor_required),
            session_lifetime: change.session_lifetime.unwrap_or(self.session_lifetime),
            mail_domains: change.mail_domains.clone().unwrap_or_else(|| self.mail_domains.clone()),
            password_length_min: change.password_length_min.unwrap_or(self.password_length_min),
            written: self.written,
        }
    }

    /// Refuses an address of another domain than the tenant takes. `field`: path of the field that holds it.
    pub(crate) fn admit(&self, email: &Email, field: &'static str) -> Result<(), Error> {
        let domain = email.domain();
        if self.mail_domains.is_empty() || self.mail_domains.iter().any(|known| known.text == domain) {
            return Ok(());
        }
        let description = "must be an address of one of the domains that the tenant takes".to_owned();
        Err(Error::Field { field, description })
    }

    /// Refuses a password that is shorter than the tenant asks. `length`: in characters.
    pub(crate) fn admit_password(&self, length: usize, field: &'static str) -> Result<(), Error> {
        match self.password_length_min {
            Some(least) if usize::try_from(least).is_ok_and(|least| length < least) => Err(Error::Field {
                field,
                description: format!("must have {least} characters at least, as the tenant asks"),
            }),
            _ => Ok(()),
        }
    }
}

// === impl Domain ===

impl FromStr for Domain {
    type Err = ParseDomainError;

    fn from_str(text: &str) -> Result<Self, ParseDomainError> {
        let dotted = text.split('.').count() > 1 && text.split('.').all(|label| !label.is_empty());
        let email: Email = format!("a@{text}").parse().map_err(|_| ParseDomainError)?;
        if dotted && !text.contains('@') {
            Ok(Self { text: email.domain() })
        } else {
            Err(ParseDomainError)
        }
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod rules {
    use super::*;
    use crate::identity::NewPassword;

    #[test]
    fn domains_are_compared_in_one_spelling() {
        for listed in [
            "b\u{fc}cher.example",
            "B\u{dc}CHER.example",
            "xn--bcher-kva.example",
            "XN--BCHER-KVA.example",
        ] {
            let policy = LoginPolicy {
                mail_domains: vec![listed.parse().unwrap()],
                ..LoginPolicy::default()
            };
            let admits = |address: &str| policy.admit(&address.parse().unwrap(), "email").is_ok();
            assert!(admits("ada@b\u{fc}cher.example"), "{listed}");
            // An account that is older than the one spelling.
            assert!(admits("ada@xn--bcher-kva.example"), "{listed}");
            assert!(!admits("ada@bucher.example"), "{listed}");
        }
    }

    #[test]
    fn domains_are_compared_whole_and_without_regard_to_case() {
        let policy = LoginPolicy {
            mail_domains: vec!["Acme.Example".parse().unwrap()],
            ..LoginPolicy::default()
        };
        let admits = |address: &str| policy.admit(&address.parse().unwrap(), "email").is_ok();
        assert!(admits("ada@acme.example") && admits("ADA@ACME.EXAMPLE"));
        for other in [
            "ada@evil.example",
            "ada@mail.acme.example",
            "ada@notacme.example",
            "acme.example@evil.example",
        ] {
            assert!(!admits(other), "{other}");
        }
        assert!(
            LoginPolicy::default()
                .admit(&"ada@anywhere.example".parse().unwrap(), "email")
                .is_ok()
        );
    }

    #[test]
    fn the_shortest_bound_on_passwords_is_the_platforms_own() {
        let least = usize::try_from(*PASSWORD_LENGTH_MIN.start()).unwrap();
        assert!(NewPassword::parse(&"a".repeat(least)).is_ok());
        assert!(NewPassword::parse(&"a".repeat(least - 1)).is_err());
    }

    #[test]
    fn only_what_can_stand_behind_the_at_sign_is_a_domain() {
        for (good, spelling) in [
            ("acme.example", "acme.example"),
            ("a-b.co.uk", "a-b.co.uk"),
            ("xn--bcher-kva.example", "b\u{fc}cher.example"),
            // What is no such name stays, and can be no new address.
            ("xn--a.example", "xn--a.example"),
        ] {
            assert_eq!(
                good.parse::<Domain>().map(|domain| domain.to_string()),
                Ok(spelling.to_owned())
            );
        }
        for wrong in [
            "",
            "acme",
            "@acme.example",
            "a@acme.example",
            ".example",
            "acme..example",
            "acme.example ",
            "a b.example",
            "*.example",
        ] {
            assert!(wrong.parse::<Domain>().is_err(), "{wrong:?}");
        }
    }
}

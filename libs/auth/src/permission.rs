//! Permissions, grants with wildcards and scopes, and when one set of grants covers another.

use std::fmt;
use std::str::FromStr;

use crate::scope::Scope;

/// Longest permission or grant, in bytes.
const PERMISSION_BYTES_MAX: usize = 100;

/// What an RPC needs: `resource:action`, both of `a-z` and `_`. Borrowed, because every call is asked for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permission<'a> {
    resource: &'a str,
    action: &'a str,
}

/// What a role gives: a permission in which either side may be `*`, standing for any, and how far it reaches. `@all` is
/// not written.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Grant {
    /// `None` stands for any.
    resource: Option<String>,
    /// `None` stands for any.
    action: Option<String>,
    scope: Scope,
}

/// A set of grants. The empty set allows nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    grants: Vec<Grant>,
}

/// The text is not a permission or grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be resource:action, or a grant of it with @own, @team or @all")]
pub struct ParsePermissionError;

// === impl Permission ===

impl<'a> TryFrom<&'a str> for Permission<'a> {
    type Error = ParsePermissionError;

    fn try_from(text: &'a str) -> Result<Self, ParsePermissionError> {
        let (resource, action) = sides(text)?;
        if is_word(resource) && is_word(action) {
            Ok(Self { resource, action })
        } else {
            Err(ParsePermissionError)
        }
    }
}

// === impl Grant ===

impl Grant {
    /// Whether this grant gives at least what `other` gives.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        side_covers(self.resource.as_deref(), other.resource.as_deref())
            && side_covers(self.action.as_deref(), other.action.as_deref())
            && self.scope.covers(other.scope)
    }

    /// How far it reaches.
    #[must_use]
    pub fn scope(&self) -> Scope {
        self.scope
    }

    /// Whether this grant gives `permission`, however far.
    #[must_use]
    pub fn allows(&self, permission: Permission<'_>) -> bool {
        side_covers(self.resource.as_deref(), Some(permission.resource))
            && side_covers(self.action.as_deref(), Some(permission.action))
    }
}

/// `None` stands for any: only any covers any.
fn side_covers(ours: Option<&str>, theirs: Option<&str>) -> bool {
    ours.is_none() || ours == theirs
}

impl FromStr for Grant {
    type Err = ParsePermissionError;

    fn from_str(text: &str) -> Result<Self, ParsePermissionError> {
        let (resource, rest) = sides(text)?;
        let (action, scope) = match rest.split_once('@') {
            Some((action, scope)) => (action, scope.parse().map_err(|_| ParsePermissionError)?),
            None => (rest, Scope::All),
        };
        Ok(Self {
            resource: side(resource)?,
            action: side(action)?,
            scope,
        })
    }
}

/// What stands before the colon, and behind it.
fn sides(text: &str) -> Result<(&str, &str), ParsePermissionError> {
    if text.len() > PERMISSION_BYTES_MAX {
        return Err(ParsePermissionError);
    }
    text.split_once(':').ok_or(ParsePermissionError)
}

fn side(text: &str) -> Result<Option<String>, ParsePermissionError> {
    match text {
        "*" => Ok(None),
        _ if is_word(text) => Ok(Some(text.to_owned())),
        _ => Err(ParsePermissionError),
    }
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = |side: &Option<String>| side.clone().unwrap_or_else(|| "*".to_owned());
        write!(f, "{}:{}", side(&self.resource), side(&self.action))?;
        match self.scope {
            Scope::All => Ok(()),
            scope => write!(f, "@{scope}"),
        }
    }
}

// === impl Grants ===

impl Grants {
    /// Reads grants. A text that cannot be read gives nothing: a newer auth may know a form of grant that this process
    /// does not.
    pub fn read<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> Self {
        texts
            .into_iter()
            .filter_map(|text| text.as_ref().parse::<Grant>().ok())
            .collect()
    }

    /// How far the grants give a permission; `None` where they do not. A text that is not a permission is not given by
    /// anything.
    #[must_use]
    pub fn scope(&self, permission: &str) -> Option<Scope> {
        let permission = Permission::try_from(permission).ok()?;
        self.giving(permission).map(Grant::scope)
    }

    /// The grant that gives a permission the farthest.
    #[must_use]
    pub fn giving(&self, permission: Permission<'_>) -> Option<&Grant> {
        let giving = self.grants.iter().filter(|grant| grant.allows(permission));
        giving.max_by_key(|grant| grant.scope)
    }

    /// Whether any of them reaches as far as the holder's teams, and no farther.
    #[must_use]
    pub fn reach_teams(&self) -> bool {
        self.grants.iter().any(|grant| grant.scope == Scope::Team)
    }

    /// Whether whoever holds these grants holds all of `other` too, and may therefore pass them on. Each grant of
    /// `other` must be covered by a single one of these: all actions that exist today are not "any action".
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        other
            .grants
            .iter()
            .all(|wanted| self.grants.iter().any(|held| held.covers(wanted)))
    }

    /// The grants.
    pub fn iter(&self) -> impl Iterator<Item = &Grant> {
        self.grants.iter()
    }

    /// The grants as texts, in order and each once.
    #[must_use]
    pub fn to_strings(&self) -> Vec<String> {
        self.grants.iter().map(ToString::to_string).collect()
    }
}

impl FromIterator<Grant> for Grants {
    fn from_iter<I: IntoIterator<Item = Grant>>(grants: I) -> Self {
        let mut grants: Vec<Grant> = grants.into_iter().collect();
        grants.sort();
        grants.dedup();
        Self { grants }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grants(texts: &[&str]) -> Grants {
        Grants::read(texts)
    }

    fn allows(grants: &Grants, permission: &str) -> bool {
        grants.scope(permission).is_some()
    }

    #[test]
    fn wildcards_give_what_they_stand_for_and_nothing_else() {
        let manager = grants(&["contacts:*", "members:read"]);
        for allowed in ["contacts:read", "contacts:delete", "members:read"] {
            assert_eq!(manager.scope(allowed), Some(Scope::All), "{allowed}");
        }
        for refused in ["members:invite", "tenants:read", "contact:read", "contactsx:read"] {
            assert_eq!(manager.scope(refused), None, "{refused}");
        }
        assert!(allows(&grants(&["*:*"]), "anything:at_all"));
        assert!(allows(&grants(&["*:read"]), "contacts:read"));
        assert!(!allows(&grants(&["*:read"]), "contacts:update"));
        assert!(!allows(&Grants::default(), "contacts:read"));
    }

    #[test]
    fn the_farthest_grant_counts() {
        let lead = grants(&["contacts:*@own", "contacts:read@team", "reports:read@all"]);
        assert_eq!(lead.scope("contacts:update"), Some(Scope::Own));
        assert_eq!(lead.scope("contacts:read"), Some(Scope::Team));
        assert_eq!(lead.scope("reports:read"), Some(Scope::All));
        assert_eq!(lead.scope("members:read"), None);
        let written = lead.to_strings();
        assert!(
            written.contains(&"reports:read".to_owned()),
            "@all is not written: {written:?}"
        );
        assert_eq!(Grants::read(&written), lead);
        assert!(lead.reach_teams() && !grants(&["contacts:*@own", "reports:read"]).reach_teams());
    }

    #[test]
    fn what_is_not_a_permission_is_given_by_nothing() {
        let everything = grants(&["*:*"]);
        for text in [
            "",
            ":",
            "contacts",
            "contacts:",
            ":read",
            "contacts:*",
            "*:*",
            "Contacts:read",
            "a:b:c",
            "a b:c",
            "contacts:read\n",
            "contacts:read@own",
            "contacts:read@all",
        ] {
            assert!(!allows(&everything, text), "{text:?}");
        }
    }

    #[test]
    fn grants_that_cannot_be_read_give_nothing() {
        let strange = grants(&[
            "contacts:read@house",
            "contacts:read@",
            "contacts:read@own@all",
            "contacts@own:read",
            "contacts:read@OWN",
            "**",
            "*",
            "contacts:**",
            "CONTACTS:*",
        ]);
        assert_eq!(strange, Grants::default());
    }

    #[test]
    fn nobody_passes_on_more_than_they_hold() {
        let admin = grants(&["contacts:*", "reports:*", "members:*"]);
        assert!(admin.covers(&grants(&[
            "contacts:read",
            "members:*",
            "contacts:*@team",
            "reports:read@own"
        ])));
        assert!(admin.covers(&admin));
        assert!(admin.covers(&Grants::default()));
        for more in ["*:*", "*:read", "tenants:read", "*:read@own"] {
            assert!(!admin.covers(&grants(&["contacts:read", more])), "{more}");
        }
        assert!(!grants(&["contacts:read", "contacts:update"]).covers(&grants(&["contacts:*"])));
        assert!(!Grants::default().covers(&grants(&["contacts:read@own"])));
        let lead = grants(&["contacts:*@team"]);
        assert!(lead.covers(&grants(&["contacts:read@own"])));
        for more in ["contacts:read", "contacts:read@team"] {
            assert!(
                !lead.covers(&grants(&[more])),
                "{more}: another's teams are not one's own"
            );
        }
    }

    #[test]
    fn covering_means_allowing_every_permission_that_the_other_allows_at_least_as_far() {
        let sides = ["*:*", "*:a", "x:*", "x:a", "x:b", "y:a"];
        let all = sides
            .iter()
            .flat_map(|side| Scope::ALL.map(|scope| format!("{side}@{scope}")));
        let all: Vec<Grants> = all.map(|text| Grants::read([text])).collect();
        let permissions = ["x:a", "x:b", "y:a", "y:b"];
        for one in &all {
            for other in &all {
                let kept = permissions.iter().all(|text| other.scope(text) <= one.scope(text));
                assert!(!one.covers(other) || kept, "{one:?} {other:?}");
            }
        }
    }
}

//! TypeIDs (specification 0.3): `contact_01j...`, a UUIDv7 with its kind written in front.
//!
//! Only the canonical spelling is accepted: an id that is not byte for byte what [`Id`] prints is refused, so that two
//! texts never name one thing.

use std::fmt;
use std::fmt::Write as _;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::str::FromStr;

use type_safe_id::{StaticType, TypeSafeId};
use uuid::Uuid;

/// The id of a resource of kind `K`.
pub struct Id<K> {
    uuid: Uuid,
    kind: PhantomData<fn() -> K>,
}

/// The text is not an id of this kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a {kind} id such as {kind}_01jzy2v6k3e8f9a7b5c4d1g0hm")]
pub struct ParseIdError {
    kind: &'static str,
}

/// What of a text is still to be printed by the id that was read from it: compared as it is printed, and not kept.
struct Canonical<'a>(&'a str);

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident, $alias:ident, $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default)]
        pub struct $kind;
        impl StaticType for $kind {
            const TYPE: &'static str = $prefix;
        }
        $(#[$doc])*
        pub type $alias = Id<$kind>;
    )*};
}

kinds! {
    /// One organisation.
    Tenant, TenantId, "tenant";
    /// One person's identity.
    User, UserId, "user";
    /// One log-in of a person.
    Session, SessionId, "session";
    /// One invitation.
    Invitation, InvitationId, "invitation";
    /// One mail about somebody's account.
    AccountMail, AccountMailId, "account_mail";
    /// One program that acts in a tenant.
    ServiceAccount, ServiceAccountId, "service_account";
    /// One key of such a program.
    ApiKey, ApiKeyId, "api_key";
    /// One team of a tenant's members.
    Team, TeamId, "team";
    /// One entry of an audit log.
    AuditEntry, AuditEntryId, "audit_entry";
    /// One contact.
    Contact, ContactId, "contact";
    /// One report.
    Report, ReportId, "report";
    /// One operation of the tenant service.
    Operation, OperationId, "operation";
    /// One run of migrations over a participant's homes.
    MigrationRun, MigrationRunId, "migration";
}

// === impl Id ===

impl<K: StaticType> Id<K> {
    /// A new id: UUIDv7, so that ids of one kind sort by the time they were made.
    #[must_use]
    pub fn generate() -> Self {
        Self::from_uuid(Uuid::now_v7())
    }
}

impl<K> Id<K> {
    /// The id with this UUID, as read from a database.
    #[must_use]
    pub fn from_uuid(uuid: Uuid) -> Self {
        Self {
            uuid,
            kind: PhantomData,
        }
    }

    /// The UUID, as stored in a database.
    #[must_use]
    pub fn uuid(&self) -> Uuid {
        self.uuid
    }
}

impl<K: StaticType> FromStr for Id<K> {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let fault = ParseIdError { kind: K::TYPE };
        let parsed: TypeSafeId<K> = text.parse().map_err(|_| fault.clone())?;
        let id = Self::from_uuid(parsed.uuid());
        if Canonical(text).spells(&id) {
            Ok(id)
        } else {
            Err(fault)
        }
    }
}

impl<K: StaticType> fmt::Display for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&TypeSafeId::<K>::from_uuid(self.uuid), f)
    }
}

impl<K: StaticType> fmt::Debug for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<K> Clone for Id<K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K> Copy for Id<K> {}

impl<K> PartialEq for Id<K> {
    fn eq(&self, other: &Self) -> bool {
        self.uuid == other.uuid
    }
}

impl<K> Eq for Id<K> {}

impl<K> PartialOrd for Id<K> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<K> Ord for Id<K> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.uuid.cmp(&other.uuid)
    }
}

impl<K> Hash for Id<K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.uuid.hash(state);
    }
}

impl<K: StaticType> serde::Serialize for Id<K> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, K: StaticType> serde::Deserialize<'de> for Id<K> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

// === impl Canonical ===

impl Canonical<'_> {
    fn spells(mut self, id: &impl fmt::Display) -> bool {
        write!(self, "{id}").is_ok() && self.0.is_empty()
    }
}

impl fmt::Write for Canonical<'_> {
    fn write_str(&mut self, printed: &str) -> fmt::Result {
        self.0 = self.0.strip_prefix(printed).ok_or(fmt::Error)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(bytes in any::<[u8; 16]>()) {
            let id = ContactId::from_uuid(Uuid::from_bytes(bytes));
            prop_assert_eq!(id.to_string().parse::<ContactId>(), Ok(id));
        }

        #[test]
        fn only_the_canonical_spelling_is_read(text in "\\PC{0,40}") {
            if let Ok(id) = text.parse::<TenantId>() {
                prop_assert_eq!(id.to_string(), text);
            }
        }
    }

    #[test]
    fn another_kind_upper_case_and_garbage_are_refused() {
        let id = ContactId::generate().to_string();
        assert!(id.parse::<TenantId>().is_err());
        assert!(id.to_uppercase().parse::<ContactId>().is_err());
        for text in [
            "",
            "contact",
            "contact_",
            "contact_8zzzzzzzzzzzzzzzzzzzzzzzzz",
            " contact_01h455vb4pex5vsknk084sn02q",
        ] {
            assert!(text.parse::<ContactId>().is_err(), "{text:?}");
        }
    }
}

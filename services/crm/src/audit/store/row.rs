//! What the statements of the audit log answer.

use chrono::{DateTime, Utc};
use rowhouse_audit::{Entry, Hash, Seal};
use rowhouse_context::ServiceName;
use rowhouse_db::{Error, FromRow, Row, Type};
use rowhouse_types::{AuditEntryId, ContactId};
use uuid::Uuid;

/// The number of a seal that was written.
pub(super) struct Number;

/// An id.
pub(super) struct Id(pub(super) AuditEntryId);

/// A number of entries.
pub(super) struct Count(pub(super) i64);

/// The last seal.
pub(super) struct Last {
    pub(super) number: i64,
    pub(super) hash: Vec<u8>,
}

/// An entry.
pub(super) struct Found(pub(super) Entry);

/// A seal.
pub(super) struct Stored(pub(super) Seal);

// === impl FromRow ===

impl FromRow for Number {
    const COLUMNS: &'static [(&'static str, Type)] = &[("number", Type::INT8)];

    fn from_row(_: &Row) -> Result<Self, Error> {
        Ok(Self)
    }
}

impl FromRow for Id {
    const COLUMNS: &'static [(&'static str, Type)] = &[("id", Type::UUID)];

    fn from_row(row: &Row) -> Result<Self, Error> {
        Ok(Self(row.at(0)?))
    }
}

impl FromRow for Count {
    const COLUMNS: &'static [(&'static str, Type)] = &[("count", Type::INT8)];

    fn from_row(row: &Row) -> Result<Self, Error> {
        Ok(Self(row.at(0)?))
    }
}

impl FromRow for Last {
    const COLUMNS: &'static [(&'static str, Type)] = &[("number", Type::INT8), ("hash", Type::BYTEA)];

    fn from_row(row: &Row) -> Result<Self, Error> {
        Ok(Self {
            number: row.at(0)?,
            hash: row.at(1)?,
        })
    }
}

impl FromRow for Stored {
    const COLUMNS: &'static [(&'static str, Type)] = &[
        ("number", Type::INT8),
        ("previous", Type::BYTEA),
        ("entries", Type::UUID_ARRAY),
        ("leaves", Type::BYTEA),
        ("sealed_at", Type::TIMESTAMPTZ),
        ("hash", Type::BYTEA),
    ];

    fn from_row(row: &Row) -> Result<Self, Error> {
        let entries: Vec<Uuid> = row.at(2)?;
        Ok(Self(Seal {
            number: row.at(0)?,
            previous: hash(&row.at::<Vec<u8>>(1)?),
            entries: entries.into_iter().map(AuditEntryId::from_uuid).collect(),
            leaves: Seal::leaves_from(&row.at::<Vec<u8>>(3)?),
            sealed_at: row.at::<DateTime<Utc>>(4)?,
            hash: hash(&row.at::<Vec<u8>>(5)?),
        }))
    }
}

impl FromRow for Found {
    const COLUMNS: &'static [(&'static str, Type)] = &[
        ("tenant_id", Type::UUID),
        ("id", Type::UUID),
        ("at", Type::TIMESTAMPTZ),
        ("actor", Type::TEXT),
        ("on_behalf_of", Type::TEXT),
        ("reason", Type::TEXT),
        ("address", Type::TEXT),
        ("request_id", Type::TEXT),
        ("action", Type::TEXT),
        ("target", Type::UUID),
        ("before", Type::JSONB),
        ("after", Type::JSONB),
        ("outcome", Type::TEXT),
    ];

    fn from_row(row: &Row) -> Result<Self, Error> {
        let target: Uuid = row.at(9)?;
        let target = Some(target).filter(|target| !target.is_nil());
        Ok(Self(Entry {
            tenant: Some(row.at(0)?),
            id: row.at(1)?,
            service: ServiceName::Crm,
            at: row.at(2)?,
            actor: row.at(3)?,
            on_behalf_of: row.at(4)?,
            reason: row.at(5)?,
            address: row.at(6)?,
            request_id: row.at(7)?,
            action: row.at(8)?,
            target: target
                .map(|id| ContactId::from_uuid(id).to_string())
                .unwrap_or_default(),
            before: row.at(10)?,
            after: row.at(11)?,
            outcome: row.at(12)?,
        }))
    }
}

/// A stored hash. One of another length was not written by this code: zeros, and the seal does not hold.
pub(super) fn hash(bytes: &[u8]) -> Hash {
    Hash::from_bytes(bytes).unwrap_or(Hash::zero())
}

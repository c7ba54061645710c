//! What the statements answer, and the answer of a create as it is remembered.

use chrono::{DateTime, Utc};
use rowhouse_db::{Error, FromRow, Row, Type};
use rowhouse_types::{ContactId, Etag, Text, UserId};
use serde::{Deserialize, Serialize};

use super::super::{Contact, Details, OptionalEmail};

/// What a statement found and whether it changed it.
#[derive(Clone, Debug)]
pub(in crate::contact) struct Outcome {
    pub(in crate::contact) is_changed: bool,
    /// As it is now.
    pub(in crate::contact) contact: Contact,
}

/// The id of what was locked.
#[derive(Debug)]
pub(super) struct Id {
    pub(super) id: ContactId,
}

/// A number of rows.
#[derive(Debug)]
pub(super) struct Total {
    pub(super) total: i64,
}

/// A contact as a create answered it. Its names stand in rows that live for a day: change them additively.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Answer {
    display_name: String,
    email: String,
    phone: String,
    company: String,
    job_title: String,
    owner_id: UserId,
    create_time: DateTime<Utc>,
}

// === impl Contact ===

impl FromRow for Contact {
    const COLUMNS: &'static [(&'static str, Type)] = &[
        ("id", Type::UUID),
        ("display_name", Type::TEXT),
        ("email", Type::TEXT),
        ("phone", Type::TEXT),
        ("company", Type::TEXT),
        ("job_title", Type::TEXT),
        ("owner_id", Type::UUID),
        ("revision", Type::INT8),
        ("created_at", Type::TIMESTAMPTZ),
        ("updated_at", Type::TIMESTAMPTZ),
        ("deleted_at", Type::TIMESTAMPTZ),
    ];

    fn from_row(row: &Row) -> Result<Self, Error> {
        contact(row, 0)
    }
}

/// Reads a contact whose columns begin at `first`.
fn contact(row: &Row, first: usize) -> Result<Contact, Error> {
    Ok(Contact {
        id: row.at(first)?,
        details: Details {
            display_name: Text::stored(row.at(first + 1)?),
            email: OptionalEmail::stored(row.at(first + 2)?),
            phone: Text::stored(row.at(first + 3)?),
            company: Text::stored(row.at(first + 4)?),
            job_title: Text::stored(row.at(first + 5)?),
        },
        owner: row.at(first + 6)?,
        etag: Etag::from_revision(row.at(first + 7)?),
        created_at: row.at(first + 8)?,
        updated_at: row.at(first + 9)?,
        deleted_at: row.at(first + 10)?,
    })
}

// === impl Outcome ===

impl FromRow for Outcome {
    const COLUMNS: &'static [(&'static str, Type)] = &[
        ("is_changed", Type::BOOL),
        ("id", Type::UUID),
        ("display_name", Type::TEXT),
        ("email", Type::TEXT),
        ("phone", Type::TEXT),
        ("company", Type::TEXT),
        ("job_title", Type::TEXT),
        ("owner_id", Type::UUID),
        ("revision", Type::INT8),
        ("created_at", Type::TIMESTAMPTZ),
        ("updated_at", Type::TIMESTAMPTZ),
        ("deleted_at", Type::TIMESTAMPTZ),
    ];

    fn from_row(row: &Row) -> Result<Self, Error> {
        Ok(Self {
            is_changed: row.at(0)?,
            contact: contact(row, 1)?,
        })
    }
}

// === impl Id ===

impl FromRow for Id {
    const COLUMNS: &'static [(&'static str, Type)] = &[("id", Type::UUID)];

    fn from_row(row: &Row) -> Result<Self, Error> {
        Ok(Self { id: row.at(0)? })
    }
}

// === impl Total ===

impl FromRow for Total {
    const COLUMNS: &'static [(&'static str, Type)] = &[("total", Type::INT8)];

    fn from_row(row: &Row) -> Result<Self, Error> {
        Ok(Self { total: row.at(0)? })
    }
}

// === impl Answer ===

impl Answer {
    /// What is remembered of a contact that was just created.
    pub(super) fn of(contact: &Contact) -> Self {
        let details = &contact.details;
        Self {
            display_name: details.display_name.to_string(),
            email: details.email.as_str().to_owned(),
            phone: details.phone.to_string(),
            company: details.company.to_string(),
            job_title: details.job_title.to_string(),
            owner_id: contact.owner,
            create_time: contact.created_at,
        }
    }

    /// The contact as the create answered it.
    pub(super) fn into_contact(self, id: ContactId) -> Contact {
        let details = Details {
            display_name: Text::stored(self.display_name),
            email: OptionalEmail::stored(self.email),
            phone: Text::stored(self.phone),
            company: Text::stored(self.company),
            job_title: Text::stored(self.job_title),
        };
        Contact::new(id, details, self.owner_id, self.create_time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remembered_answer_is_the_contact_as_it_was() {
        let contact = Contact::new(
            ContactId::generate(),
            Details {
                display_name: Text::parse_required("Ada \u{1f469} Lovelace").unwrap(),
                email: OptionalEmail::parse("ada@example.com").unwrap(),
                phone: Text::parse_optional("").unwrap(),
                company: Text::parse_optional("\"quoted\" \\ %_").unwrap(),
                job_title: Text::parse_optional("").unwrap(),
            },
            UserId::generate(),
            crate::contact::now(),
        );
        let stored = serde_json::to_value(Answer::of(&contact)).unwrap();
        let read: Answer = serde_json::from_value(stored).unwrap();
        assert_eq!(read.into_contact(contact.id), contact);
    }
}

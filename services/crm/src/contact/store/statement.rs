//! The statements that are written once, with the types of what they bind.

#[cfg(test)]
use rowhouse_db::AnyStatement;
use rowhouse_db::{Statement, Type};

use super::row::{Outcome, Total};
use crate::contact::Contact;
use crate::request::Known;

pub(super) const GET: Statement<Contact> = Statement::new(
    "contact.get",
    include_str!("../sql/get.sql"),
    &[Type::UUID, Type::UUID_ARRAY],
);

/// What a create binds.
const CREATE_BINDS: [Type; 22] = [
    // as request/sql/claim.sql: contact, time; method, request id, fingerprint, answer, until when
    Type::UUID,
    Type::TIMESTAMPTZ,
    Type::TEXT,
    Type::UUID,
    Type::BYTEA,
    Type::JSONB,
    Type::TIMESTAMPTZ,
    // details, owner
    Type::TEXT,
    Type::TEXT,
    Type::TEXT,
    Type::TEXT,
    Type::TEXT,
    Type::UUID,
    // audit entry, event; actor, on behalf of, reason, address, request id, trace; the contact's id as text
    Type::UUID,
    Type::UUID,
    Type::TEXT,
    Type::TEXT,
    Type::TEXT,
    Type::TEXT,
    Type::TEXT,
    Type::TEXT,
    Type::TEXT,
];

/// Without a request id there is nothing to claim, and the contact is always this call's: $4 to $8 are not looked at.
pub(super) const CREATE: Statement<Known> = Statement::new(
    "contact.create",
    concat!(
        "WITH request AS (SELECT ''::bytea AS fingerprint, $2::uuid AS resource_id, 'null'::jsonb AS answer),\n",
        include_str!("../sql/create.sql")
    ),
    &CREATE_BINDS,
);

pub(super) const CREATE_ONCE: Statement<Known> = Statement::new(
    "contact.create_once",
    concat!(
        include_str!("../../request/sql/claim.sql"),
        ",\n",
        include_str!("../sql/create.sql")
    ),
    &CREATE_BINDS,
);

/// What every change of a contact binds: contact, time, revision; audit entry, event; actor, on behalf of, reason,
/// address, request id, trace; the contact's id as text; the owners whose contacts it may be.
const CHANGE_BINDS: [Type; 13] = [
    Type::UUID,
    Type::TIMESTAMPTZ,
    Type::INT8,
    Type::UUID,
    Type::UUID,
    Type::TEXT,
    Type::TEXT,
    Type::TEXT,
    Type::TEXT,
    Type::TEXT,
    Type::TEXT,
    Type::TEXT,
    Type::UUID_ARRAY,
];

pub(super) const UPDATE: Statement<Outcome> = Statement::new(
    "contact.update",
    include_str!("../sql/update.sql"),
    &[
        Type::UUID,
        Type::TIMESTAMPTZ,
        Type::INT8,
        Type::UUID,
        Type::UUID,
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
        // new details; the owners whose contact it may be; the new owner
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
        Type::UUID_ARRAY,
        Type::UUID,
    ],
);

pub(super) const DELETE: Statement<Outcome> =
    Statement::new("contact.delete", include_str!("../sql/delete.sql"), &CHANGE_BINDS);

pub(super) const UNDELETE: Statement<Outcome> =
    Statement::new("contact.undelete", include_str!("../sql/undelete.sql"), &CHANGE_BINDS);

pub(super) const COUNT: Statement<Total> = Statement::new(
    "contact.count",
    "SELECT count(*) AS total FROM contacts
     WHERE tenant_id = $1 AND deleted_at IS NULL AND ($2::uuid[] IS NULL OR owner_id = ANY ($2))",
    &[Type::UUID_ARRAY],
);

pub(super) const COUNT_UP_TO: Statement<Total> = Statement::new(
    "contact.count_up_to",
    "SELECT count(*) AS total FROM (
         SELECT id FROM contacts WHERE tenant_id = $1 AND deleted_at IS NULL LIMIT $2
     ) AS counted",
    &[Type::INT8],
);

pub(super) const PAGE_BY_ID: Statement<Contact> = Statement::new(
    "contact.page_by_id",
    include_str!("../sql/page_by_id.sql"),
    &[Type::UUID, Type::INT8, Type::UUID_ARRAY],
);

pub(super) const GIVE: Statement<Total> = Statement::new(
    "contact.give",
    include_str!("../sql/give.sql"),
    &[
        // contacts, time; their audit entries, their events
        Type::UUID_ARRAY,
        Type::TIMESTAMPTZ,
        Type::UUID_ARRAY,
        Type::UUID_ARRAY,
        // actor, on behalf of, reason, address, request id, trace
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
        // the contacts' ids as text; the new owner
        Type::TEXT_ARRAY,
        Type::UUID,
    ],
);

/// Every statement that is written once; a test prepares them against a real home.
#[cfg(test)]
pub(in crate::contact) const STATEMENTS: &[&dyn AnyStatement] = &[
    &GET,
    &CREATE,
    &CREATE_ONCE,
    &UPDATE,
    &DELETE,
    &UNDELETE,
    &COUNT,
    &COUNT_UP_TO,
    &PAGE_BY_ID,
    &GIVE,
];

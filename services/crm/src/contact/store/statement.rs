//! The statements that are written once, with the types of what they bind.

#[cfg(test)]
use rowhouse_db::AnyStatement;
use rowhouse_db::{Statement, Type};

use super::row::{Answered, Claim, Id, Outcome, Request, Total};
use crate::contact::Contact;

pub(super) const GET: Statement<Contact> = Statement::new(
    "contact.get",
    include_str!("../sql/get.sql"),
    &[Type::UUID, Type::UUID_ARRAY],
);

pub(super) const CREATE: Statement<Id> = Statement::new(
    "contact.create",
    include_str!("../sql/create.sql"),
    &[
        // contact, time, details, owner
        Type::UUID,
        Type::TIMESTAMPTZ,
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
    ],
);

pub(super) const CREATE_ONCE: Statement<Request> = Statement::new(
    "contact.create_once",
    include_str!("../sql/create_once.sql"),
    &[
        // as CREATE
        Type::UUID,
        Type::TIMESTAMPTZ,
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
        Type::UUID,
        Type::UUID,
        Type::UUID,
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
        // method, request id, fingerprint, answer, until when
        Type::TEXT,
        Type::UUID,
        Type::BYTEA,
        Type::JSONB,
        Type::TIMESTAMPTZ,
    ],
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

pub(super) const IS_REMEMBERED: Statement<Total> = Statement::new(
    "contact.is_remembered",
    "SELECT count(*) AS total FROM requests
     WHERE tenant_id = $1 AND method = $2 AND request_id = $3 AND expires_at > $4",
    &[Type::TEXT, Type::UUID, Type::TIMESTAMPTZ],
);

pub(super) const PAGE_BY_ID: Statement<Contact> = Statement::new(
    "contact.page_by_id",
    include_str!("../sql/page_by_id.sql"),
    &[Type::UUID, Type::INT8, Type::UUID_ARRAY],
);

pub(super) const CLAIM: Statement<Claim> = Statement::new(
    "contact.claim",
    include_str!("../sql/claim.sql"),
    &[
        // method, request id, fingerprint, mark of the call, time, until when
        Type::TEXT,
        Type::UUID,
        Type::BYTEA,
        Type::UUID,
        Type::TIMESTAMPTZ,
        Type::TIMESTAMPTZ,
    ],
);

pub(super) const ANSWERED: Statement<Answered> = Statement::new(
    "contact.answered",
    "SELECT answer FROM requests
     WHERE tenant_id = $1 AND method = $2 AND request_id = $3 AND fingerprint = $4 AND expires_at > $5",
    &[Type::TEXT, Type::UUID, Type::BYTEA, Type::TIMESTAMPTZ],
);

pub(super) const REMEMBER: Statement<()> = Statement::new(
    "contact.remember",
    "UPDATE requests SET answer = $4 WHERE tenant_id = $1 AND method = $2 AND request_id = $3",
    &[Type::TEXT, Type::UUID, Type::JSONB],
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
    &IS_REMEMBERED,
    &PAGE_BY_ID,
    &CLAIM,
    &ANSWERED,
    &REMEMBER,
    &GIVE,
];

//! The tenant tables and statements that the tests use.

use rowhouse_db::{AnyStatement, Error, FromRow, Migration, Row, Statement, TenantMigrations, Type};
use uuid::Uuid;

pub(crate) const FIRST: Migration = Migration {
    version: 1,
    name: "notes",
    sql: "
        CREATE TABLE notes (
            tenant_id uuid NOT NULL,
            id uuid NOT NULL,
            body text NOT NULL,
            CONSTRAINT notes_pkey PRIMARY KEY (tenant_id, id),
            CONSTRAINT notes_body_key UNIQUE (tenant_id, body),
            CONSTRAINT notes_body_short CHECK (length(body) <= 100)
        );
        GRANT SELECT, INSERT, UPDATE, DELETE ON notes TO rowhouse_tenant;",
    deferred: &[],
};

pub(crate) const SECOND: Migration = Migration {
    version: 2,
    name: "audit",
    sql: "
        CREATE TABLE audit (
            tenant_id uuid NOT NULL,
            id uuid NOT NULL,
            note_id uuid NOT NULL,
            CONSTRAINT audit_pkey PRIMARY KEY (tenant_id, id),
            CONSTRAINT audit_note_id_fkey FOREIGN KEY (tenant_id, note_id) REFERENCES notes (tenant_id, id)
                DEFERRABLE INITIALLY DEFERRED
        );
        CREATE INDEX audit_note_id_idx ON audit (tenant_id, note_id);
        GRANT SELECT, INSERT ON audit TO rowhouse_tenant;",
    deferred: &[],
};

/// As an older version of the code knows them.
pub(crate) const OLDER: TenantMigrations = TenantMigrations::new(&[FIRST]);
pub(crate) const NEWEST: TenantMigrations = TenantMigrations::new(&[FIRST, SECOND]);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Note {
    pub(crate) tenant: Uuid,
    pub(crate) id: Uuid,
    pub(crate) body: String,
}

impl FromRow for Note {
    const COLUMNS: &'static [(&'static str, Type)] =
        &[("tenant_id", Type::UUID), ("id", Type::UUID), ("body", Type::TEXT)];

    fn from_row(row: &Row) -> Result<Self, Error> {
        Ok(Self {
            tenant: row.get("tenant_id")?,
            id: row.get("id")?,
            body: row.get("body")?,
        })
    }
}

/// One number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Number(pub(crate) i32);

impl FromRow for Number {
    const COLUMNS: &'static [(&'static str, Type)] = &[("number", Type::INT4)];

    fn from_row(row: &Row) -> Result<Self, Error> {
        row.at(0).map(Self)
    }
}

pub(crate) const INSERT: Statement<Note> = Statement::new(
    "note.insert",
    "INSERT INTO notes (tenant_id, id, body) VALUES ($1, $2, $3) RETURNING tenant_id, id, body",
    &[Type::UUID, Type::TEXT],
);
pub(crate) const INSERT_WITH_EVENT: Statement<Note> = Statement::new(
    "note.insert_with_event",
    "WITH created AS (
         INSERT INTO notes (tenant_id, id, body) VALUES ($1, $2, $3) RETURNING tenant_id, id, body
     ), event AS (
         INSERT INTO rowhouse.outbox (id, tenant_id, kind, payload, request_id)
         SELECT $4, tenant_id, 'notes.created.v1', '{}'::jsonb, 'request' FROM created
     )
     SELECT tenant_id, id, body FROM created",
    &[Type::UUID, Type::TEXT, Type::UUID],
);
pub(crate) const GET: Statement<Note> = Statement::new(
    "note.get",
    "SELECT tenant_id, id, body FROM notes WHERE tenant_id = $1 AND id = $2",
    &[Type::UUID],
);
pub(crate) const LIST: Statement<Note> = Statement::new(
    "note.list",
    "SELECT tenant_id, id, body FROM notes WHERE tenant_id = $1 ORDER BY body LIMIT 100",
    &[],
);
pub(crate) const DELETE: Statement<()> = Statement::new(
    "note.delete",
    "DELETE FROM notes WHERE tenant_id = $1 AND id = $2",
    &[Type::UUID],
);
/// Breaks a constraint that is checked at COMMIT.
pub(crate) const INSERT_ORPHAN: Statement<()> = Statement::new(
    "audit.insert_orphan",
    "INSERT INTO audit (tenant_id, id, note_id) VALUES ($1, $2, $3)",
    &[Type::UUID, Type::UUID],
);
pub(crate) const SLEEP: Statement<Number> = Statement::new(
    "sleep",
    "SELECT 1 AS number FROM pg_sleep($2) WHERE $1::uuid IS NOT NULL",
    &[Type::FLOAT8],
);
/// Writes, and then takes its time.
pub(crate) const INSERT_SLOWLY: Statement<Number> = Statement::new(
    "note.insert_slowly",
    "WITH created AS (INSERT INTO notes (tenant_id, id, body) VALUES ($1, $2, $3) RETURNING id)
     SELECT 1 AS number FROM created, pg_sleep($4)",
    &[Type::UUID, Type::TEXT, Type::FLOAT8],
);
pub(crate) const BACKEND: Statement<Number> = Statement::new(
    "backend",
    "SELECT pg_backend_pid() AS number WHERE $1::uuid IS NOT NULL",
    &[],
);
/// Writes, and says which back end did.
pub(crate) const INSERT_BY_BACKEND: Statement<Number> = Statement::new(
    "note.insert_by_backend",
    "WITH created AS (INSERT INTO notes (tenant_id, id, body) VALUES ($1, $2, $3) RETURNING id)
     SELECT pg_backend_pid() AS number FROM created",
    &[Type::UUID, Type::TEXT],
);
/// The server's own bound on a statement, in milliseconds; 0 is none.
pub(crate) const STATEMENT_TIMEOUT: Statement<Number> = Statement::new(
    "statement_timeout",
    "SELECT setting::integer AS number FROM pg_settings WHERE name = 'statement_timeout' AND $1::uuid IS NOT NULL",
    &[],
);

pub(crate) const STATEMENTS: &[&dyn AnyStatement] = &[
    &INSERT,
    &INSERT_WITH_EVENT,
    &GET,
    &LIST,
    &DELETE,
    &INSERT_ORPHAN,
    &SLEEP,
    &INSERT_SLOWLY,
    &BACKEND,
    &INSERT_BY_BACKEND,
    &STATEMENT_TIMEOUT,
];

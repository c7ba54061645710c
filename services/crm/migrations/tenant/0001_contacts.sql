-- Contacts, the requests that created them, and the audit log.
--
-- Why: the first tables of a tenant's home.
-- Locks: none that anybody could wait for; every table is new.
-- Safe for old code: there is none.
--
-- Runs with the home as the search path; the migrator adds what differs by placement. Keys that are compared and
-- sorted are folded into stored columns, so that ordinary b-trees serve them, and they compare byte by byte
-- (collation "C"): a prefix search can use the index, and an upgrade of the operating system cannot reorder it.

CREATE TABLE contacts (
    tenant_id    uuid        NOT NULL,
    id           uuid        NOT NULL,
    display_name text        NOT NULL,
    name_key     text COLLATE "C" NOT NULL GENERATED ALWAYS AS (lower(display_name)) STORED,
    email        text        NOT NULL,
    email_key    text COLLATE "C" NOT NULL GENERATED ALWAYS AS (lower(email)) STORED,
    phone        text        NOT NULL,
    company      text        NOT NULL,
    job_title    text        NOT NULL,
    owner_id     uuid        NOT NULL,
    revision     bigint      NOT NULL,
    created_at   timestamptz NOT NULL,
    updated_at   timestamptz NOT NULL,
    deleted_at   timestamptz,
    CONSTRAINT contacts_pkey PRIMARY KEY (tenant_id, id),
    CONSTRAINT contacts_display_name_check CHECK (char_length(display_name) BETWEEN 1 AND 200),
    CONSTRAINT contacts_email_check CHECK (octet_length(email) <= 254),
    CONSTRAINT contacts_phone_check CHECK (char_length(phone) <= 40),
    CONSTRAINT contacts_company_check CHECK (char_length(company) <= 200),
    CONSTRAINT contacts_job_title_check CHECK (char_length(job_title) <= 200),
    CONSTRAINT contacts_revision_check CHECK (revision >= 1)
);

-- The answers of creates, so that a repeated call gets the same one. Rows past `expires_at` count as absent; later
-- creates take them away.
CREATE TABLE requests (
    tenant_id   uuid        NOT NULL,
    method      text        NOT NULL,
    request_id  uuid        NOT NULL,
    fingerprint bytea       NOT NULL,
    resource_id uuid        NOT NULL,
    answer      jsonb       NOT NULL,
    expires_at  timestamptz NOT NULL,
    CONSTRAINT requests_pkey PRIMARY KEY (tenant_id, method, request_id),
    CONSTRAINT requests_method_check CHECK (char_length(method) BETWEEN 1 AND 100),
    CONSTRAINT requests_fingerprint_check CHECK (octet_length(fingerprint) = 32)
);

-- Who did what to what, for whom, from where. Written in the transaction of the change.
CREATE TABLE audit_entries (
    tenant_id    uuid        NOT NULL,
    id           uuid        NOT NULL,
    at           timestamptz NOT NULL,
    actor        text        NOT NULL,
    on_behalf_of text,
    reason       text,
    address      text,
    request_id   text        NOT NULL,
    action       text        NOT NULL,
    target       uuid        NOT NULL,
    before       jsonb,
    after        jsonb,
    outcome      text        NOT NULL,
    CONSTRAINT audit_entries_pkey PRIMARY KEY (tenant_id, id),
    CONSTRAINT audit_entries_outcome_check CHECK (outcome IN ('succeeded', 'refused'))
);

-- One index for each order of ListContacts; each also finds the next page's first row.
CREATE INDEX contacts_email_key_idx ON contacts (tenant_id, email_key, id);
CREATE INDEX contacts_name_key_idx ON contacts (tenant_id, name_key, id);
CREATE INDEX contacts_created_at_idx ON contacts (tenant_id, created_at, id);
CREATE INDEX contacts_updated_at_idx ON contacts (tenant_id, updated_at, id);
-- Finds what has expired.
CREATE INDEX requests_expires_at_idx ON requests (tenant_id, expires_at);

-- Contacts are marked as deleted, never removed; an audit entry, once written, stays as it is.
GRANT SELECT, INSERT, UPDATE ON contacts TO rowhouse_tenant;
GRANT SELECT, INSERT, UPDATE, DELETE ON requests TO rowhouse_tenant;
GRANT SELECT, INSERT ON audit_entries TO rowhouse_tenant;

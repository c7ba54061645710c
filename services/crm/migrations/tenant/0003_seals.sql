-- Why: entries of the audit log are sealed in batches chained by hash (libs/audit).
-- Locks: none that anybody could wait for; the table is new.
-- Safe for old code: yes; it needs nothing of this.

CREATE TABLE audit_seals (
    tenant_id uuid        NOT NULL,
    number    bigint      NOT NULL,
    -- SHA-256 of the seal before.
    previous  bytea       NOT NULL,
    entries   uuid[]      NOT NULL,
    -- SHA-256 of each entry, 32 bytes after 32 bytes.
    leaves    bytea       NOT NULL,
    sealed_at timestamptz NOT NULL,
    hash      bytea       NOT NULL,
    CONSTRAINT audit_seals_pkey PRIMARY KEY (tenant_id, number),
    CONSTRAINT audit_seals_number_check CHECK (number >= 1)
);

-- A seal, once made, stays as it is.
GRANT SELECT, INSERT ON audit_seals TO rowhouse_tenant;

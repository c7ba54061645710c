-- Why: entries of the audit log are sealed in batches chained by hash (libs/audit). A trigger queues each for its seal, so
--   whatever code writes it does, and none is forgotten.
-- Locks: audit_entries, against writers, while its entries are queued: about a second for 100,000. In a shared house those of all
--   its tenants, and against readers of the log too.
-- Safe for old code: yes; what it writes is queued by the trigger.

CREATE TABLE audit_seals (
    tenant_id uuid        NOT NULL,
    number    bigint      NOT NULL,
    -- SHA-256 of the seal before.
    previous  bytea       NOT NULL,
    entries   uuid[]      NOT NULL,
    -- How many these are, so that pages can be cut without reading them.
    size      integer     NOT NULL,
    -- SHA-256 of each entry, 32 bytes after 32 bytes.
    leaves    bytea       NOT NULL,
    sealed_at timestamptz NOT NULL,
    hash      bytea       NOT NULL,
    CONSTRAINT audit_seals_pkey PRIMARY KEY (tenant_id, number),
    CONSTRAINT audit_seals_number_check CHECK (number >= 1)
);

-- A seal, once made, stays as it is.
GRANT SELECT, INSERT ON audit_seals TO rowhouse_tenant;

-- From here on nobody writes entries until this is committed.
CREATE TRIGGER audit_entries_unsealed AFTER INSERT ON audit_entries
    FOR EACH ROW EXECUTE FUNCTION rowhouse.queue_for_seal();

-- What was written before. While row-level security is forced, as in a shared house, the owner sees nobody's rows.
DO $$
DECLARE
    is_forced boolean := (SELECT relforcerowsecurity FROM pg_class WHERE oid = 'audit_entries'::regclass);
BEGIN
    IF is_forced THEN
        ALTER TABLE audit_entries NO FORCE ROW LEVEL SECURITY;
    END IF;
    INSERT INTO rowhouse.unsealed (tenant_id, id) SELECT tenant_id, id FROM audit_entries;
    IF is_forced THEN
        ALTER TABLE audit_entries FORCE ROW LEVEL SECURITY;
    END IF;
END
$$;

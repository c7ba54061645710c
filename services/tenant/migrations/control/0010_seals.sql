-- Entries of the audit log are sealed in batches chained by hash (libs/audit).
-- Locks: tenant.audit, against writers, until its entries are queued and its index is built: about a second for 100,000. Its readers too, for a column is added.
-- Safe for code that is already running: yes; what it writes is queued by the trigger. Its login needs INSERT on
-- tenant.unsealed for that, which it has from the moment the trigger is there.
SET LOCAL lock_timeout = '5s';

-- Whose log an entry stands in; none for what is about the platform. Entries from before this stand in the platform's.
ALTER TABLE tenant.audit ADD COLUMN tenant_id uuid;

-- One chain for each tenant; zeros name the platform's.
CREATE TABLE tenant.seals (
    chain uuid NOT NULL,
    number bigint NOT NULL,
    -- SHA-256 of the seal before.
    previous bytea NOT NULL,
    entries uuid[] NOT NULL,
    -- How many these are, so that pages can be cut without reading them.
    size integer NOT NULL,
    -- SHA-256 of each entry, 32 bytes after 32 bytes.
    leaves bytea NOT NULL,
    sealed_at timestamptz NOT NULL,
    hash bytea NOT NULL,
    CONSTRAINT seals_pkey PRIMARY KEY (chain, number),
    CONSTRAINT seals_number CHECK (number >= 1)
);

-- Entries that wait for their seal.
CREATE TABLE tenant.unsealed (
    chain uuid NOT NULL,
    id uuid NOT NULL,
    CONSTRAINT unsealed_pkey PRIMARY KEY (chain, id)
);

CREATE FUNCTION tenant.queue_for_seal() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO tenant.unsealed (chain, id)
    VALUES (coalesce(NEW.tenant_id, '00000000-0000-0000-0000-000000000000'), NEW.audit_id);
    RETURN NULL;
END
$$;

-- A seal, once made, stays as it is.
GRANT SELECT, INSERT ON tenant.seals TO rowhouse_ctl_tenant;
GRANT SELECT, INSERT, DELETE ON tenant.unsealed TO rowhouse_ctl_tenant;

CREATE TRIGGER audit_unsealed AFTER INSERT ON tenant.audit FOR EACH ROW EXECUTE FUNCTION tenant.queue_for_seal();

-- What was written before: after the trigger, so that nothing falls between the two.
INSERT INTO tenant.unsealed (chain, id)
SELECT coalesce(tenant_id, '00000000-0000-0000-0000-000000000000'), audit_id FROM tenant.audit;

-- Lists go by id, which begins with the time.
CREATE INDEX audit_by_tenant_and_id ON tenant.audit (tenant_id, audit_id);

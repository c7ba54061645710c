-- Entries of the audit log are sealed in batches chained by hash (libs/audit).
-- Locks: auth.audit, against writers, until its entries are queued and its index is built: about a second for 100,000.
-- Safe for code that is already running: yes; what it writes is queued by the trigger. Its login needs INSERT on
-- auth.unsealed for that, which it has from the moment the trigger is there.
SET LOCAL lock_timeout = '5s';

-- One chain for each tenant; zeros name the platform's.
CREATE TABLE auth.seals (
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
CREATE TABLE auth.unsealed (
    chain uuid NOT NULL,
    id uuid NOT NULL,
    CONSTRAINT unsealed_pkey PRIMARY KEY (chain, id)
);

CREATE FUNCTION auth.queue_for_seal() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO auth.unsealed (chain, id)
    VALUES (coalesce(NEW.tenant_id, '00000000-0000-0000-0000-000000000000'), NEW.id);
    RETURN NULL;
END
$$;

-- A seal, once made, stays as it is.
GRANT SELECT, INSERT ON auth.seals TO rowhouse_ctl_auth;
GRANT SELECT, INSERT, DELETE ON auth.unsealed TO rowhouse_ctl_auth;

CREATE TRIGGER audit_unsealed AFTER INSERT ON auth.audit FOR EACH ROW EXECUTE FUNCTION auth.queue_for_seal();

-- What was written before: after the trigger, so that nothing falls between the two.
INSERT INTO auth.unsealed (chain, id)
SELECT coalesce(tenant_id, '00000000-0000-0000-0000-000000000000'), id FROM auth.audit;

-- Lists go by id, which begins with the time.
CREATE INDEX audit_by_tenant_and_id ON auth.audit (tenant_id, id);

-- Audit entries of homes that wait for their seal: whoever seals finds the tenants that have something here, for it cannot look
-- into thousands of homes. A trigger of each home queues them.
-- Locks: none on existing tables. Safe for old code: it does not know the table.
CREATE TABLE rowhouse.unsealed (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    CONSTRAINT unsealed_pkey PRIMARY KEY (tenant_id, id)
);

-- Enabled and not forced: a forced owner would see no rows, silently.
ALTER TABLE rowhouse.unsealed ENABLE ROW LEVEL SECURITY;
-- Whoever has entered a home queues its entries, seals them, and takes their lines away with the seal, in one transaction.
-- The line holds the entry's number of the tenant, the policy reads the transaction's setting: two sources that must agree.
CREATE POLICY unsealed_tenant_seals ON rowhouse.unsealed FOR ALL TO rowhouse_tenant
    USING (tenant_id = NULLIF(current_setting('rowhouse.tenant_id', true), '')::uuid);
-- The relay's login says which tenants have lines, and removes those of tenants that are gone.
CREATE POLICY unsealed_relay_looks ON rowhouse.unsealed FOR ALL TO rowhouse_relay USING (true);

REVOKE ALL ON rowhouse.unsealed FROM PUBLIC;
GRANT SELECT, INSERT, DELETE ON rowhouse.unsealed TO rowhouse_tenant;
GRANT SELECT, DELETE ON rowhouse.unsealed TO rowhouse_relay;

-- What a home's table of entries calls for each new one; an invoker, held to the policy above. With a search path of its own
-- its plan is the same for every tenant.
CREATE FUNCTION rowhouse.queue_for_seal() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO rowhouse.unsealed (tenant_id, id) VALUES (NEW.tenant_id, NEW.id) ON CONFLICT DO NOTHING;
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION rowhouse.queue_for_seal() FROM PUBLIC;

-- Audit entries of homes that wait for their seal. The relay writes a line when it has published the event of a change,
-- whose id is the entry's: so writers write nothing more, and whoever seals finds the tenants that have something.
-- Locks: none on existing tables. Safe for old code: its relay writes no lines, so what it publishes is not sealed.
CREATE TABLE rowhouse.unsealed (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    CONSTRAINT unsealed_pkey PRIMARY KEY (tenant_id, id)
);

-- Enabled and not forced: a forced owner would see no rows, silently.
ALTER TABLE rowhouse.unsealed ENABLE ROW LEVEL SECURITY;
-- Whoever has entered a home seals its entries and takes their lines away in one transaction. The statement binds the
-- tenant's number, the policy reads the transaction's setting: two sources that must agree.
CREATE POLICY unsealed_tenant_seals ON rowhouse.unsealed FOR ALL TO rowhouse_tenant
    USING (tenant_id = NULLIF(current_setting('rowhouse.tenant_id', true), '')::uuid);
CREATE POLICY unsealed_relay_queues ON rowhouse.unsealed FOR ALL TO rowhouse_relay USING (true);

REVOKE ALL ON rowhouse.unsealed FROM PUBLIC;
GRANT SELECT, INSERT, DELETE ON rowhouse.unsealed TO rowhouse_tenant;
GRANT SELECT, INSERT, DELETE ON rowhouse.unsealed TO rowhouse_relay;

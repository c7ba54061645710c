-- Events of all tenants of this database: a relay cannot poll thousands of schemas.
-- Locks: none on existing tables. Safe for old code: there is none.
CREATE TABLE rowhouse.outbox (
    id uuid NOT NULL,
    tenant_id uuid NOT NULL,
    kind text NOT NULL,
    payload jsonb NOT NULL,
    request_id text NOT NULL,
    traceparent text NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT outbox_pkey PRIMARY KEY (id)
);
CREATE INDEX outbox_created_at_idx ON rowhouse.outbox (created_at, id);

-- Enabled and not forced: a forced owner would see no rows, silently.
ALTER TABLE rowhouse.outbox ENABLE ROW LEVEL SECURITY;
-- The statement binds the tenant's number, the policy reads the transaction's setting: two sources that must agree.
CREATE POLICY outbox_tenant_appends ON rowhouse.outbox FOR INSERT TO rowhouse_tenant
    WITH CHECK (tenant_id = NULLIF(current_setting('rowhouse.tenant_id', true), '')::uuid);
CREATE POLICY outbox_relay_publishes ON rowhouse.outbox FOR ALL TO rowhouse_relay USING (true);

REVOKE ALL ON rowhouse.outbox FROM PUBLIC;
GRANT INSERT ON rowhouse.outbox TO rowhouse_tenant;
GRANT SELECT, UPDATE, DELETE ON rowhouse.outbox TO rowhouse_relay;

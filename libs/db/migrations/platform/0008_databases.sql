-- Which tenants of this server have a database of their own. In the tenant's own database stand its house and its home,
-- as everywhere: version and state are read there, and `rowhouse.enter` finds them there. Here stand what must outlive
-- that database (the line in rowhouse.homes, without a house, so that nobody enters here and no generation is given
-- twice) and that it exists.
-- Locks: none on existing tables. Safe for old code: it does not know the table, and takes such a tenant for one whose
-- home was dropped.
CREATE TABLE rowhouse.databases (
    tenant_id uuid NOT NULL,
    participant text NOT NULL,
    database_name text NOT NULL,
    -- building: named before it is created, so that what a dead process left is known for ours.
    -- leaving: its unpublished events stand in this database's outbox, and it may be gone already.
    state text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT databases_pkey PRIMARY KEY (tenant_id),
    CONSTRAINT databases_database_name_key UNIQUE (database_name),
    CONSTRAINT databases_home_fkey FOREIGN KEY (tenant_id, participant) REFERENCES rowhouse.homes (tenant_id, participant),
    CONSTRAINT databases_state_known CHECK (state IN ('building', 'ready', 'leaving'))
);

REVOKE ALL ON rowhouse.databases FROM PUBLIC;
-- The relay publishes the outboxes of these databases, and learns of them no more than where they are.
GRANT SELECT (database_name, state) ON rowhouse.databases TO rowhouse_relay;

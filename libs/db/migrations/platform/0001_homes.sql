-- Which homes there are in this database. A house is a place for rows (a schema); a home is a tenant's place in one.
-- Several tenants will share a house in placement `shared`; in `schema` and `database` each house has one home.
-- Locks: none on existing tables. Safe for old code: there is none.
CREATE SCHEMA ext;

CREATE TABLE rowhouse.houses (
    house_id uuid NOT NULL,
    participant text NOT NULL,
    schema_name text NOT NULL,
    placement text NOT NULL,
    version integer NOT NULL,
    deferred_version integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT houses_pkey PRIMARY KEY (house_id),
    CONSTRAINT houses_schema_name_key UNIQUE (schema_name),
    CONSTRAINT houses_placement_known CHECK (placement IN ('schema', 'shared', 'database')),
    CONSTRAINT houses_version_counted CHECK (version >= 0 AND deferred_version >= 0)
);

-- A dropped home stays as a line without a house: its generation must never be given again.
CREATE TABLE rowhouse.homes (
    tenant_id uuid NOT NULL,
    participant text NOT NULL,
    house_id uuid NULL,
    generation bigint NOT NULL,
    state text NOT NULL,
    -- statement_timeout_ms: the plan's bound.
    limits jsonb NOT NULL DEFAULT '{}',
    operation_id uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT homes_pkey PRIMARY KEY (tenant_id, participant),
    CONSTRAINT homes_house_id_fkey FOREIGN KEY (house_id) REFERENCES rowhouse.houses (house_id),
    CONSTRAINT homes_state_known CHECK (state IN ('active', 'frozen', 'dropped')),
    CONSTRAINT homes_dropped_has_no_house CHECK ((house_id IS NULL) = (state = 'dropped')),
    CONSTRAINT homes_generation_counted CHECK (generation >= 1)
);
CREATE INDEX homes_house_id_idx ON rowhouse.homes (house_id);

-- Nobody but the owner reads these: who lives where is told by rowhouse.home_of, one line at a time.
REVOKE ALL ON rowhouse.houses, rowhouse.homes FROM PUBLIC;

GRANT USAGE ON SCHEMA rowhouse TO rowhouse_app, rowhouse_tenant, rowhouse_relay, rowhouse_keeper;
GRANT USAGE ON SCHEMA ext TO rowhouse_tenant;

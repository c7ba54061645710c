-- The data servers: which there are, which take new tenants, and how many more.
--
-- Why: servers were a list in the environment, without capacity, and none could be kept from new tenants.
-- Locks: tenant.tenants, against writers, for as long as its rows are counted and checked.
-- Safe for old code: yes. It places tenants on the servers of its environment, which are registered here by `migrate`; what
-- it places is counted, and refused where a server is full or drains.

SET LOCAL lock_timeout = '5s';

CREATE TABLE tenant.servers (
    name        text        NOT NULL,
    address     text        NOT NULL,
    state       text        NOT NULL,
    labels      jsonb       NOT NULL,
    placements  text[]      NOT NULL,
    tenants_max integer     NOT NULL,
    -- Kept by the trigger below, so that choosing a server counts nothing.
    tenants     integer     NOT NULL DEFAULT 0,
    revision    bigint      NOT NULL DEFAULT 1,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT servers_pkey PRIMARY KEY (name),
    CONSTRAINT servers_name_check CHECK (name ~ '^[a-z][a-z0-9-]{0,39}$'),
    CONSTRAINT servers_address_check CHECK (char_length(address) <= 255),
    CONSTRAINT servers_state_check CHECK (state IN ('active', 'draining')),
    CONSTRAINT servers_labels_check CHECK (jsonb_typeof(labels) = 'object'),
    CONSTRAINT servers_placements_check
        CHECK (placements <@ ARRAY['schema', 'shared', 'database'] AND cardinality(placements) BETWEEN 1 AND 3),
    CONSTRAINT servers_tenants_max_check CHECK (tenants_max BETWEEN 1 AND 1000000),
    CONSTRAINT servers_tenants_check CHECK (tenants >= 0),
    CONSTRAINT servers_revision_check CHECK (revision >= 1)
);

LOCK TABLE tenant.tenants IN SHARE ROW EXCLUSIVE MODE;

INSERT INTO tenant.servers (name, address, state, labels, placements, tenants_max, tenants)
SELECT server, '', 'active', '{}', ARRAY['schema', 'shared', 'database'], greatest(5000, count(*)), count(*)
FROM tenant.tenants GROUP BY server;

ALTER TABLE tenant.tenants
    ADD CONSTRAINT tenants_server_fkey FOREIGN KEY (server) REFERENCES tenant.servers (name);

-- Admits a tenant to its server, or aborts the statement that would place it there. The row's lock puts sign-ups for one
-- server in order for the moment between this and the statement's end, so that the capacity is exact.
CREATE FUNCTION tenant.admit_to_server() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE tenant.servers SET tenants = tenants + 1
    WHERE name = NEW.server AND state = 'active' AND tenants < tenants_max AND NEW.placement = ANY (placements);
    IF NOT FOUND THEN
        RAISE EXCEPTION 'server % takes no more tenants of placement %', NEW.server, NEW.placement
            USING ERRCODE = 'check_violation', CONSTRAINT = 'servers_admission_check';
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER tenants_admission AFTER INSERT ON tenant.tenants
    FOR EACH ROW EXECUTE FUNCTION tenant.admit_to_server();

GRANT SELECT, INSERT, UPDATE ON tenant.servers TO rowhouse_ctl_tenant;

-- Tenants' ids issued ahead, each with a home built at every participant: signing up takes one that is ready.
--
-- Why: building a home takes longer than everything else of signing up together.
-- Locks: tenants, against writers, while its new index is built: milliseconds for thousands.
-- Safe for old code: it takes no spare and lists tenants by their ids.

SET LOCAL lock_timeout = '5s';

CREATE TABLE tenant.spares (
    tenant_id   uuid        NOT NULL,
    -- The id as messages and the audit log write it, so that whoever takes it need not compute it in SQL.
    typed_id    text        NOT NULL,
    server      text        NOT NULL,
    placement   text        NOT NULL,
    state       text        NOT NULL DEFAULT 'building',
    -- While it is being built: how often that failed, why, when to try again, and which process is at it.
    attempts    integer     NOT NULL DEFAULT 0,
    last_error  text,
    next_at     timestamptz NOT NULL DEFAULT now(),
    lease_id    uuid,
    lease_until timestamptz,
    created_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT spares_pkey PRIMARY KEY (tenant_id),
    CONSTRAINT spares_placement_check CHECK (placement IN ('schema', 'shared', 'database')),
    CONSTRAINT spares_state_check CHECK (state IN ('building', 'ready')),
    CONSTRAINT spares_attempts_check CHECK (attempts >= 0),
    CONSTRAINT spares_lease_check CHECK ((lease_id IS NULL) = (lease_until IS NULL)),
    CONSTRAINT spares_ready_check CHECK (state = 'building' OR lease_id IS NULL)
);

CREATE INDEX spares_state_idx ON tenant.spares (server, placement, state, created_at);

-- Ids no longer tell when a tenant came: a spare's is older. Lists are sorted by what does.
CREATE INDEX tenants_created_at_idx ON tenant.tenants (created_at, tenant_id);

GRANT SELECT, INSERT, UPDATE, DELETE ON tenant.spares TO rowhouse_ctl_tenant;

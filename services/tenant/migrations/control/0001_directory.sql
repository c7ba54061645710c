-- Tenants, where they live, and the operations that lead them through their life.
--
-- Why: the first version of the directory.
-- Locks: none that anybody could wait for; every table is new.
-- Safe for old code: there is none.
--
-- Every name is written with its schema: nothing here depends on a search path. The service's login may do what each
-- GRANT at the end says and owns nothing.

SET LOCAL lock_timeout = '5s';

CREATE TABLE tenant.tenants (
    tenant_id    uuid        NOT NULL,
    slug         text        NOT NULL,
    display_name text        NOT NULL,
    placement    text        NOT NULL,
    server       text        NOT NULL,
    state        text        NOT NULL,
    revision     bigint      NOT NULL DEFAULT 1,
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT tenants_pkey PRIMARY KEY (tenant_id),
    CONSTRAINT tenants_slug_key UNIQUE (slug),
    CONSTRAINT tenants_slug_check CHECK (slug ~ '^[a-z][a-z0-9-]{2,62}$'),
    CONSTRAINT tenants_display_name_check CHECK (char_length(display_name) BETWEEN 1 AND 200),
    CONSTRAINT tenants_placement_check CHECK (placement IN ('schema', 'shared', 'database')),
    CONSTRAINT tenants_state_check CHECK (state IN ('provisioning', 'active', 'suspending', 'suspended', 'resuming')),
    CONSTRAINT tenants_revision_check CHECK (revision >= 1)
);

-- The state machine of the README, held by the database too: whatever a statement says, a tenant takes no other way.
CREATE FUNCTION tenant.check_transition() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.state <> 'provisioning' THEN
            RAISE EXCEPTION 'a tenant begins as provisioning, not as %', NEW.state
                USING ERRCODE = 'check_violation', CONSTRAINT = 'tenants_transition_check';
        END IF;
    ELSIF NEW.state <> OLD.state AND (OLD.state, NEW.state) NOT IN (
        ('provisioning', 'active'),
        ('active', 'suspending'),
        ('suspending', 'suspended'),
        ('suspended', 'resuming'),
        ('resuming', 'active')
    ) THEN
        RAISE EXCEPTION 'a tenant does not go from % to %', OLD.state, NEW.state
            USING ERRCODE = 'check_violation', CONSTRAINT = 'tenants_transition_check';
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER tenants_transition BEFORE INSERT OR UPDATE OF state ON tenant.tenants
    FOR EACH ROW EXECUTE FUNCTION tenant.check_transition();

-- Where each participant keeps a tenant's rows.
CREATE TABLE tenant.homes (
    tenant_id   uuid        NOT NULL,
    participant text        NOT NULL,
    server      text        NOT NULL,
    placement   text        NOT NULL,
    generation  bigint      NOT NULL,
    version     integer     NOT NULL,
    state       text        NOT NULL,
    updated_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT homes_pkey PRIMARY KEY (tenant_id, participant),
    CONSTRAINT homes_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenant.tenants (tenant_id),
    CONSTRAINT homes_placement_check CHECK (placement IN ('schema', 'shared', 'database')),
    CONSTRAINT homes_generation_check CHECK (generation >= 1),
    CONSTRAINT homes_state_check CHECK (state IN ('active', 'frozen'))
);

-- Sagas. `step` is the step to do next; a lease says which process is doing it.
CREATE TABLE tenant.operations (
    operation_id uuid        NOT NULL,
    tenant_id    uuid        NOT NULL,
    kind         text        NOT NULL,
    step         text        NOT NULL,
    payload      jsonb       NOT NULL DEFAULT '{}',
    attempts     integer     NOT NULL DEFAULT 0,
    last_error   text,
    next_at      timestamptz NOT NULL DEFAULT now(),
    lease_id     uuid,
    lease_until  timestamptz,
    request_id   text        NOT NULL,
    traceparent  text,
    created_at   timestamptz NOT NULL DEFAULT now(),
    finished_at  timestamptz,
    CONSTRAINT operations_pkey PRIMARY KEY (operation_id),
    CONSTRAINT operations_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenant.tenants (tenant_id),
    CONSTRAINT operations_step_check CHECK (
        (kind, step) IN (
            ('provision', 'prepare'), ('provision', 'invite'), ('provision', 'allow'), ('provision', 'done'),
            ('suspend', 'close'), ('suspend', 'done'),
            ('resume', 'thaw'), ('resume', 'allow'), ('resume', 'done')
        )
    ),
    CONSTRAINT operations_finished_check CHECK ((step = 'done') = (finished_at IS NOT NULL)),
    CONSTRAINT operations_lease_check CHECK ((lease_id IS NULL) = (lease_until IS NULL)),
    CONSTRAINT operations_attempts_check CHECK (attempts >= 0)
);

-- One operation at a time for each tenant: two would undo each other's steps.
CREATE UNIQUE INDEX operations_open_key ON tenant.operations (tenant_id) WHERE finished_at IS NULL;
CREATE INDEX operations_due_idx ON tenant.operations (next_at) WHERE finished_at IS NULL;
CREATE INDEX operations_tenant_id_idx ON tenant.operations (tenant_id, created_at);

-- Answers of repeatable calls, for 24 hours.
CREATE TABLE tenant.requests (
    caller      text        NOT NULL,
    method      text        NOT NULL,
    request_id  uuid        NOT NULL,
    fingerprint bytea       NOT NULL,
    resource_id uuid        NOT NULL,
    expires_at  timestamptz NOT NULL,
    CONSTRAINT requests_pkey PRIMARY KEY (caller, method, request_id)
);

CREATE INDEX requests_expires_at_idx ON tenant.requests (expires_at);

-- Who changed what, and why. The service may add and read, nothing else.
CREATE TABLE tenant.audit (
    audit_id     uuid        NOT NULL,
    at           timestamptz NOT NULL DEFAULT now(),
    actor        text        NOT NULL,
    on_behalf_of text,
    action       text        NOT NULL,
    target       text        NOT NULL,
    before       jsonb,
    after        jsonb,
    reason       text,
    address      text,
    request_id   text        NOT NULL,
    outcome      text        NOT NULL,
    CONSTRAINT audit_pkey PRIMARY KEY (audit_id)
);

CREATE INDEX audit_target_idx ON tenant.audit (target, at);

-- Events on their way to the broker: the table that libs/mq relays.
CREATE TABLE tenant.outbox (
    id          uuid        NOT NULL,
    tenant_id   uuid,
    kind        text        NOT NULL,
    payload     jsonb       NOT NULL,
    request_id  text        NOT NULL,
    traceparent text,
    created_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT outbox_pkey PRIMARY KEY (id)
);

CREATE INDEX outbox_created_at_idx ON tenant.outbox (created_at);

GRANT USAGE ON SCHEMA tenant TO rowhouse_ctl_tenant;
GRANT SELECT, INSERT, UPDATE ON tenant.tenants, tenant.homes, tenant.operations TO rowhouse_ctl_tenant;
GRANT SELECT, INSERT, UPDATE, DELETE ON tenant.requests, tenant.outbox TO rowhouse_ctl_tenant;
GRANT SELECT, INSERT ON tenant.audit TO rowhouse_ctl_tenant;

-- Tenants that are purged, and the record of what was removed.
--
-- Why: a deleted tenant's data stayed for ever, and so did its slug and its place on its server.
-- Locks: tenant.tenants and tenant.operations, exclusively, for as long as their rows are checked and the index is built.
-- Safe for old code: yes, as long as no tenant has one of the new states, which old code cannot read.

SET LOCAL lock_timeout = '5s';

ALTER TABLE tenant.tenants
    DROP CONSTRAINT tenants_slug_key,
    DROP CONSTRAINT tenants_state_check,
    ADD CONSTRAINT tenants_state_check CHECK (
        state IN (
            'provisioning', 'active', 'suspending', 'suspended', 'resuming', 'restricting', 'read_only',
            'deleting', 'deleted', 'undeleting', 'purging', 'purged'
        )
    ),
    DROP CONSTRAINT tenants_deletion_check,
    ADD CONSTRAINT tenants_deletion_check CHECK (
        (state IN ('deleting', 'deleted', 'undeleting', 'purging', 'purged')) = (deleted_at IS NOT NULL)
        AND (deleted_at IS NULL) = (purge_at IS NULL)
        AND purge_at >= deleted_at
    ),
    -- A purged tenant holds no plan, which can therefore be deleted.
    ALTER COLUMN plan DROP NOT NULL,
    ADD CONSTRAINT tenants_plan_check CHECK ((plan IS NULL) = (state = 'purged'));

-- A purged tenant's slug is free for another.
CREATE UNIQUE INDEX tenants_slug_key ON tenant.tenants (slug) WHERE state <> 'purged';
CREATE INDEX tenants_purge_at_idx ON tenant.tenants (purge_at) WHERE state = 'deleted';

-- The state machine of the README, as it is now.
CREATE OR REPLACE FUNCTION tenant.check_transition() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.state <> 'provisioning' THEN
            RAISE EXCEPTION 'a tenant begins as provisioning, not as %', NEW.state
                USING ERRCODE = 'check_violation', CONSTRAINT = 'tenants_transition_check';
        END IF;
    ELSIF NEW.state <> OLD.state AND (OLD.state, NEW.state) NOT IN (
        ('provisioning', 'active'),
        ('active', 'restricting'),
        ('restricting', 'read_only'),
        ('active', 'suspending'),
        ('read_only', 'suspending'),
        ('suspending', 'suspended'),
        ('read_only', 'resuming'),
        ('suspended', 'resuming'),
        ('resuming', 'active'),
        ('active', 'deleting'),
        ('read_only', 'deleting'),
        ('suspended', 'deleting'),
        ('deleting', 'deleted'),
        ('deleted', 'undeleting'),
        ('undeleting', 'active'),
        ('deleted', 'purging'),
        ('purging', 'purged')
    ) THEN
        RAISE EXCEPTION 'a tenant does not go from % to %', OLD.state, NEW.state
            USING ERRCODE = 'check_violation', CONSTRAINT = 'tenants_transition_check';
    END IF;
    IF NEW.state = 'active' THEN
        NEW.deleted_at := NULL;
        NEW.purge_at := NULL;
    ELSIF NEW.state = 'purged' THEN
        NEW.plan := NULL;
        NEW.limit_overrides := '{}';
    END IF;
    RETURN NEW;
END
$$;

-- A purged tenant takes no place on its server.
CREATE FUNCTION tenant.release_from_server() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE tenant.servers SET tenants = tenants - 1 WHERE name = NEW.server;
    RETURN NULL;
END
$$;

CREATE TRIGGER tenants_release AFTER UPDATE OF state ON tenant.tenants
    FOR EACH ROW WHEN (NEW.state = 'purged' AND OLD.state <> 'purged') EXECUTE FUNCTION tenant.release_from_server();

ALTER TABLE tenant.operations
    DROP CONSTRAINT operations_step_check,
    ADD CONSTRAINT operations_step_check CHECK (
        (kind, step) IN (
            ('provision', 'prepare'), ('provision', 'invite'), ('provision', 'allow'), ('provision', 'done'),
            ('suspend', 'close'), ('suspend', 'done'),
            ('resume', 'thaw'), ('resume', 'allow'), ('resume', 'done'),
            ('restrict', 'restrict'), ('restrict', 'done'),
            ('delete', 'close'), ('delete', 'done'),
            ('undelete', 'thaw'), ('undelete', 'allow'), ('undelete', 'done'),
            ('purge', 'drop'), ('purge', 'erase'), ('purge', 'forget'), ('purge', 'done')
        )
    );

-- What was removed of a purged tenant, by whose order.
CREATE TABLE tenant.purges (
    tenant_id    uuid        NOT NULL,
    operation_id uuid        NOT NULL,
    actor        text        NOT NULL,
    reason       text        NOT NULL,
    -- [{"holder": "auth", "kind": "memberships", "count": 3}, ...]
    removed      jsonb       NOT NULL DEFAULT '[]',
    began_at     timestamptz NOT NULL DEFAULT now(),
    finished_at  timestamptz,
    CONSTRAINT purges_pkey PRIMARY KEY (tenant_id),
    CONSTRAINT purges_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenant.tenants (tenant_id),
    CONSTRAINT purges_removed_check CHECK (jsonb_typeof(removed) = 'array')
);

GRANT SELECT, INSERT, UPDATE ON tenant.purges TO rowhouse_ctl_tenant;
GRANT DELETE ON tenant.homes TO rowhouse_ctl_tenant;

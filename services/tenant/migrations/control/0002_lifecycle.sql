-- Tenants that are read-only, and tenants that are deleted and can be undeleted.
--
-- Why: a tenant could only be suspended.
-- Locks: tenant.tenants, tenant.homes and tenant.operations, exclusively, for as long as their rows are checked.
-- Safe for old code: yes, as long as no tenant has one of the new states, which old code cannot read.

SET LOCAL lock_timeout = '5s';

ALTER TABLE tenant.tenants
    ADD COLUMN deleted_at timestamptz,
    ADD COLUMN purge_at timestamptz,
    DROP CONSTRAINT tenants_state_check,
    ADD CONSTRAINT tenants_state_check CHECK (
        state IN (
            'provisioning', 'active', 'suspending', 'suspended', 'resuming', 'restricting', 'read_only',
            'deleting', 'deleted', 'undeleting'
        )
    ),
    ADD CONSTRAINT tenants_deletion_check CHECK (
        (state IN ('deleting', 'deleted', 'undeleting')) = (deleted_at IS NOT NULL)
        AND (deleted_at IS NULL) = (purge_at IS NULL)
        AND purge_at >= deleted_at
    );

-- The state machine of the README, as it is now. With the state the time of the deletion goes, so that no statement can
-- leave it behind.
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
        ('undeleting', 'active')
    ) THEN
        RAISE EXCEPTION 'a tenant does not go from % to %', OLD.state, NEW.state
            USING ERRCODE = 'check_violation', CONSTRAINT = 'tenants_transition_check';
    END IF;
    IF NEW.state = 'active' THEN
        NEW.deleted_at := NULL;
        NEW.purge_at := NULL;
    END IF;
    RETURN NEW;
END
$$;

ALTER TABLE tenant.homes
    DROP CONSTRAINT homes_state_check,
    ADD CONSTRAINT homes_state_check CHECK (state IN ('active', 'read_only', 'frozen'));

ALTER TABLE tenant.operations
    DROP CONSTRAINT operations_step_check,
    ADD CONSTRAINT operations_step_check CHECK (
        (kind, step) IN (
            ('provision', 'prepare'), ('provision', 'invite'), ('provision', 'allow'), ('provision', 'done'),
            ('suspend', 'close'), ('suspend', 'done'),
            ('resume', 'thaw'), ('resume', 'allow'), ('resume', 'done'),
            ('restrict', 'restrict'), ('restrict', 'done'),
            ('delete', 'close'), ('delete', 'done'),
            ('undelete', 'thaw'), ('undelete', 'allow'), ('undelete', 'done')
        )
    );

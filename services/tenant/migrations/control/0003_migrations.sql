-- Runs of migrations over a participant's homes: waves, how far they are, and which process carries a run on.
--
-- Why: homes were migrated one after the other by a command, without waves, budget or a way to stop.
-- Locks: none that anybody could wait for; the table is new.
-- Safe for old code: yes, it does not know the table.

SET LOCAL lock_timeout = '5s';

CREATE TABLE tenant.migration_runs (
    run_id         uuid        NOT NULL,
    participant    text        NOT NULL,
    target_version integer     NOT NULL,
    -- [{"tenants": [...]}, {"percent": 10}, ...]
    waves          jsonb       NOT NULL,
    -- Index of the wave that is under way.
    wave           integer     NOT NULL DEFAULT 0,
    state          text        NOT NULL DEFAULT 'running',
    parallelism    integer     NOT NULL,
    failure_budget integer     NOT NULL,
    -- Names the round of tries; another one with every resume.
    round_id       uuid        NOT NULL,
    planned        bigint      NOT NULL,
    -- By data server: {"data1": {"behind": 1, "failed": 0, "behind_in_all": 9}}
    progress       jsonb       NOT NULL DEFAULT '{}',
    faults         jsonb       NOT NULL DEFAULT '[]',
    last_error     text,
    revision       bigint      NOT NULL DEFAULT 1,
    attempts       integer     NOT NULL DEFAULT 0,
    next_at        timestamptz NOT NULL DEFAULT now(),
    lease_id       uuid,
    lease_until    timestamptz,
    request_id     text        NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now(),
    finished_at    timestamptz,
    CONSTRAINT migration_runs_pkey PRIMARY KEY (run_id),
    CONSTRAINT migration_runs_state_check CHECK (state IN ('running', 'paused', 'halted', 'cancelled', 'done')),
    CONSTRAINT migration_runs_finished_check CHECK ((state IN ('cancelled', 'done')) = (finished_at IS NOT NULL)),
    CONSTRAINT migration_runs_waves_check CHECK (jsonb_typeof(waves) = 'array' AND jsonb_array_length(waves) BETWEEN 1 AND 20),
    CONSTRAINT migration_runs_wave_check CHECK (wave BETWEEN 0 AND jsonb_array_length(waves)),
    CONSTRAINT migration_runs_done_check CHECK (state <> 'done' OR wave = jsonb_array_length(waves)),
    CONSTRAINT migration_runs_parallelism_check CHECK (parallelism BETWEEN 1 AND 8),
    CONSTRAINT migration_runs_budget_check CHECK (failure_budget >= 0),
    CONSTRAINT migration_runs_target_check CHECK (target_version >= 1),
    CONSTRAINT migration_runs_lease_check CHECK ((lease_id IS NULL) = (lease_until IS NULL))
);

-- Two runs of one participant would migrate the same houses to different versions.
CREATE UNIQUE INDEX migration_runs_open_key ON tenant.migration_runs (participant) WHERE finished_at IS NULL;
CREATE INDEX migration_runs_due_idx ON tenant.migration_runs (next_at) WHERE state = 'running';

-- What has ended stays so, whatever a statement says.
CREATE FUNCTION tenant.check_run_transition() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.state <> OLD.state AND (OLD.state, NEW.state) NOT IN (
        ('running', 'paused'), ('running', 'halted'), ('running', 'cancelled'), ('running', 'done'),
        ('paused', 'running'), ('paused', 'cancelled'),
        ('halted', 'running'), ('halted', 'cancelled')
    ) THEN
        RAISE EXCEPTION 'a run does not go from % to %', OLD.state, NEW.state
            USING ERRCODE = 'check_violation', CONSTRAINT = 'migration_runs_transition_check';
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER migration_runs_transition BEFORE UPDATE OF state ON tenant.migration_runs
    FOR EACH ROW EXECUTE FUNCTION tenant.check_run_transition();

GRANT SELECT, INSERT, UPDATE ON tenant.migration_runs TO rowhouse_ctl_tenant;

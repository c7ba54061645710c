-- The clock of rights, what changed at each of its versions, and the leases of those who cache rights.
-- Locks: only new tables. Safe for code that is already running: yes.

-- One row. Every change of rights adds one to it in its own transaction, so versions are in the order of commits.
CREATE TABLE auth.rights_clock (
    only_row boolean NOT NULL DEFAULT true,
    version bigint NOT NULL,
    CONSTRAINT rights_clock_pkey PRIMARY KEY (only_row),
    CONSTRAINT rights_clock_only_row CHECK (only_row)
);
-- 1 and not 0: an instance that has confirmed nothing is answered at once.
INSERT INTO auth.rights_clock (version) VALUES (1);

-- Whose rights changed: TypeIDs of tenants, users or sessions.
CREATE TABLE auth.right_changes (
    version bigint NOT NULL,
    subjects text[] NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT right_changes_pkey PRIMARY KEY (version)
);

-- One row per verifying process.
CREATE TABLE auth.leases (
    instance_id uuid NOT NULL,
    service text NOT NULL,
    confirmed_version bigint NOT NULL,
    expires_at timestamptz NOT NULL,
    CONSTRAINT leases_pkey PRIMARY KEY (instance_id)
);

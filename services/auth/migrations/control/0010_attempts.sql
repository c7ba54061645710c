-- How often somebody has lately tried to guess: per account and address, per address, per account.
-- Locks: only a new table, and a new index on auth.sessions, whose writers wait while it is built: milliseconds for
-- thousands. Safe for code that is already running: yes.

SET LOCAL lock_timeout = '5s';

-- One row for each whom there is something to hold against. Subjects are digests: an account that does not exist has rows
-- like one that does, and no address of a person or machine lies here.
CREATE TABLE auth.attempts (
    subject bytea NOT NULL,
    -- Attempts that have not leaked away, as of `at`.
    level double precision NOT NULL,
    at timestamptz NOT NULL,
    blocked_until timestamptz NOT NULL,
    CONSTRAINT attempts_pkey PRIMARY KEY (subject)
);
CREATE INDEX attempts_by_age ON auth.attempts (at);

-- From where an account was logged in to.
CREATE INDEX sessions_by_address ON auth.sessions (identity_id, address) WHERE address IS NOT NULL;

GRANT SELECT, INSERT, UPDATE, DELETE ON auth.attempts TO rowhouse_ctl_auth;

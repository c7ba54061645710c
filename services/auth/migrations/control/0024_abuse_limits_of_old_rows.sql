-- The rows that 0023 has left: its constraint is checked for them, and its indexes are built.
--
-- Why apart: in one transaction with 0023, nobody could read a session meanwhile, so that all calls would have waited.
-- Locks: sessions are checked while they are read and written. Then the three tables are locked against writes while an index is
-- built, in the order in which everybody locks them, until the last is done: milliseconds for thousands of invitations and keys;
-- the sessions are read once, and no row has an origin yet: below a second for a million. So log-ins, refreshes and whatever ends
-- sessions wait that long; judgements of access tokens go on. Not CONCURRENTLY: that waits for every transaction, also for one that
-- waits to migrate until this one is done. Safe for code that is already running: yes.

SET LOCAL lock_timeout = '5s';

ALTER TABLE auth.sessions VALIDATE CONSTRAINT sessions_revoke_reason;

-- Of what has ended, the oldest go first. Those of provisioning operations stay: a repeated one must find its own.
CREATE INDEX invitations_by_expiry ON auth.invitations (expires_at) WHERE operation_id IS NULL;
CREATE INDEX api_keys_by_end ON auth.api_keys (least(revoked_at, expires_at));
CREATE INDEX sessions_by_origin ON auth.sessions (origin) WHERE origin IS NOT NULL AND revoked_at IS NULL;

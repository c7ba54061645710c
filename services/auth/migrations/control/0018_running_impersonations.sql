-- Finds the few sessions that operators have opened as members among all that there are.
-- Locks: writes to auth.sessions wait while the table is read for the index, which holds next to nothing: about a second for a
-- million. Safe for code that is already running: yes.

SET LOCAL lock_timeout = '5s';

CREATE INDEX sessions_of_impersonators ON auth.sessions (id) WHERE impersonator_id IS NOT NULL AND revoked_at IS NULL;

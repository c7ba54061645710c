-- The operator's role can be taken.
--
-- Locks: a short one on the table. Safe for code that is already running: yes, it takes none.

SET LOCAL lock_timeout = '5s';

GRANT DELETE ON auth.platform_grants TO rowhouse_ctl_auth;

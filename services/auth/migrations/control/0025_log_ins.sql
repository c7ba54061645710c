-- Log-ins write less: an index that no statement reads is gone.
--
-- Why: each log-in adds an entry to the audit log. Lists go by (tenant_id, id) since 0015, also those of a time, which they know by
-- the ids.
-- Locks: auth.audit for an instant against everything, once those who write or read it are done. Safe for code that is already
-- running: yes.

SET LOCAL lock_timeout = '5s';

DROP INDEX auth.audit_by_tenant;

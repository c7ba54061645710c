-- Log-ins write less: an index that no statement reads is gone, and the rows of devices have room beside them for what changes.
--
-- Why: each log-in adds an entry to the audit log, and changes its device twice. Lists of entries go by (tenant_id, id) since 0015,
-- also those of a time, which they know by the ids. A device's new version needs no entries in indexes where its page has room.
-- Locks: auth.audit for an instant against everything, once those who write or read it are done: not while it is being dumped, or
-- log-ins wait behind this for five seconds and it fails; auth.devices against other changes
-- of its form alone. No row is read: pages of devices that there are get their room as they are written. Safe for code that is
-- already running: yes.

SET LOCAL lock_timeout = '5s';

ALTER TABLE auth.devices SET (fillfactor = 80);

DROP INDEX auth.audit_by_tenant;

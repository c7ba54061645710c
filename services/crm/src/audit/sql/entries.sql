-- Entries; which of them follows. A time that no clock shows was not written by this code: it is read as 1970.
SELECT
    entry.tenant_id, entry.id,
    CASE WHEN entry.at > '-infinity' AND entry.at < '10000-01-01' THEN entry.at ELSE to_timestamp(0) END AS at,
    entry.actor, entry.on_behalf_of, entry.reason, entry.address, entry.request_id, entry.action, entry.target, entry.before,
    entry.after, entry.outcome
FROM audit_entries AS entry

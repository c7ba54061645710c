-- Takes back 0003_seals.sql of crm, run as the owner with the home as the search path. In every home of a database: the queue is
-- all of theirs.
DROP TRIGGER audit_entries_unsealed ON audit_entries;
DROP TABLE audit_seals;
TRUNCATE rowhouse.unsealed;

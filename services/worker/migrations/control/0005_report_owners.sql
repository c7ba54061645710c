-- Whose records stand in a report's file, so that it is handed to nobody who reaches less by now.
-- Locks: worker.reports, against everything, for an instant. Safe for code that is already running: yes; what it makes meanwhile
-- has none and is for those who reach everybody's records.

SET LOCAL lock_timeout = '5s';

-- Null: made before this, or of more people than are noted.
ALTER TABLE worker.reports ADD COLUMN owner_ids uuid[];

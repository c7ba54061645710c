-- Finds reports that nobody makes any more.
-- Locks: writes to worker.reports wait while the index is built; the table is as new as this. Safe for code that is
-- already running: yes.

CREATE INDEX reports_unfinished ON worker.reports (updated_at) WHERE state IN ('queued', 'running');

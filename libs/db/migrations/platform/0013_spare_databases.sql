-- Databases that are built ahead: of a tenant that is not there yet, so no operation has built them. The line in the main
-- database has no house (state `dropped`, as of every tenant with a database of its own) and no operation, until one claims the
-- spare there; the line in the spare itself is in state `spare`, as of every home that is built ahead.
-- Locks: homes, exclusively, while its lines are read: milliseconds for thousands. Everybody who enters waits meanwhile, and for as
-- long as it waits for its lock, hence a second at most; where `migrate` fails for that, repeat it. Safe for old code: it claims no
-- such spare, since the operation of its line is none that it knows, and says so until newer code is asked.
SET LOCAL lock_timeout = '1s';

ALTER TABLE rowhouse.homes
    DROP CONSTRAINT homes_spare_has_no_operation,
    ADD CONSTRAINT homes_operation_known CHECK (
        CASE state WHEN 'spare' THEN operation_id IS NULL WHEN 'dropped' THEN true ELSE operation_id IS NOT NULL END
    );

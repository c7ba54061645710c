-- Sessions that a platform operator has opened as a member.
-- Locks: auth.sessions, exclusively, while the rows are checked: about a second for a million. Safe for code that is already
-- running: it opens none. It does not ask for the operator's own session either, so start none while a process of before is left.
SET LOCAL lock_timeout = '5s';

ALTER TABLE auth.sessions
    -- The operator, and their own session in which they did. No reference: an old session is pruned, and this one with it.
    ADD COLUMN impersonator_id uuid,
    ADD COLUMN origin_id uuid,
    ADD CONSTRAINT sessions_impersonation CHECK (
        (impersonator_id IS NULL) = (origin_id IS NULL) AND (impersonator_id IS NULL OR tenant_id IS NOT NULL));

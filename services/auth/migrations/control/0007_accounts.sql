-- Members can be removed and invitations revoked; a person can see and end their own sessions.
--
-- Locks: ACCESS EXCLUSIVE on three tables while their rows are checked: milliseconds for thousands. Each new rule allows
-- more than the old one. Safe for old code: it shows removed members as faults of their own lists until it is replaced,
-- so roll out before the first removal; nothing else of it changes.

SET LOCAL lock_timeout = '5s';

-- removed: was a member. The row stays until the tenant is purged, so that the purge finds the account that belongs
-- nowhere else, and so that a membership that begins again goes on with its revisions.
ALTER TABLE auth.memberships DROP CONSTRAINT memberships_state;
ALTER TABLE auth.memberships ADD CONSTRAINT memberships_state CHECK (state IN ('active', 'disabled', 'removed'));

ALTER TABLE auth.invitations DROP CONSTRAINT invitations_state;
ALTER TABLE auth.invitations ADD CONSTRAINT invitations_state
    CHECK (state IN ('open', 'accepted', 'superseded', 'revoked'));

-- Whose invitation it is; null for a platform operator's, for the first of a tenant, and for those sent before this.
ALTER TABLE auth.invitations ADD COLUMN invited_by uuid;
ALTER TABLE auth.invitations ADD CONSTRAINT invitations_invited_by
    FOREIGN KEY (tenant_id, invited_by) REFERENCES auth.memberships (tenant_id, identity_id);
CREATE INDEX invitations_of_sender ON auth.invitations (tenant_id, invited_by) WHERE state = 'open';
CREATE INDEX invitations_open_by_age ON auth.invitations (tenant_id, created_at, id) WHERE state = 'open';

ALTER TABLE auth.sessions ADD COLUMN address text;
ALTER TABLE auth.sessions DROP CONSTRAINT sessions_revoke_reason;
ALTER TABLE auth.sessions ADD CONSTRAINT sessions_revoke_reason CHECK (revoke_reason IN
    ('logout', 'refresh_reuse', 'member_disabled', 'member_removed', 'revoked', 'password_changed'));

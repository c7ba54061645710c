-- What the service's own login may do, table by table. Audit entries can be added and read, never changed.
-- Locks: short ones on the tables. Safe for code that is already running: yes.

GRANT USAGE ON SCHEMA auth TO rowhouse_ctl_auth;

GRANT SELECT, INSERT, UPDATE ON
    auth.tenants, auth.identities, auth.memberships, auth.platform_grants, auth.invitations, auth.signing_keys
    TO rowhouse_ctl_auth;
GRANT SELECT, UPDATE ON auth.rights_clock TO rowhouse_ctl_auth;
GRANT SELECT, INSERT, UPDATE, DELETE ON
    auth.sessions, auth.refresh_tokens, auth.leases, auth.requests, auth.outbox
    TO rowhouse_ctl_auth;
GRANT SELECT, INSERT, DELETE ON auth.right_changes TO rowhouse_ctl_auth;
GRANT SELECT, INSERT ON auth.audit TO rowhouse_ctl_auth;

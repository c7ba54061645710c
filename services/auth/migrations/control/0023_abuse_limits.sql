-- Devices that somebody has logged in with: who shows the secret of one is not counted with strangers. And bounds on rows: on the
-- refreshes of a session, the sessions of an account, API keys and invitations that have ended. And from where a session was used
-- last, so that it is known there while others present invented tokens.
--
-- Locks: a new table; for an instant identities against writes and auth.sessions exclusively. No row is read here: 0024 checks
-- those that there are and builds the indexes. Safe for code that is already running: yes; it hands no secrets of devices out and
-- looks at none, counts no refreshes and ends no session for another.

SET LOCAL lock_timeout = '5s';

CREATE TABLE auth.devices (
    -- SHA-256 of the secret.
    secret_hash bytea NOT NULL,
    identity_id uuid NOT NULL,
    -- Whether it was ever shown again: what never was gives way first.
    shown boolean NOT NULL DEFAULT false,
    -- Wrong passwords and codes since the last right one.
    wrong int NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    used_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT devices_pkey PRIMARY KEY (secret_hash),
    CONSTRAINT devices_identity FOREIGN KEY (identity_id) REFERENCES auth.identities (id) ON DELETE CASCADE,
    CONSTRAINT devices_wrong CHECK (wrong >= 0)
);
CREATE INDEX devices_of_identity ON auth.devices (identity_id);
CREATE INDEX devices_by_use ON auth.devices (used_at);

GRANT SELECT, INSERT, UPDATE, DELETE ON auth.devices TO rowhouse_ctl_auth;

-- How often it was refreshed: each time leaves a row.
ALTER TABLE auth.sessions ADD COLUMN refreshes bigint NOT NULL DEFAULT 0;
ALTER TABLE auth.sessions DROP CONSTRAINT sessions_revoke_reason;
ALTER TABLE auth.sessions ADD CONSTRAINT sessions_revoke_reason CHECK (revoke_reason IN
    ('logout', 'refresh_reuse', 'member_disabled', 'member_removed', 'revoked', 'password_changed', 'too_many')) NOT VALID;

-- A digest, as in auth.api_keys; and the token that was used last, whose answer may have been lost. Both null before the first
-- log-in or refresh from now on.
ALTER TABLE auth.sessions ADD COLUMN origin bytea, ADD COLUMN used_token bytea;

GRANT DELETE ON auth.invitations TO rowhouse_ctl_auth;

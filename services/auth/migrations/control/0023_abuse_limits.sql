-- Devices that somebody has logged in with: who shows the secret of one is not counted with strangers.
--
-- Locks: a new table; for an instant identities against writes. Safe for code that is already running: yes; it hands no secrets out
-- and looks at none.

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

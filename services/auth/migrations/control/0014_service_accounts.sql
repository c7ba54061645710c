-- Programs act in a tenant: service accounts with a role, and API keys that are exchanged for access tokens.
--
-- Locks: new tables; for an instant invitations and memberships against everything, tenants and roles against writes. Safe for
-- old code: yes; it finds no person behind such a token and refuses it.

SET LOCAL lock_timeout = '5s';

CREATE TABLE auth.service_accounts (
    tenant_id uuid NOT NULL,
    -- As a user's id it is the account's name as owner of records and in audit logs.
    id uuid NOT NULL,
    display_name text NOT NULL,
    name_key text NOT NULL GENERATED ALWAYS AS (lower(display_name)) STORED,
    role text NOT NULL,
    -- The tenant's own role that it has; null for the three that every tenant has. A role that is held cannot be deleted.
    own_role text GENERATED ALWAYS AS (CASE WHEN role NOT IN ('tenant_admin', 'manager', 'user') THEN role END) STORED,
    state text NOT NULL DEFAULT 'active',
    revision bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT service_accounts_pkey PRIMARY KEY (tenant_id, id),
    CONSTRAINT service_accounts_name_key UNIQUE (tenant_id, name_key),
    CONSTRAINT service_accounts_tenant FOREIGN KEY (tenant_id) REFERENCES auth.tenants (id) ON DELETE CASCADE,
    CONSTRAINT service_accounts_own_role FOREIGN KEY (tenant_id, own_role) REFERENCES auth.roles (tenant_id, name),
    CONSTRAINT service_accounts_state CHECK (state IN ('active', 'disabled'))
);
CREATE INDEX service_accounts_by_role ON auth.service_accounts (tenant_id, own_role) WHERE own_role IS NOT NULL;

-- A key is good until it is revoked or expires. In the tokens that are issued for it, its id is that of the session.
CREATE TABLE auth.api_keys (
    tenant_id uuid NOT NULL,
    service_account_id uuid NOT NULL,
    id uuid NOT NULL,
    -- What people recognise a key by: its first characters.
    prefix text NOT NULL,
    key_hash bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    revoked_at timestamptz,
    -- To the minute.
    used_at timestamptz,
    -- Who made it and so knows it: it ends with their rights.
    created_by uuid NOT NULL,
    CONSTRAINT api_keys_pkey PRIMARY KEY (tenant_id, id),
    CONSTRAINT api_keys_key_hash UNIQUE (key_hash),
    CONSTRAINT api_keys_account FOREIGN KEY (tenant_id, service_account_id)
        REFERENCES auth.service_accounts (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX api_keys_of_creator ON auth.api_keys (tenant_id, created_by) WHERE revoked_at IS NULL;
CREATE INDEX api_keys_of_account ON auth.api_keys (tenant_id, service_account_id, id);

-- Service accounts invite too, and what they have sent ends with their rights as what members have sent does.
ALTER TABLE auth.invitations DROP CONSTRAINT invitations_invited_by;

GRANT SELECT, INSERT, UPDATE, DELETE ON auth.service_accounts, auth.api_keys TO rowhouse_ctl_auth;

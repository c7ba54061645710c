-- Who there is: tenants as auth knows them, persons, and what ties the two together.
-- Locks: only new tables. Safe for code that is already running: yes.

-- What auth knows of a tenant. The tenant service owns tenants; it tells us by provisioning calls.
CREATE TABLE auth.tenants (
    id uuid NOT NULL,
    display_name text NOT NULL,
    access text NOT NULL,
    -- The last operation that set `access`, and the version of the rights that holds it.
    access_operation uuid,
    access_version bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT tenants_pkey PRIMARY KEY (id),
    CONSTRAINT tenants_access CHECK (access IN ('pending', 'allowed', 'suspended'))
);

-- One row per person, whatever tenants they belong to. The address is compared without regard to case.
CREATE TABLE auth.identities (
    id uuid NOT NULL,
    email text NOT NULL,
    email_key text NOT NULL GENERATED ALWAYS AS (lower(email)) STORED,
    display_name text NOT NULL,
    -- Argon2id in PHC string format, parameters included.
    password_hash text NOT NULL,
    state text NOT NULL DEFAULT 'active',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT identities_pkey PRIMARY KEY (id),
    CONSTRAINT identities_email_key UNIQUE (email_key),
    CONSTRAINT identities_state CHECK (state IN ('active', 'disabled'))
);

CREATE TABLE auth.memberships (
    tenant_id uuid NOT NULL,
    identity_id uuid NOT NULL,
    role text NOT NULL,
    state text NOT NULL DEFAULT 'active',
    revision bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT memberships_pkey PRIMARY KEY (tenant_id, identity_id),
    CONSTRAINT memberships_tenant FOREIGN KEY (tenant_id) REFERENCES auth.tenants (id),
    CONSTRAINT memberships_identity FOREIGN KEY (identity_id) REFERENCES auth.identities (id),
    CONSTRAINT memberships_role CHECK (role IN ('tenant_admin', 'manager', 'user')),
    CONSTRAINT memberships_state CHECK (state IN ('active', 'disabled'))
);
CREATE INDEX memberships_by_age ON auth.memberships (tenant_id, created_at, identity_id);
CREATE INDEX memberships_by_identity ON auth.memberships (identity_id);

-- What a person may do on the platform itself.
CREATE TABLE auth.platform_grants (
    identity_id uuid NOT NULL,
    role text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT platform_grants_pkey PRIMARY KEY (identity_id),
    CONSTRAINT platform_grants_identity FOREIGN KEY (identity_id) REFERENCES auth.identities (id),
    CONSTRAINT platform_grants_role CHECK (role IN ('super_admin'))
);

-- The link's token is HMAC(key, id || nonce), made when the mail is written; here lies only its SHA-256.
CREATE TABLE auth.invitations (
    id uuid NOT NULL,
    tenant_id uuid NOT NULL,
    email text NOT NULL,
    email_key text NOT NULL GENERATED ALWAYS AS (lower(email)) STORED,
    role text NOT NULL,
    nonce bytea NOT NULL,
    token_hash bytea NOT NULL,
    state text NOT NULL DEFAULT 'open',
    -- The provisioning operation that invites a tenant's first administrator.
    operation_id uuid,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    accepted_by uuid,
    CONSTRAINT invitations_pkey PRIMARY KEY (id),
    CONSTRAINT invitations_token_hash UNIQUE (token_hash),
    CONSTRAINT invitations_operation UNIQUE (operation_id),
    CONSTRAINT invitations_tenant FOREIGN KEY (tenant_id) REFERENCES auth.tenants (id),
    CONSTRAINT invitations_accepted_by FOREIGN KEY (accepted_by) REFERENCES auth.identities (id),
    CONSTRAINT invitations_role CHECK (role IN ('tenant_admin', 'manager', 'user')),
    CONSTRAINT invitations_state CHECK (state IN ('open', 'accepted', 'superseded'))
);
-- A newer invitation of the same address replaces the open one, so that an old link cannot give another role.
CREATE UNIQUE INDEX invitations_one_open ON auth.invitations (tenant_id, email_key) WHERE state = 'open';

-- Tenants compose roles of their own.
--
-- Locks: memberships and invitations are rewritten for their new column under ACCESS EXCLUSIVE: about a second for a
-- million rows. Safe for old code: it knows no role but the three, so create the first role when it is gone.

SET LOCAL lock_timeout = '5s';

CREATE TABLE auth.roles (
    tenant_id uuid NOT NULL,
    name text NOT NULL,
    display_name text NOT NULL,
    -- resource:action, * standing for any.
    permissions text[] NOT NULL,
    revision bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT roles_pkey PRIMARY KEY (tenant_id, name),
    CONSTRAINT roles_tenant FOREIGN KEY (tenant_id) REFERENCES auth.tenants (id) ON DELETE CASCADE,
    CONSTRAINT roles_name CHECK (name ~ '^[a-z][a-z0-9_]{1,62}$'
        AND name NOT IN ('super_admin', 'tenant_admin', 'manager', 'user')),
    CONSTRAINT roles_permissions CHECK (cardinality(permissions) BETWEEN 1 AND 100)
);

-- The tenant's own role that somebody has, or would get; null for the three that every tenant has. A role that is held
-- cannot be deleted.
ALTER TABLE auth.memberships DROP CONSTRAINT memberships_role;
ALTER TABLE auth.memberships ADD COLUMN own_role text GENERATED ALWAYS AS
    (CASE WHEN state <> 'removed' AND role NOT IN ('tenant_admin', 'manager', 'user') THEN role END) STORED;
ALTER TABLE auth.memberships ADD CONSTRAINT memberships_own_role
    FOREIGN KEY (tenant_id, own_role) REFERENCES auth.roles (tenant_id, name);
CREATE INDEX memberships_by_role ON auth.memberships (tenant_id, role);

ALTER TABLE auth.invitations DROP CONSTRAINT invitations_role;
ALTER TABLE auth.invitations ADD COLUMN own_role text GENERATED ALWAYS AS
    (CASE WHEN state = 'open' AND role NOT IN ('tenant_admin', 'manager', 'user') THEN role END) STORED;
ALTER TABLE auth.invitations ADD CONSTRAINT invitations_own_role
    FOREIGN KEY (tenant_id, own_role) REFERENCES auth.roles (tenant_id, name);
CREATE INDEX invitations_by_own_role ON auth.invitations (tenant_id, own_role) WHERE own_role IS NOT NULL;

GRANT SELECT, INSERT, UPDATE, DELETE ON auth.roles TO rowhouse_ctl_auth;

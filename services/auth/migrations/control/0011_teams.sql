-- Tenants put their members into teams, which nest: whose records a grant with @team reaches.
--
-- Locks: new tables; tenants and memberships against writes, for an instant. Safe for old code: it reads no grant with a
-- scope, so what such a grant gives is refused by processes that do not know scopes; roll out the other services before this
-- one. It also leaves the teams of a member whom it removes as they were: that member is in them for nobody, and out of them
-- before they join again.

SET LOCAL lock_timeout = '5s';

CREATE TABLE auth.teams (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    display_name text NOT NULL,
    name_key text NOT NULL GENERATED ALWAYS AS (lower(display_name)) STORED,
    -- The team above it; null for one at the top.
    parent_id uuid,
    revision bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT teams_pkey PRIMARY KEY (tenant_id, id),
    CONSTRAINT teams_name_key UNIQUE (tenant_id, name_key),
    CONSTRAINT teams_tenant FOREIGN KEY (tenant_id) REFERENCES auth.tenants (id) ON DELETE CASCADE,
    CONSTRAINT teams_parent FOREIGN KEY (tenant_id, parent_id) REFERENCES auth.teams (tenant_id, id),
    -- Longer circles are refused under the tenant's lock.
    CONSTRAINT teams_not_beneath_itself CHECK (parent_id <> id)
);
CREATE INDEX teams_by_parent ON auth.teams (tenant_id, parent_id);

CREATE TABLE auth.team_members (
    tenant_id uuid NOT NULL,
    team_id uuid NOT NULL,
    identity_id uuid NOT NULL,
    manages boolean NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT team_members_pkey PRIMARY KEY (tenant_id, team_id, identity_id),
    CONSTRAINT team_members_team FOREIGN KEY (tenant_id, team_id) REFERENCES auth.teams (tenant_id, id) ON DELETE CASCADE,
    CONSTRAINT team_members_member FOREIGN KEY (tenant_id, identity_id)
        REFERENCES auth.memberships (tenant_id, identity_id) ON DELETE CASCADE
);
CREATE INDEX team_members_by_person ON auth.team_members (tenant_id, identity_id);

GRANT SELECT, INSERT, UPDATE, DELETE ON auth.teams, auth.team_members TO rowhouse_ctl_auth;

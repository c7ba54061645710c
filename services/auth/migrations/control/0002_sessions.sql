-- Log-ins, their refresh tokens, and the keys that sign access tokens.
-- Locks: only new tables. Safe for code that is already running: yes.

CREATE TABLE auth.sessions (
    id uuid NOT NULL,
    identity_id uuid NOT NULL,
    -- Null for a platform operator.
    tenant_id uuid,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    revoked_at timestamptz,
    revoke_reason text,
    CONSTRAINT sessions_pkey PRIMARY KEY (id),
    CONSTRAINT sessions_identity FOREIGN KEY (identity_id) REFERENCES auth.identities (id),
    CONSTRAINT sessions_tenant FOREIGN KEY (tenant_id) REFERENCES auth.tenants (id),
    CONSTRAINT sessions_revoke_reason CHECK (revoke_reason IN ('logout', 'refresh_reuse', 'member_disabled')),
    CONSTRAINT sessions_revoked CHECK ((revoked_at IS NULL) = (revoke_reason IS NULL))
);
CREATE INDEX sessions_of_member ON auth.sessions (identity_id, tenant_id) WHERE revoked_at IS NULL;
CREATE INDEX sessions_by_expiry ON auth.sessions (expires_at);

-- One row per token handed out; only its SHA-256 is kept. A token that was used names its successor.
CREATE TABLE auth.refresh_tokens (
    token_hash bytea NOT NULL,
    session_id uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    used_at timestamptz,
    successor_hash bytea,
    revoked_at timestamptz,
    CONSTRAINT refresh_tokens_pkey PRIMARY KEY (token_hash),
    CONSTRAINT refresh_tokens_session FOREIGN KEY (session_id) REFERENCES auth.sessions (id) ON DELETE CASCADE,
    CONSTRAINT refresh_tokens_used CHECK ((used_at IS NULL) = (successor_hash IS NULL))
);
CREATE INDEX refresh_tokens_of_session ON auth.refresh_tokens (session_id);
-- At most one token of a session can be used for the first time: a family never forks.
CREATE UNIQUE INDEX refresh_tokens_one_live ON auth.refresh_tokens (session_id)
    WHERE used_at IS NULL AND revoked_at IS NULL;

-- Private keys are sealed (AES-256-GCM) under a key derived from the master key, with the key id as associated data.
CREATE TABLE auth.signing_keys (
    kid text NOT NULL,
    public_key bytea NOT NULL,
    sealed_private_key bytea NOT NULL,
    -- active: signs and verifies; published: verifies only; retired: neither.
    state text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT signing_keys_pkey PRIMARY KEY (kid),
    CONSTRAINT signing_keys_state CHECK (state IN ('active', 'published', 'retired'))
);
CREATE UNIQUE INDEX signing_keys_one_active ON auth.signing_keys (state) WHERE state = 'active';

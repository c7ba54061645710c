-- What was asked, what was done, and what others must hear of.
-- Locks: only new tables. Safe for code that is already running: yes.

-- Answers to calls that clients may repeat (request_id), kept for 24 hours.
CREATE TABLE auth.requests (
    tenant_id uuid NOT NULL,
    method text NOT NULL,
    request_id uuid NOT NULL,
    -- SHA-256 of what was asked and by whom.
    fingerprint bytea NOT NULL,
    resource_id uuid NOT NULL,
    expires_at timestamptz NOT NULL,
    CONSTRAINT requests_pkey PRIMARY KEY (tenant_id, method, request_id)
);
CREATE INDEX requests_by_expiry ON auth.requests (expires_at);

-- Every change, written in its transaction. Holds no secret and no address of a person.
CREATE TABLE auth.audit (
    id uuid NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    tenant_id uuid,
    actor text NOT NULL,
    on_behalf_of text,
    action text NOT NULL,
    target text NOT NULL,
    before jsonb,
    after jsonb,
    -- Why a platform operator acted in the tenant.
    reason text,
    address text,
    request_id text NOT NULL,
    outcome text NOT NULL,
    CONSTRAINT audit_pkey PRIMARY KEY (id)
);
CREATE INDEX audit_by_tenant ON auth.audit (tenant_id, at);

-- Events on their way to the broker. The same columns as every outbox of the suite.
CREATE TABLE auth.outbox (
    id uuid NOT NULL,
    tenant_id uuid,
    kind text NOT NULL,
    payload jsonb NOT NULL,
    request_id text NOT NULL,
    traceparent text,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT outbox_pkey PRIMARY KEY (id)
);
CREATE INDEX outbox_by_age ON auth.outbox (created_at);

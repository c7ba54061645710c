-- Reports, mails, and what makes calls and messages repeatable.
-- Locks: only new tables. Safe for code that is already running: yes.

CREATE TABLE worker.reports (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    kind text NOT NULL,
    state text NOT NULL DEFAULT 'queued',
    requester_id uuid NOT NULL,
    -- Whether the requester acted as a platform operator, and then why.
    platform boolean NOT NULL,
    reason text,
    -- Counts those who began to make it. Only the last of them may finish it.
    attempt integer NOT NULL DEFAULT 0,
    progress_percent integer NOT NULL DEFAULT 0,
    row_count bigint,
    size_bytes bigint,
    file text,
    failure text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    CONSTRAINT reports_pkey PRIMARY KEY (tenant_id, id),
    CONSTRAINT reports_kind CHECK (kind IN ('contacts')),
    CONSTRAINT reports_state CHECK (state IN ('queued', 'running', 'succeeded', 'failed')),
    CONSTRAINT reports_progress CHECK (progress_percent BETWEEN 0 AND 100),
    CONSTRAINT reports_file CHECK ((state = 'succeeded') = (file IS NOT NULL)),
    CONSTRAINT reports_failure CHECK ((state = 'failed') = (failure IS NOT NULL)),
    CONSTRAINT reports_end CHECK ((state IN ('succeeded', 'failed')) = (finished_at IS NOT NULL))
);

-- Answers to calls that clients may repeat (request_id), kept for 24 hours.
CREATE TABLE worker.requests (
    tenant_id uuid NOT NULL,
    method text NOT NULL,
    request_id uuid NOT NULL,
    -- SHA-256 of what was asked and by whom.
    fingerprint bytea NOT NULL,
    resource_id uuid NOT NULL,
    expires_at timestamptz NOT NULL,
    CONSTRAINT requests_pkey PRIMARY KEY (tenant_id, method, request_id)
);
CREATE INDEX requests_by_expiry ON worker.requests (expires_at);

-- Mails by the event that they tell of, which also makes their Message-ID. A row is there before anything is sent. No
-- address and no text: whoever wants those asks their owner.
CREATE TABLE worker.mails (
    message_id uuid NOT NULL,
    tenant_id uuid,
    kind text NOT NULL,
    state text NOT NULL DEFAULT 'open',
    attempts integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT mails_pkey PRIMARY KEY (message_id),
    CONSTRAINT mails_state CHECK (state IN ('open', 'sent', 'void'))
);

-- Every change, written in its transaction. Holds no secret and no address of a person.
CREATE TABLE worker.audit (
    id uuid NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    tenant_id uuid,
    actor text NOT NULL,
    on_behalf_of text,
    action text NOT NULL,
    target text NOT NULL,
    before jsonb,
    after jsonb,
    reason text,
    address text,
    request_id text NOT NULL,
    outcome text NOT NULL,
    CONSTRAINT audit_pkey PRIMARY KEY (id)
);
CREATE INDEX audit_by_tenant ON worker.audit (tenant_id, at);

-- Events on their way to the broker. The same columns as every outbox of the suite.
CREATE TABLE worker.outbox (
    id uuid NOT NULL,
    tenant_id uuid,
    kind text NOT NULL,
    payload jsonb NOT NULL,
    request_id text NOT NULL,
    traceparent text,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT outbox_pkey PRIMARY KEY (id)
);
CREATE INDEX outbox_by_age ON worker.outbox (created_at, id);

-- Counted before they are made, so that one that brings the process down has been counted too.
CREATE TABLE worker.attempts (
    queue text NOT NULL,
    message_id uuid NOT NULL,
    kind text NOT NULL,
    attempts integer NOT NULL,
    last_error text,
    parked_at timestamptz,
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT attempts_pkey PRIMARY KEY (queue, message_id)
);
CREATE INDEX attempts_parked ON worker.attempts (parked_at) WHERE parked_at IS NOT NULL;

-- Messages whose effect is committed, written with it.
CREATE TABLE worker.processed (
    queue text NOT NULL,
    message_id uuid NOT NULL,
    processed_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT processed_pkey PRIMARY KEY (queue, message_id)
);
CREATE INDEX processed_by_age ON worker.processed (processed_at);

-- What the service's own login may do, table by table. Audit entries can be added and read, never changed.
GRANT USAGE ON SCHEMA worker TO rowhouse_ctl_worker;
GRANT SELECT, INSERT, UPDATE ON worker.reports TO rowhouse_ctl_worker;
GRANT SELECT, INSERT ON worker.audit TO rowhouse_ctl_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON
    worker.requests, worker.mails, worker.outbox, worker.attempts, worker.processed
    TO rowhouse_ctl_worker;

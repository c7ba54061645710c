-- Reserves the slug and begins provisioning, or finds what an earlier call with the same request id has made.
-- A call that comes second waits for the first at the row of `requests` and then sees its resource; all else depends
-- on that resource being ours.
--
-- A spare lends its id where one is ready on the server. It is locked first, because the row of `requests` names the id, and
-- deleted once the tenant is there; a call that makes no tenant (repeated, or the slug is taken) leaves it ready. Others
-- pass over it meanwhile and never wait.
WITH spare AS MATERIALIZED (
    SELECT tenant_id, typed_id FROM tenant.spares
    WHERE server = $8 AND placement = $7 AND state = 'ready'
    ORDER BY created_at
    LIMIT 1
    FOR UPDATE SKIP LOCKED
),
id AS MATERIALIZED (
    SELECT tenant_id, typed_id FROM spare
    UNION ALL
    SELECT $4::uuid, $18::text WHERE NOT EXISTS (SELECT FROM spare)
),
request AS (
    INSERT INTO tenant.requests (caller, method, request_id, fingerprint, resource_id, expires_at)
    SELECT $1, $24, $2, $3, id.tenant_id, now() + interval '24 hours'
    FROM id
    WHERE $2::uuid IS NOT NULL
    ON CONFLICT (caller, method, request_id) DO UPDATE SET
        fingerprint = CASE WHEN requests.expires_at > now() THEN requests.fingerprint ELSE excluded.fingerprint END,
        resource_id = CASE WHEN requests.expires_at > now() THEN requests.resource_id ELSE excluded.resource_id END,
        expires_at = CASE WHEN requests.expires_at > now() THEN requests.expires_at ELSE excluded.expires_at END
    RETURNING fingerprint, resource_id
),
chosen AS (
    SELECT fingerprint, resource_id FROM request
    UNION ALL
    SELECT $3::bytea, id.tenant_id FROM id WHERE $2::uuid IS NULL
),
created AS (
    INSERT INTO tenant.tenants (tenant_id, slug, display_name, placement, server, state, plan)
    SELECT id.tenant_id, $5, $6, $7, $8, 'provisioning', $21 FROM chosen JOIN id ON id.tenant_id = chosen.resource_id
    RETURNING tenant_id, created_at
),
taken AS (
    DELETE FROM tenant.spares USING created WHERE spares.tenant_id = created.tenant_id
    RETURNING spares.tenant_id
),
operation AS (
    INSERT INTO tenant.operations
        (operation_id, tenant_id, kind, step, payload, lease_id, lease_until, request_id, traceparent)
    SELECT $9, tenant_id, 'provision', 'prepare', $10, $11, now() + make_interval(secs => $12), $13, $14 FROM created
),
-- One entry in the tenant's log, one in the platform's.
audit AS (
    INSERT INTO tenant.audit
        (audit_id, tenant_id, actor, on_behalf_of, action, target, after, reason, address, request_id, outcome)
    SELECT entry.audit_id, entry.tenant_id, $16, $17, 'tenant.create', id.typed_id, $19, $23, $20, $13, 'accepted'
    FROM created JOIN id ON id.tenant_id = created.tenant_id
    CROSS JOIN LATERAL (VALUES ($15::uuid, id.tenant_id), ($22::uuid, NULL)) AS entry (audit_id, tenant_id)
)
SELECT chosen.resource_id, chosen.fingerprint, created.created_at, EXISTS (SELECT FROM taken) AS spare
FROM chosen LEFT JOIN created ON created.tenant_id = chosen.resource_id

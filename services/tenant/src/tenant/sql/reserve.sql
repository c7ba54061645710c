-- Reserves the slug and begins provisioning, or finds what an earlier call with the same request id has made.
-- A call that comes second waits for the first at the row of `requests` and then sees its resource; all else depends
-- on that resource being ours.
WITH request AS (
    INSERT INTO tenant.requests (caller, method, request_id, fingerprint, resource_id, expires_at)
    SELECT $1, 'CreateTenant', $2, $3, $4, now() + interval '24 hours'
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
    SELECT $3::bytea, $4::uuid WHERE $2::uuid IS NULL
),
created AS (
    INSERT INTO tenant.tenants (tenant_id, slug, display_name, placement, server, state)
    SELECT $4, $5, $6, $7, $8, 'provisioning' FROM chosen WHERE resource_id = $4
    RETURNING tenant_id, created_at
),
operation AS (
    INSERT INTO tenant.operations
        (operation_id, tenant_id, kind, step, payload, lease_id, lease_until, request_id, traceparent)
    SELECT $9, tenant_id, 'provision', 'prepare', $10, $11, now() + make_interval(secs => $12), $13, $14 FROM created
),
audit AS (
    INSERT INTO tenant.audit (audit_id, actor, on_behalf_of, action, target, after, address, request_id, outcome)
    SELECT $15, $16, $17, 'tenant.create', $18, $19, $20, $13, 'accepted' FROM created
)
SELECT chosen.resource_id, chosen.fingerprint, created.created_at
FROM chosen LEFT JOIN created ON created.tenant_id = chosen.resource_id

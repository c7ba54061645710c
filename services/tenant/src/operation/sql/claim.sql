-- Takes the lease of one operation that is due and that no living process holds: the oldest, or the one asked for.
WITH due AS (
    SELECT operation_id FROM tenant.operations
    WHERE finished_at IS NULL AND next_at <= now() AND (lease_until IS NULL OR lease_until <= now())
        AND operation_id = coalesce($3, operation_id)
    ORDER BY next_at
    LIMIT 1
    FOR UPDATE SKIP LOCKED
)
UPDATE tenant.operations SET lease_id = $1, lease_until = now() + make_interval(secs => $2)
FROM due, tenant.tenants
WHERE operations.operation_id = due.operation_id AND tenants.tenant_id = operations.tenant_id
RETURNING operations.operation_id, operations.kind, operations.step, operations.attempts, operations.tenant_id,
    operations.payload, operations.request_id, operations.traceparent,
    tenants.display_name, tenants.server, tenants.placement

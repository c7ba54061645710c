-- A home whose statement timeout is not the one of its tenant's plan. A tenant that is being provisioned has its home's
-- line when it is active.
SELECT homes.tenant_id, homes.participant, homes.server, wanted.statement_timeout_ms
FROM tenant.homes
JOIN tenant.tenants ON tenants.tenant_id = homes.tenant_id
JOIN tenant.plans ON plans.name = tenants.plan
CROSS JOIN LATERAL (
    SELECT coalesce(
        (tenants.limit_overrides ->> 'statement_timeout_ms')::integer,
        (plans.limits ->> 'statement_timeout_ms')::integer
    ) AS statement_timeout_ms
) AS wanted
WHERE homes.statement_timeout_ms IS DISTINCT FROM wanted.statement_timeout_ms
    AND ($1::uuid IS NULL OR homes.tenant_id = $1)
ORDER BY homes.tenant_id, homes.participant
LIMIT 1
FOR UPDATE OF homes SKIP LOCKED

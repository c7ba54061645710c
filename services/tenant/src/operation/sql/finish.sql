-- Records the last step: the operation ends, the tenant takes its final state, the audit log says so, and the event is put
-- into the outbox, all or nothing. No row is answered where the lease is no longer ours. The payload is dropped: it holds an
-- address that nobody needs any more.
WITH done AS (
    UPDATE tenant.operations
    SET step = 'done', finished_at = now(), attempts = 0, last_error = NULL, payload = '{}',
        lease_id = NULL, lease_until = NULL
    WHERE operation_id = $1 AND lease_id = $2 AND step = $3
    RETURNING tenant_id, request_id, traceparent
),
homes AS (
    INSERT INTO tenant.homes (tenant_id, participant, server, placement, generation, version, state)
    SELECT done.tenant_id, home.participant, home.server, home.placement, home.generation, home.version, home.state
    FROM done, unnest($4::text[], $5::text[], $6::text[], $7::bigint[], $8::integer[], $9::text[])
        AS home (participant, server, placement, generation, version, state)
    ON CONFLICT (tenant_id, participant) DO UPDATE SET
        server = excluded.server, placement = excluded.placement, generation = excluded.generation,
        version = excluded.version, state = excluded.state, updated_at = now()
    WHERE homes.generation <= excluded.generation
),
changed AS (
    UPDATE tenant.tenants SET state = $11, revision = revision + 1, updated_at = now()
    FROM done
    WHERE tenants.tenant_id = done.tenant_id AND tenants.state = $10
    RETURNING tenants.tenant_id, tenants.slug, tenants.display_name, tenants.placement, tenants.server, tenants.state,
        tenants.revision, tenants.created_at, tenants.updated_at, tenants.deleted_at, tenants.purge_at,
        tenants.plan, tenants.limit_overrides
),
-- As it is now, and as it stays until the homes are in the directory: who changes a plan locks its line, so that one who came
-- before is waited for, and one who comes after finds the homes. A plan that is newer than the snapshot is not found.
plan AS (
    SELECT plans.limits FROM changed JOIN tenant.plans ON plans.name = changed.plan
    FOR KEY SHARE OF plans
),
emitted AS (
    INSERT INTO tenant.outbox (id, tenant_id, kind, payload, request_id, traceparent)
    SELECT $12, done.tenant_id, $13, $14, done.request_id, done.traceparent
    FROM done, changed
    WHERE $13::text IS NOT NULL
),
-- Who wanted it and why, the entry says that was written when it was accepted. A caller may use a request id again: the newest
-- is this operation's, for a tenant has one at a time.
audited AS (
    INSERT INTO tenant.audit
        (audit_id, tenant_id, actor, on_behalf_of, action, target, before, after, reason, address, request_id, outcome)
    SELECT entry.audit_id, entry.tenant_id, accepted.actor, accepted.on_behalf_of, accepted.action, accepted.target, $17, $18,
        accepted.reason, accepted.address, accepted.request_id, 'done'
    FROM done JOIN changed ON changed.tenant_id = done.tenant_id
    CROSS JOIN LATERAL (
        SELECT actor, on_behalf_of, action, target, reason, address, request_id FROM tenant.audit
        WHERE target = $15 AND action = $16 AND request_id = done.request_id AND outcome = 'accepted'
        ORDER BY at DESC, audit_id DESC
        LIMIT 1
    ) AS accepted
    CROSS JOIN LATERAL (VALUES ($19::uuid, done.tenant_id), ($20::uuid, NULL)) AS entry (audit_id, tenant_id)
)
SELECT tenant_id, slug, display_name, placement, server, state, revision, created_at, updated_at, deleted_at, purge_at,
    -- Of a plan that is not found nothing is known.
    NOT EXISTS (
        SELECT FROM plan
        WHERE coalesce(
            changed.limit_overrides ->> 'statement_timeout_ms', plan.limits ->> 'statement_timeout_ms'
        ) IS NULL
    ) AS has_statement_timeout
FROM changed

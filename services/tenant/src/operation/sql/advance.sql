-- Records a step that is not the last, with what it did to the tenant's homes. Nothing happens, and 0 is answered,
-- where the lease is no longer ours or the step was recorded before.
WITH advanced AS (
    UPDATE tenant.operations
    SET step = $4, attempts = 0, last_error = NULL, lease_until = now() + make_interval(secs => $5)
    WHERE operation_id = $1 AND lease_id = $2 AND step = $3
    RETURNING tenant_id
),
homes AS (
    INSERT INTO tenant.homes (tenant_id, participant, server, placement, generation, version, state)
    SELECT advanced.tenant_id, home.participant, home.server, home.placement, home.generation, home.version, home.state
    FROM advanced, unnest($6::text[], $7::text[], $8::text[], $9::bigint[], $10::integer[], $11::text[])
        AS home (participant, server, placement, generation, version, state)
    ON CONFLICT (tenant_id, participant) DO UPDATE SET
        server = excluded.server, placement = excluded.placement, generation = excluded.generation,
        version = excluded.version, state = excluded.state, updated_at = now()
    WHERE homes.generation <= excluded.generation
)
SELECT count(*) FROM advanced

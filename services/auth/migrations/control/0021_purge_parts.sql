-- The purge of a tenant removes all that there is of it in bounded parts, and locks rows in the order of everybody.
--
-- Why: teams and who is in them, service accounts with their keys, and roles went with the tenant's row, all at once and counted
-- nowhere. And accounts were locked after their sessions, which everybody else locks the other way round: PostgreSQL ended one of
-- the two.
-- Locks: a short one on the function. Safe for code that is already running: yes; the purge answers five more kinds.

SET LOCAL lock_timeout = '5s';

-- As before (0006): removes at most `most` rows of a suspended tenant; of accounts a tenth as many, for what goes with each. The
-- call that leaves nothing removes the tenant itself: `ended`.
CREATE OR REPLACE FUNCTION auth.purge_tenant(
    purged uuid, operation uuid, most bigint, OUT removed jsonb, OUT done boolean, OUT ended boolean
)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    -- Each with the statement that removes some: of the tenant $1, at most $2. What refers to others goes before them; invitations,
    -- keys and sessions in this order and in that of their ids, as an operator's end and a new password lock them meanwhile.
    parts CONSTANT text[] := ARRAY[
        ['events', 'DELETE FROM auth.outbox WHERE id IN (SELECT id FROM auth.outbox WHERE tenant_id = $1 LIMIT $2)'],
        ['request_ids', 'DELETE FROM auth.requests WHERE tenant_id = $1 AND (method, request_id) IN
            (SELECT method, request_id FROM auth.requests WHERE tenant_id = $1 LIMIT $2)'],
        ['invitations', 'DELETE FROM auth.invitations WHERE id IN (SELECT id FROM auth.invitations WHERE id IN
            (SELECT id FROM auth.invitations WHERE tenant_id = $1 LIMIT $2) ORDER BY id FOR UPDATE)'],
        ['api_keys', 'DELETE FROM auth.api_keys WHERE tenant_id = $1 AND id IN
            (SELECT id FROM auth.api_keys WHERE tenant_id = $1 ORDER BY id LIMIT $2 FOR UPDATE)'],
        ['service_accounts', 'DELETE FROM auth.service_accounts WHERE tenant_id = $1 AND id IN
            (SELECT id FROM auth.service_accounts WHERE tenant_id = $1 LIMIT $2)'],
        ['team_members', 'DELETE FROM auth.team_members WHERE tenant_id = $1 AND (team_id, identity_id) IN
            (SELECT team_id, identity_id FROM auth.team_members WHERE tenant_id = $1 LIMIT $2)'],
        -- Those with none beneath them; then those that were above these.
        ['teams', 'DELETE FROM auth.teams WHERE tenant_id = $1 AND id IN (SELECT id FROM auth.teams AS team WHERE tenant_id = $1
            AND NOT EXISTS (SELECT FROM auth.teams AS beneath WHERE beneath.tenant_id = $1 AND beneath.parent_id = team.id)
            LIMIT $2)'],
        ['refresh_tokens', 'DELETE FROM auth.refresh_tokens WHERE token_hash IN (SELECT token.token_hash
            FROM auth.sessions AS session JOIN auth.refresh_tokens AS token ON token.session_id = session.id
            WHERE session.tenant_id = $1 LIMIT $2)'],
        ['sessions', 'DELETE FROM auth.sessions WHERE id IN (SELECT id FROM auth.sessions WHERE id IN
            (SELECT id FROM auth.sessions WHERE tenant_id = $1 LIMIT $2) ORDER BY id FOR UPDATE)'],
        -- Members refer to roles.
        ['roles', 'DELETE FROM auth.roles WHERE tenant_id = $1 AND name IN
            (SELECT name FROM auth.roles WHERE tenant_id = $1 LIMIT $2)
            AND NOT EXISTS (SELECT FROM auth.memberships WHERE tenant_id = $1)']
    ];
    part text[];
    access text;
    persons uuid[];
    count_of bigint;
    places bigint := most;
BEGIN
    ended := false;
    SELECT tenant.access INTO access FROM auth.tenants AS tenant WHERE tenant.id = purged FOR UPDATE;
    IF access <> 'suspended' THEN
        RAISE EXCEPTION 'a tenant that is % is not purged', access
            USING ERRCODE = 'check_violation', CONSTRAINT = 'purges_suspended';
    END IF;
    INSERT INTO auth.purges (tenant_id, operation_id) VALUES (purged, operation) ON CONFLICT (tenant_id) DO NOTHING;
    SELECT purge.removed, purge.finished_at IS NOT NULL INTO removed, done
    FROM auth.purges AS purge WHERE purge.tenant_id = purged FOR UPDATE;
    IF done THEN
        RETURN;
    END IF;

    FOREACH part SLICE 1 IN ARRAY parts LOOP
        -- Where there are places left afterwards, there are none of these any more.
        LOOP
            EXECUTE part[2] USING purged, places;
            GET DIAGNOSTICS count_of = ROW_COUNT;
            places := places - count_of;
            removed := removed || jsonb_build_object(part[1], coalesce((removed ->> part[1])::bigint, 0) + count_of);
            EXIT WHEN count_of = 0;
        END LOOP;
    END LOOP;

    -- Whoever is at their account has locked it before all else. So members go in a call that holds nothing else, and those whose
    -- account somebody is at are left for the next. With an account go up to ten recovery codes, therefore a tenth at once.
    IF places = most THEN
        WITH person AS (
            SELECT account.id FROM auth.memberships AS member JOIN auth.identities AS account ON account.id = member.identity_id
            WHERE member.tenant_id = purged LIMIT greatest(most / 10, 1) FOR UPDATE OF account SKIP LOCKED
        ), gone AS (
            DELETE FROM auth.memberships WHERE tenant_id = purged AND identity_id IN (SELECT person.id FROM person)
            RETURNING identity_id
        )
        SELECT array_agg(gone.identity_id), count(*) INTO persons, count_of FROM gone;
        removed := removed || jsonb_build_object('memberships', coalesce((removed ->> 'memberships')::bigint, 0) + count_of);

        -- The accounts that belong nowhere else.
        DELETE FROM auth.identities AS person WHERE person.id = ANY (persons)
            AND NOT EXISTS (SELECT FROM auth.memberships WHERE identity_id = person.id)
            AND NOT EXISTS (SELECT FROM auth.platform_grants WHERE identity_id = person.id)
            AND NOT EXISTS (SELECT FROM auth.sessions WHERE identity_id = person.id)
            AND NOT EXISTS (SELECT FROM auth.invitations WHERE accepted_by = person.id);
        GET DIAGNOSTICS count_of = ROW_COUNT;
        removed := removed || jsonb_build_object('accounts', coalesce((removed ->> 'accounts')::bigint, 0) + count_of);

        done := NOT EXISTS (SELECT FROM auth.memberships WHERE tenant_id = purged)
            AND NOT EXISTS (SELECT FROM auth.roles WHERE tenant_id = purged);
    END IF;
    IF done THEN
        DELETE FROM auth.tenants WHERE id = purged;
        ended := true;
    END IF;
    UPDATE auth.purges SET removed = purge_tenant.removed, finished_at = CASE WHEN done THEN now() END
    WHERE tenant_id = purged;
END
$$;

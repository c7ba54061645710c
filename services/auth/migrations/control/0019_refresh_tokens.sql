-- Refresh tokens go in bounded parts: those of sessions that were ended are found by when, and the purge of a tenant counts them.
--
-- Why: a session that is used all day has 26,000 by its end, which went with it at once.
-- Locks: writes to auth.sessions wait while the index is built: about a second for a million rows. So log-ins, log-outs and
-- whatever else ends sessions wait that long; refreshes and judgements of access tokens only read and lock rows there, and go on.
-- Not CONCURRENTLY: that waits for every transaction, also for one that waits to migrate until this one is done. Safe for code
-- that is already running: yes; the purge answers one more kind.

SET LOCAL lock_timeout = '5s';

CREATE INDEX sessions_by_end ON auth.sessions (revoked_at) WHERE revoked_at IS NOT NULL;

-- As before (0006), with the refresh tokens of sessions counted before the sessions.
CREATE OR REPLACE FUNCTION auth.purge_tenant(
    purged uuid, operation uuid, most bigint, OUT removed jsonb, OUT done boolean, OUT ended boolean
)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
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

    DELETE FROM auth.outbox WHERE id IN (SELECT id FROM auth.outbox WHERE tenant_id = purged LIMIT places);
    GET DIAGNOSTICS count_of = ROW_COUNT;
    places := places - count_of;
    removed := removed || jsonb_build_object('events', coalesce((removed ->> 'events')::bigint, 0) + count_of);

    DELETE FROM auth.requests WHERE tenant_id = purged AND (method, request_id) IN
        (SELECT method, request_id FROM auth.requests WHERE tenant_id = purged LIMIT places);
    GET DIAGNOSTICS count_of = ROW_COUNT;
    places := places - count_of;
    removed := removed || jsonb_build_object('request_ids', coalesce((removed ->> 'request_ids')::bigint, 0) + count_of);

    DELETE FROM auth.refresh_tokens WHERE token_hash IN (SELECT token.token_hash FROM auth.sessions AS session
        JOIN auth.refresh_tokens AS token ON token.session_id = session.id WHERE session.tenant_id = purged LIMIT places);
    GET DIAGNOSTICS count_of = ROW_COUNT;
    places := places - count_of;
    removed := removed || jsonb_build_object('refresh_tokens', coalesce((removed ->> 'refresh_tokens')::bigint, 0) + count_of);

    -- Where there are places left, no refresh token refers to these any more.
    DELETE FROM auth.sessions WHERE id IN (SELECT id FROM auth.sessions WHERE tenant_id = purged LIMIT places);
    GET DIAGNOSTICS count_of = ROW_COUNT;
    places := places - count_of;
    removed := removed || jsonb_build_object('sessions', coalesce((removed ->> 'sessions')::bigint, 0) + count_of);

    DELETE FROM auth.invitations WHERE id IN (SELECT id FROM auth.invitations WHERE tenant_id = purged LIMIT places);
    GET DIAGNOSTICS count_of = ROW_COUNT;
    places := places - count_of;
    removed := removed || jsonb_build_object('invitations', coalesce((removed ->> 'invitations')::bigint, 0) + count_of);

    -- Where there are places left, nothing above refers to these persons any more.
    WITH gone AS (
        DELETE FROM auth.memberships WHERE tenant_id = purged AND identity_id IN
            (SELECT identity_id FROM auth.memberships WHERE tenant_id = purged LIMIT places)
        RETURNING identity_id
    )
    SELECT array_agg(identity_id), count(*) INTO persons, count_of FROM gone;
    places := places - count_of;
    removed := removed || jsonb_build_object('memberships', coalesce((removed ->> 'memberships')::bigint, 0) + count_of);

    DELETE FROM auth.identities AS person WHERE person.id = ANY (persons)
        AND NOT EXISTS (SELECT FROM auth.memberships WHERE identity_id = person.id)
        AND NOT EXISTS (SELECT FROM auth.platform_grants WHERE identity_id = person.id)
        AND NOT EXISTS (SELECT FROM auth.sessions WHERE identity_id = person.id)
        AND NOT EXISTS (SELECT FROM auth.invitations WHERE accepted_by = person.id);
    GET DIAGNOSTICS count_of = ROW_COUNT;
    removed := removed || jsonb_build_object('accounts', coalesce((removed ->> 'accounts')::bigint, 0) + count_of);

    done := places > 0;
    IF done THEN
        DELETE FROM auth.tenants WHERE id = purged;
        ended := true;
    END IF;
    UPDATE auth.purges SET removed = purge_tenant.removed, finished_at = CASE WHEN done THEN now() END
    WHERE tenant_id = purged;
END
$$;

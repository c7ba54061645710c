-- Removes what there is of a deleted tenant, and remembers that it was removed.
--
-- Why: a deleted tenant's members and sessions stayed for ever.
-- Locks: writes to auth.sessions and auth.invitations wait while their indexes are built: milliseconds for thousands.
-- Safe for old code: yes, it calls none of this.

SET LOCAL lock_timeout = '5s';

-- One row for each tenant that is being purged or was. Whoever locks a tenant looks here, so that nothing late brings it back.
CREATE TABLE auth.purges (
    tenant_id    uuid        NOT NULL,
    operation_id uuid        NOT NULL,
    -- How many rows of each kind: {"memberships": 3}
    removed      jsonb       NOT NULL DEFAULT '{}',
    began_at     timestamptz NOT NULL DEFAULT now(),
    finished_at  timestamptz,
    CONSTRAINT purges_pkey PRIMARY KEY (tenant_id)
);

-- What the purge finds, and what foreign keys look up when a tenant or a person goes.
CREATE INDEX invitations_by_tenant ON auth.invitations (tenant_id);
CREATE INDEX invitations_by_acceptor ON auth.invitations (accepted_by);
CREATE INDEX sessions_by_tenant ON auth.sessions (tenant_id);
CREATE INDEX sessions_by_identity ON auth.sessions (identity_id);

-- Removes at most `most` rows of a suspended tenant, and with its last row the tenant itself. `ended`: this call removed
-- the last. The service's own login may delete nobody's account; this is the one way, and it takes only the accounts that
-- belong nowhere else.
--
-- FOR UPDATE waits for every transaction that has added a row with a reference to the tenant, and keeps others from adding
-- one meanwhile; who comes later finds no tenant to refer to.
CREATE FUNCTION auth.purge_tenant(
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

    -- Refresh tokens go with their session.
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

REVOKE ALL ON FUNCTION auth.purge_tenant(uuid, uuid, bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION auth.purge_tenant(uuid, uuid, bigint) TO rowhouse_ctl_auth;
GRANT SELECT ON auth.purges TO rowhouse_ctl_auth;

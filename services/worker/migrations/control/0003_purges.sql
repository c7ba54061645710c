-- Removes what there is of a deleted tenant, and remembers that it was removed.
--
-- Why: a deleted tenant's reports and mails stayed for ever.
-- Locks: writes to worker.mails wait while its index is built: milliseconds for thousands.
-- Safe for old code: yes, it calls none of this.

SET LOCAL lock_timeout = '5s';

-- One row for each tenant that is being purged or was. Whoever adds a report looks here first.
CREATE TABLE worker.purges (
    tenant_id    uuid        NOT NULL,
    operation_id uuid        NOT NULL,
    -- How many rows of each kind: {"reports": 3}
    removed      jsonb       NOT NULL DEFAULT '{}',
    began_at     timestamptz NOT NULL DEFAULT now(),
    finished_at  timestamptz,
    CONSTRAINT purges_pkey PRIMARY KEY (tenant_id)
);

CREATE INDEX mails_by_tenant ON worker.mails (tenant_id);

-- Removes at most `most` rows of a tenant. `ended`: this call removed the last. The service's own login may delete no
-- report; this is the one way.
--
-- The lock waits for every transaction that adds a report of the tenant; those that come later find the row of purges.
CREATE FUNCTION worker.purge_tenant(
    purged uuid, operation uuid, most bigint, OUT removed jsonb, OUT done boolean, OUT ended boolean
)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    count_of bigint;
    files bigint;
    places bigint := most;
BEGIN
    ended := false;
    PERFORM pg_advisory_xact_lock(hashtextextended(purged::text, 4802));
    INSERT INTO worker.purges (tenant_id, operation_id) VALUES (purged, operation) ON CONFLICT (tenant_id) DO NOTHING;
    SELECT purge.removed, purge.finished_at IS NOT NULL INTO removed, done
    FROM worker.purges AS purge WHERE purge.tenant_id = purged FOR UPDATE;
    IF done THEN
        RETURN;
    END IF;

    DELETE FROM worker.outbox WHERE id IN (SELECT id FROM worker.outbox WHERE tenant_id = purged LIMIT places);
    GET DIAGNOSTICS count_of = ROW_COUNT;
    places := places - count_of;
    removed := removed || jsonb_build_object('events', coalesce((removed ->> 'events')::bigint, 0) + count_of);

    DELETE FROM worker.requests WHERE tenant_id = purged AND (method, request_id) IN
        (SELECT method, request_id FROM worker.requests WHERE tenant_id = purged LIMIT places);
    GET DIAGNOSTICS count_of = ROW_COUNT;
    places := places - count_of;
    removed := removed || jsonb_build_object('request_ids', coalesce((removed ->> 'request_ids')::bigint, 0) + count_of);

    -- With a report that is queued or running its job ends: whoever has the message finds no report.
    WITH gone AS (
        DELETE FROM worker.reports WHERE tenant_id = purged AND id IN
            (SELECT id FROM worker.reports WHERE tenant_id = purged LIMIT places)
        RETURNING file
    )
    SELECT count(*), count(file) INTO count_of, files FROM gone;
    places := places - count_of;
    removed := removed || jsonb_build_object(
        'reports', coalesce((removed ->> 'reports')::bigint, 0) + count_of,
        'files', coalesce((removed ->> 'files')::bigint, 0) + files
    );

    DELETE FROM worker.mails WHERE message_id IN
        (SELECT message_id FROM worker.mails WHERE tenant_id = purged LIMIT places);
    GET DIAGNOSTICS count_of = ROW_COUNT;
    places := places - count_of;
    removed := removed || jsonb_build_object('mails', coalesce((removed ->> 'mails')::bigint, 0) + count_of);

    done := places > 0;
    ended := done;
    UPDATE worker.purges SET removed = purge_tenant.removed, finished_at = CASE WHEN done THEN now() END
    WHERE tenant_id = purged;
END
$$;

REVOKE ALL ON FUNCTION worker.purge_tenant(uuid, uuid, bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION worker.purge_tenant(uuid, uuid, bigint) TO rowhouse_ctl_worker;
GRANT SELECT ON worker.purges TO rowhouse_ctl_worker;

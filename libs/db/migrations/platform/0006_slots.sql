-- Entering over a lane: how many connections of its two lanes a tenant holds at once, over all replicas, is bounded by its
-- slots. Whoever finds all of them taken is refused at once and never waits here, where it would hold a connection.
-- The slot comes before everything that may wait (the tenant's lock, while a change of state is under way), so that not
-- more than the slots wait either. It ends with the transaction, or with the connection.
-- Locks: none. Safe for old code: it calls rowhouse.enter, which stays as it is and takes no slot.
CREATE FUNCTION rowhouse.enter_lane(
    slots integer,
    tenant uuid,
    participant text,
    generation bigint,
    mode text,
    version_min integer,
    version_max integer,
    timeout_ms integer
) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
AS $$
BEGIN
    -- Every name is qualified, and there is no SET clause, for the reasons that rowhouse.enter has.
    FOR slot IN 1 .. slots LOOP
        IF pg_catalog.pg_try_advisory_xact_lock(
            pg_catalog.hashtextextended(tenant::text, 4700 OPERATOR(pg_catalog.+) slot)
        ) THEN
            RETURN rowhouse.enter(tenant, participant, generation, mode, version_min, version_max, timeout_ms);
        END IF;
    END LOOP;
    RAISE EXCEPTION 'every slot is taken' USING ERRCODE = 'RH006';
END
$$;

REVOKE ALL ON FUNCTION rowhouse.enter_lane(integer, uuid, text, bigint, text, integer, integer, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION rowhouse.enter_lane(integer, uuid, text, bigint, text, integer, integer, integer) TO rowhouse_app;

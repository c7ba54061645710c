-- Entering a house: everything that makes a transaction one tenant's, in one call, for this transaction only.
-- Locks: none. Safe for old code: there is none.

-- One tenant's home. A definer, because nobody may read rowhouse.homes; plpgsql, which keeps its plan.
CREATE FUNCTION rowhouse.home_of(
    tenant uuid,
    wanted_participant text,
    OUT schema_name text,
    OUT generation bigint,
    OUT state text,
    OUT version integer,
    OUT statement_timeout_ms integer
)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    SELECT house.schema_name, home.generation, home.state, house.version,
           (home.limits ->> 'statement_timeout_ms')::integer
    INTO schema_name, generation, state, version, statement_timeout_ms
    FROM rowhouse.homes AS home
    JOIN rowhouse.houses AS house ON house.house_id = home.house_id
    WHERE home.tenant_id = tenant AND home.participant = wanted_participant;
END
$$;

-- Which advisory lock stands for a tenant. Two tenants that share a number only wait for each other's changes of state.
CREATE FUNCTION rowhouse.tenant_lock(tenant uuid) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT pg_catalog.hashtextextended(tenant::text, 4661) $$;

-- An invoker, because a definer may not set the role. Every name is qualified, because search_path is the caller's; a SET
-- clause would undo the search_path that is set here. Returns the home's version.
CREATE FUNCTION rowhouse.enter(
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
DECLARE
    home record;
BEGIN
    -- First the lock, then the look-up: a change of state takes the lock exclusively, so whoever passes here is seen by
    -- it, and whoever comes after it sees the new state.
    PERFORM pg_catalog.pg_advisory_xact_lock_shared(rowhouse.tenant_lock(tenant));
    home := rowhouse.home_of(tenant, participant);
    IF home.schema_name IS NULL THEN
        RAISE EXCEPTION 'no home' USING ERRCODE = 'RH001';
    END IF;
    IF home.generation OPERATOR(pg_catalog.<>) generation THEN
        RAISE EXCEPTION 'another generation' USING ERRCODE = 'RH002';
    END IF;
    IF home.version OPERATOR(pg_catalog.<) version_min OR home.version OPERATOR(pg_catalog.>) version_max THEN
        RAISE EXCEPTION 'a version that is not served' USING ERRCODE = 'RH003';
    END IF;
    IF home.state OPERATOR(pg_catalog.<>) 'active' THEN
        RAISE EXCEPTION 'the state forbids it' USING ERRCODE = 'RH004';
    END IF;
    IF mode OPERATOR(pg_catalog.<>) 'write' AND pg_catalog.current_setting('transaction_read_only') OPERATOR(pg_catalog.<>) 'on' THEN
        RAISE EXCEPTION 'a reader must be read only' USING ERRCODE = 'RH005';
    END IF;
    PERFORM
        pg_catalog.set_config('search_path', pg_catalog.format('%I, ext, pg_temp', home.schema_name), true),
        pg_catalog.set_config('rowhouse.tenant_id', tenant::text, true),
        pg_catalog.set_config('statement_timeout', LEAST(home.statement_timeout_ms, timeout_ms)::text, true);
    -- Last, for it gives up the right to be here.
    PERFORM pg_catalog.set_config('role', 'rowhouse_tenant', true);
    RETURN home.version;
END
$$;

REVOKE ALL ON FUNCTION
    rowhouse.home_of(uuid, text),
    rowhouse.tenant_lock(uuid),
    rowhouse.enter(uuid, text, bigint, text, integer, integer, integer)
FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    rowhouse.home_of(uuid, text),
    rowhouse.tenant_lock(uuid),
    rowhouse.enter(uuid, text, bigint, text, integer, integer, integer)
TO rowhouse_app;

-- Homes that may be read and not written: state `read_only`, and `enter` refuses mode `write` there. Whoever changes a home
-- to it takes the tenant's lock exclusively, so that no older transaction is left that could still write.
-- Locks: homes, exclusively, for as long as its rows are checked. Safe for old code: it orders no such state, and its
-- `enter` is replaced for all at once; it reports RH007 as a fault.
ALTER TABLE rowhouse.homes
    DROP CONSTRAINT homes_state_known,
    ADD CONSTRAINT homes_state_known CHECK (state IN ('spare', 'active', 'read_only', 'frozen', 'dropped'));

CREATE OR REPLACE FUNCTION rowhouse.enter(
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
    IF home.state OPERATOR(pg_catalog.<>) 'active' AND home.state OPERATOR(pg_catalog.<>) 'read_only' THEN
        RAISE EXCEPTION 'the state forbids it' USING ERRCODE = 'RH004';
    END IF;
    -- Every mode but `read`: below, a reader is held to a transaction that cannot write.
    IF home.state OPERATOR(pg_catalog.=) 'read_only' AND mode OPERATOR(pg_catalog.<>) 'read' THEN
        RAISE EXCEPTION 'the state forbids writing' USING ERRCODE = 'RH007';
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

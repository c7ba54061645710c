-- Cluster-wide roles of the suite. Run once per PostgreSQL cluster by a superuser: the dev stack does, an operator
-- does; migrations never touch roles (parallel GRANT and ALTER ROLE fail with 'tuple concurrently updated').
-- Passwords are set by whoever runs this, with ALTER ROLE ... PASSWORD.

-- Owns every schema and migrates. Its credentials exist in `migrate` and `provision` only.
CREATE ROLE rowhouse_owner LOGIN CREATEDB;
-- A tenant's own database is dropped with the pooler's idle connections in it: DROP DATABASE ... WITH (FORCE).
GRANT pg_signal_backend TO rowhouse_owner;

-- What a transaction becomes once it has entered a tenant's home. One role for all tenants: one role per tenant made
-- every role switch slow down with the number of memberships.
CREATE ROLE rowhouse_tenant NOLOGIN;

-- The services' login for tenants' data. NOINHERIT: without entering a home it may do nothing but enter.
CREATE ROLE rowhouse_app LOGIN NOINHERIT NOBYPASSRLS;
GRANT rowhouse_tenant TO rowhouse_app;
-- What is the same for every transaction stands here and not in each of them.
ALTER ROLE rowhouse_app SET idle_in_transaction_session_timeout = '10s';
ALTER ROLE rowhouse_app SET lock_timeout = '5s';
-- A statement whose caller has gone ends within this time: libs/db cuts its connection.
ALTER ROLE rowhouse_app SET client_connection_check_interval = '250ms';

-- Publishes the outbox.
CREATE ROLE rowhouse_relay LOGIN NOINHERIT NOBYPASSRLS;

-- Claims homes that were built ahead, seals audit entries, adds up usage.
CREATE ROLE rowhouse_keeper LOGIN NOINHERIT NOBYPASSRLS;

-- One login per service for its own schema of the control database.
CREATE ROLE rowhouse_ctl_tenant LOGIN NOINHERIT NOBYPASSRLS;
CREATE ROLE rowhouse_ctl_auth LOGIN NOINHERIT NOBYPASSRLS;
CREATE ROLE rowhouse_ctl_worker LOGIN NOINHERIT NOBYPASSRLS;

-- Tenants' own databases, each with a login of its own, named like it. What follows is run in database `postgres`, which every
-- cluster has, by an operator of a cluster that was made before this was written too.

-- PgBouncer asks by it who may log in to such a database (`auth_query`), and reads nothing else.
CREATE ROLE rowhouse_pooler LOGIN NOINHERIT NOBYPASSRLS;

-- Makes and removes those logins. Nobody logs in as it: whoever may create roles may, up to PostgreSQL 15, take over every
-- role but superusers, and run programs on the server. So the owner has two functions instead, for such logins alone.
CREATE ROLE rowhouse_registrar NOLOGIN NOINHERIT CREATEROLE;
GRANT rowhouse_tenant TO rowhouse_registrar WITH ADMIN OPTION;

-- A tenant's login may connect to its own database and to no other, and what PUBLIC may do it may do too.
REVOKE ALL ON DATABASE postgres, template1 FROM PUBLIC;
GRANT CONNECT ON DATABASE postgres TO rowhouse_owner;

CREATE SCHEMA rowhouse_logins AUTHORIZATION rowhouse_registrar;
GRANT USAGE ON SCHEMA rowhouse_logins TO rowhouse_owner;
SET ROLE rowhouse_registrar;

-- Makes the login, or gives it another password. It is to the tenant's database what rowhouse_app is to the others, with those
-- settings that stand above. The password comes as a verifier, so that no log ever has it.
CREATE FUNCTION rowhouse_logins.put(login text, verifier text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '30s'
AS $$
DECLARE
    setting text;
BEGIN
    IF login IS NULL OR login !~ '^t_[0-9a-f]{32}$' THEN
        RAISE EXCEPTION 'no name of a tenant''s database' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF verifier IS NULL OR verifier !~ '^SCRAM-SHA-256\$[0-9]+:[A-Za-z0-9+/=]+\$[A-Za-z0-9+/=]+:[A-Za-z0-9+/=]+$' THEN
        RAISE EXCEPTION 'no verifier' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = login) THEN
        EXECUTE format('ALTER ROLE %I PASSWORD %L', login, verifier);
    ELSE
        EXECUTE format(
            'CREATE ROLE %I LOGIN NOINHERIT NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD %L '
            'IN ROLE rowhouse_tenant', login, verifier);
    END IF;
    FOR setting IN
        SELECT config FROM pg_db_role_setting, unnest(setconfig) AS config
        WHERE setrole = 'rowhouse_app'::regrole AND setdatabase = 0 AND split_part(config, '=', 1) IN
            ('idle_in_transaction_session_timeout', 'lock_timeout', 'client_connection_check_interval')
    LOOP
        EXECUTE format('ALTER ROLE %I SET %I = %L', login,
            split_part(setting, '=', 1), substr(setting, strpos(setting, '=') + 1));
    END LOOP;
END
$$;

-- Removes the login, after its database.
CREATE FUNCTION rowhouse_logins.remove(login text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '30s'
AS $$
BEGIN
    IF login IS NULL OR login !~ '^t_[0-9a-f]{32}$' THEN
        RAISE EXCEPTION 'no name of a tenant''s database' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    EXECUTE format('DROP ROLE IF EXISTS %I', login);
END
$$;

REVOKE ALL ON FUNCTION rowhouse_logins.put(text, text), rowhouse_logins.remove(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION rowhouse_logins.put(text, text), rowhouse_logins.remove(text) TO rowhouse_owner;
RESET ROLE;

-- What follows is run by an operator of a cluster that was made before this was written too.
SET ROLE rowhouse_registrar;

-- Bounds how many sessions the login has at once, from wherever they come: what one tenant takes of the server leaves the lanes of
-- its neighbours there theirs.
CREATE FUNCTION rowhouse_logins.bound(login text, connections_max integer) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '30s'
AS $$
BEGIN
    IF login IS NULL OR login !~ '^t_[0-9a-f]{32}$' THEN
        RAISE EXCEPTION 'no name of a tenant''s database' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF connections_max IS NULL OR connections_max < 1 THEN
        RAISE EXCEPTION 'no bound' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    EXECUTE format('ALTER ROLE %I CONNECTION LIMIT %s', login, connections_max);
END
$$;

REVOKE ALL ON FUNCTION rowhouse_logins.bound(text, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION rowhouse_logins.bound(text, integer) TO rowhouse_owner;
RESET ROLE;

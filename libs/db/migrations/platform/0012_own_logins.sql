-- A tenant's own database is entered by a login of its own, named like it. In the main database stands its password, sealed
-- under the master key; in its own the verifier, for the pooler. The login itself is made and removed by the functions of
-- cluster/roles.sql: an older cluster needs that part of it before such databases are made.
-- Locks: databases, against everybody, for a moment. Safe for old code: it knows none of this and enters by rowhouse_app, which
-- may connect to the databases that were there before, and to none that newer code makes.

-- None where the database was made before there were such logins, and while it is being made.
ALTER TABLE rowhouse.databases ADD COLUMN sealed_password bytea NULL;

-- One database's. A definer, because nobody may read rowhouse.databases; plpgsql, as rowhouse.home_of.
CREATE FUNCTION rowhouse.own_login_of(wanted text) RETURNS bytea
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (SELECT sealed_password FROM rowhouse.databases WHERE database_name = wanted);
END
$$;
REVOKE ALL ON FUNCTION rowhouse.own_login_of(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION rowhouse.own_login_of(text) TO rowhouse_app;

-- Logins of this database that the pooler does not know by its own file: one in a tenant's own database, none in others.
CREATE TABLE rowhouse.pooled_logins (
    name text NOT NULL,
    verifier text NOT NULL,
    CONSTRAINT pooled_logins_pkey PRIMARY KEY (name),
    CONSTRAINT pooled_logins_is_a_verifier CHECK (verifier LIKE 'SCRAM-SHA-256$%')
);
REVOKE ALL ON rowhouse.pooled_logins FROM PUBLIC;

-- PgBouncer's `auth_query`. A set: for no login PgBouncer wants no row, and takes one of nulls for a fault of its configuration.
CREATE FUNCTION rowhouse.pooled_login(wanted text) RETURNS TABLE (name text, verifier text)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY SELECT login.name, login.verifier FROM rowhouse.pooled_logins AS login WHERE login.name = wanted;
END
$$;
-- The pooler is granted it in tenants' own databases, where it asks, so that a cluster without them need not know it.
REVOKE ALL ON FUNCTION rowhouse.pooled_login(text) FROM PUBLIC;

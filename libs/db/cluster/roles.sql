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

-- Passwords and databases for development in a cluster. Everything here is public: never use it for anything else.

ALTER ROLE rowhouse_owner PASSWORD 'development-only';
ALTER ROLE rowhouse_app PASSWORD 'development-only';
ALTER ROLE rowhouse_relay PASSWORD 'development-only';
ALTER ROLE rowhouse_keeper PASSWORD 'development-only';
ALTER ROLE rowhouse_pooler PASSWORD 'development-only';
ALTER ROLE rowhouse_ctl_tenant PASSWORD 'development-only';
ALTER ROLE rowhouse_ctl_auth PASSWORD 'development-only';
ALTER ROLE rowhouse_ctl_worker PASSWORD 'development-only';

CREATE DATABASE rowhouse_control OWNER rowhouse_owner;
CREATE DATABASE rowhouse_data1 OWNER rowhouse_owner;

-- TEMPORARY stays with nobody: a temporary table on a pooled connection would shadow the next tenant's table.
REVOKE ALL ON DATABASE rowhouse_control, rowhouse_data1 FROM PUBLIC;
GRANT CONNECT ON DATABASE rowhouse_control
    TO rowhouse_owner, rowhouse_ctl_tenant, rowhouse_ctl_auth, rowhouse_ctl_worker;
GRANT CONNECT ON DATABASE rowhouse_data1 TO rowhouse_owner, rowhouse_app, rowhouse_relay, rowhouse_keeper;

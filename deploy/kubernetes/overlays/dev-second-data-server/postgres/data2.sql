-- As deploy/dev/postgres.sql does for data1.
CREATE DATABASE rowhouse_data2 OWNER rowhouse_owner;
REVOKE ALL ON DATABASE rowhouse_data2 FROM PUBLIC;
GRANT CONNECT ON DATABASE rowhouse_data2 TO rowhouse_owner, rowhouse_app, rowhouse_relay, rowhouse_keeper;

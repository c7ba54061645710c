-- Migrating a fleet of houses: which are behind, which could not be brought on and why, and a number by which a wave
-- takes a part of them.
-- Locks: houses, against writers, while the index is built (some thousand lines at most). Safe for old code: it names none of
-- this.

-- What could not be done for a house. The line goes with the migration that succeeds, and with the house.
CREATE TABLE rowhouse.house_faults (
    house_id uuid NOT NULL,
    -- Which round of tries it belongs to: another round begins afresh.
    round_id uuid NOT NULL,
    -- The version that the house was to have.
    version integer NOT NULL,
    sqlstate text NOT NULL,
    -- Names of migrations, tables, columns and constraints; never a row's values.
    message text NOT NULL,
    attempts integer NOT NULL,
    failed_at timestamptz NOT NULL DEFAULT now(),
    -- Infinity where this round tries it no more.
    next_at timestamptz NOT NULL,
    CONSTRAINT house_faults_pkey PRIMARY KEY (house_id),
    CONSTRAINT house_faults_house_id_fkey FOREIGN KEY (house_id) REFERENCES rowhouse.houses (house_id) ON DELETE CASCADE,
    CONSTRAINT house_faults_attempts_counted CHECK (attempts >= 1),
    CONSTRAINT house_faults_message_short CHECK (length(message) <= 500)
);
REVOKE ALL ON rowhouse.house_faults FROM PUBLIC;

-- Whether anything is behind is asked often and answered from here.
CREATE INDEX houses_version_idx ON rowhouse.houses (participant, version, deferred_version, house_id);

-- 0 to 99, for ever the same for a house: a wave of 10 per cent takes those below 10, and the next of 50 holds them too.
CREATE FUNCTION rowhouse.house_bucket(house uuid) RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    SELECT (pg_catalog.get_byte(digest, 0) OPERATOR(pg_catalog.*) 256
        OPERATOR(pg_catalog.+) pg_catalog.get_byte(digest, 1)) OPERATOR(pg_catalog.%) 100
    FROM (SELECT pg_catalog.sha256(pg_catalog.uuid_send(house)) AS digest) AS hashed
$$;
REVOKE ALL ON FUNCTION rowhouse.house_bucket(uuid) FROM PUBLIC;

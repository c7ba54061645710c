-- The ledger of the main database knows every house of the server, those in a database of the tenant's own too, so that one
-- query tells what is behind, and whoever migrates such a house holds its line here like any other's.
-- Locks: databases and houses, against everybody, for a moment. Safe for old code: a claim writes no house, and what it makes
-- ready without one is refused by the constraint, which its caller repeats.

-- house_id: its line in houses, a copy of the one in the tenant's database, which is the one that counts.
-- platform_version: up to which migration of schema rowhouse that database is; 0 where nobody has looked.
ALTER TABLE rowhouse.databases
    ADD COLUMN house_id uuid NULL,
    ADD COLUMN platform_version bigint NOT NULL DEFAULT 0;

-- What was there before: version 0 is behind whatever it is, and the first migrator to look writes down what it finds.
WITH known AS (
    UPDATE rowhouse.databases SET house_id = gen_random_uuid() WHERE state = 'ready'
    RETURNING house_id, participant, database_name
)
INSERT INTO rowhouse.houses (house_id, participant, schema_name, placement, version)
SELECT house_id, participant, database_name, 'database', 0 FROM known;

ALTER TABLE rowhouse.databases
    ADD CONSTRAINT databases_house_id_key UNIQUE (house_id),
    ADD CONSTRAINT databases_house_id_fkey FOREIGN KEY (house_id) REFERENCES rowhouse.houses (house_id),
    ADD CONSTRAINT databases_ready_has_house CHECK ((house_id IS NOT NULL) = (state = 'ready'));

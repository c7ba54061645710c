-- From where an API key was used last, so that it is known there while others present invented ones.
--
-- Locks: auth.api_keys, against everything for an instant and against writes while the index is built: milliseconds, since every
-- row is without an origin. Safe for code that is already running: yes; it notes none.

SET LOCAL lock_timeout = '5s';

-- A digest, as in auth.attempts; who tries all addresses can still tell which it is of. To the minute.
ALTER TABLE auth.api_keys ADD COLUMN used_from bytea;
CREATE INDEX api_keys_by_origin ON auth.api_keys (used_from) WHERE used_from IS NOT NULL AND revoked_at IS NULL;

-- Signing keys are replaced in time, and revoked at once when one is lost.
--
-- Locks: a table of a few rows, for an instant. Safe for old code: auth before this knows one key for as long as it runs, and
-- one that was replaced verifies for six minutes more; the other services before this do not say which key a token has. So
-- rotate and revoke when no process of before is left. The keys that are there count as new, so that none is replaced by its age
-- meanwhile.

SET LOCAL lock_timeout = '5s';

ALTER TABLE auth.signing_keys DROP CONSTRAINT signing_keys_state;
-- pending: verifies, and is to sign from activates_at on; active: signs and verifies; published: verifies until retires_at;
-- retired: neither; revoked: neither, and whatever it has signed is refused.
ALTER TABLE auth.signing_keys
    ADD COLUMN activates_at timestamptz,
    ADD COLUMN retires_at timestamptz,
    ADD CONSTRAINT signing_keys_state CHECK (state IN ('pending', 'active', 'published', 'retired', 'revoked'));
UPDATE auth.signing_keys SET activates_at = now();
ALTER TABLE auth.signing_keys ALTER COLUMN activates_at SET NOT NULL;
ALTER TABLE auth.signing_keys ALTER COLUMN activates_at SET DEFAULT now();
CREATE UNIQUE INDEX signing_keys_one_pending ON auth.signing_keys (state) WHERE state = 'pending';

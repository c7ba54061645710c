-- Which order of a statement timeout a participant was given last, and until when its answer is waited for.
--
-- Why: a transaction and a line's lock were held while a participant was asked, and one that was away held up all others.
-- Locks: tenant.homes, exclusively until the end: its readers wait too. The columns have no default, so nothing is written
-- anew; the constraint reads each home once, in well under a tenth of a second for 100,000. 0013 builds the index for it.
-- Safe for old code: yes; it names neither column. What it tells and records meanwhile counts as before.

SET LOCAL lock_timeout = '5s';

ALTER TABLE tenant.homes
    -- Later orders are larger; it stays, so that none is given with a smaller number.
    ADD COLUMN limits_order_id uuid NULL,
    -- NULL once the participant has confirmed the order. Until then what it keeps is not known.
    ADD COLUMN limits_lease_until timestamptz NULL,
    ADD CONSTRAINT homes_limits_lease_check CHECK (limits_lease_until IS NULL OR limits_order_id IS NOT NULL);

-- The homes of one participant on one server, in order.
--
-- Why: they are gone through by themselves, a page at a time, to tell them orders of a statement timeout.
-- Locks: writers of tenant.homes wait while the index is built, about a tenth of a second for 100,000 homes; readers go on. That is
-- why it is no part of 0012, whose lock keeps readers out until its end. Not CONCURRENTLY: that waits for every transaction, also
-- for one that waits to migrate until this one is done. Safe for old code: yes.

SET LOCAL lock_timeout = '5s';

CREATE INDEX homes_place_idx ON tenant.homes (participant, server, tenant_id);

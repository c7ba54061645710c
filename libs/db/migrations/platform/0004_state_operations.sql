-- Which operation ordered a home's state: ids of a tenant's operations only grow, so an order that comes late is known.
-- Locks: homes, exclusively, for an instant (a column without a default). Safe for old code: it does not name the column.
ALTER TABLE rowhouse.homes ADD COLUMN state_operation_id uuid NULL;

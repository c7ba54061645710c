//! Calls that clients may repeat: the same request id gets the same answer for 24 hours.

use rowhouse_db::requests::RequestTable;

/// What is remembered of them, by caller.
pub(crate) const TABLE: RequestTable = RequestTable::new("tenant", "caller");

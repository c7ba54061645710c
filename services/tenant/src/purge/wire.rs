//! Purges as messages.

use rowhouse_proto::tenant::v1 as proto;
use rowhouse_proto::timestamp;

use super::Purge;

/// Writes the record of a purge.
pub(crate) fn purge(purge: Purge) -> proto::Purge {
    let removed = purge.removed.into_iter().map(|removal| proto::Removal {
        holder: removal.holder,
        kind: removal.kind,
        count: removal.count,
    });
    proto::Purge {
        tenant_id: purge.tenant.to_string(),
        actor: purge.actor,
        reason: purge.reason,
        removed: removed.collect(),
        begin_time: Some(timestamp(purge.began_at)),
        finish_time: purge.finished_at.map(timestamp),
    }
}

//! Calls that clients may repeat: the same request id gets the same answer for 24 hours.

use rowhouse_context::Ctx;
use rowhouse_db::requests::{Claimed, Once, RequestTable};
use rowhouse_types::{IdempotencyKey, TenantId};
use serde_json::{Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::Error;

/// What is remembered of them, by tenant.
pub(crate) const TABLE: RequestTable = RequestTable::new("auth", "tenant_id");

/// How a call that names a request id is recognised when it comes again: by who asks, and for what.
///
/// `content`: all that the call asks for, and nothing secret.
pub(crate) fn recognised_by(
    ctx: &Ctx,
    method: &'static str,
    request: Option<IdempotencyKey>,
    content: &Value,
) -> Option<Once> {
    request.map(|key| Once::new(method, key, &json!([ctx.principal().actor(), content])))
}

/// What an earlier call has made by which this one is recognised; `None` where this is the first, or names no request id.
///
/// To be asked in the transaction that does the work, when the caller is known to have the rights for it and before anything is
/// refused for what the earlier call has made: a name that is taken, a bound that is reached.
///
/// `ours`: what the call makes, if it is the first.
pub(crate) async fn made_before(
    conn: &mut PgConnection,
    tenant: TenantId,
    once: Option<&Once>,
    ours: Uuid,
) -> Result<Option<Uuid>, Error> {
    let Some(once) = once else { return Ok(None) };
    match TABLE.claim(conn, tenant.uuid(), once, ours).await? {
        Claimed::First => Ok(None),
        Claimed::Repeated(earlier) => Ok(Some(earlier)),
        Claimed::Reused => Err(Error::RequestIdReused),
    }
}

//! What calls have told the audit logs.

use rowhouse_context::Ctx;
use rowhouse_types::TenantId;
use serde_json::Value;
use sqlx::FromRow;
use uuid::Uuid;

use super::bench::Bench;

/// Where the calls come from.
pub(crate) const ADDRESS: &str = "192.0.2.7";

/// What an entry says.
#[derive(Clone, Debug, PartialEq, FromRow)]
pub(crate) struct Line {
    /// Whose log; none for the platform's.
    tenant_id: Option<Uuid>,
    action: String,
    actor: String,
    target: String,
    address: Option<String>,
    after: Option<Value>,
}

/// The call, from [`ADDRESS`].
pub(crate) fn from_there(ctx: Ctx) -> Ctx {
    ctx.with_origin(None, Some(ADDRESS.to_owned()))
}

/// An entry in a log, with the address.
pub(crate) fn line(log: Option<TenantId>, action: &str, actor: impl ToString, target: impl ToString) -> Line {
    Line {
        tenant_id: log.map(|tenant| tenant.uuid()),
        action: action.to_owned(),
        actor: actor.to_string(),
        target: target.to_string(),
        address: Some(ADDRESS.to_owned()),
        after: None,
    }
}

impl Line {
    pub(crate) fn without_address(self) -> Self {
        let address = None;
        Self { address, ..self }
    }

    pub(crate) fn after(self, after: Value) -> Self {
        let after = Some(after);
        Self { after, ..self }
    }
}

/// As [`told`] answers them.
pub(crate) fn in_order(mut lines: Vec<Line>) -> Vec<Line> {
    lines.sort_by_key(|line| (line.tenant_id.is_none(), line.tenant_id, line.action.clone()));
    lines
}

/// Everything that a call has told any log: tenants' in the order of their ids, then the platform's.
pub(crate) async fn told(bench: &Bench, ctx: &Ctx) -> Vec<Line> {
    let lines = "SELECT tenant_id, action, actor, target, address, after FROM auth.audit WHERE request_id = $1";
    let lines = sqlx::query_as(lines).bind(ctx.request_id().to_string());
    in_order(lines.fetch_all(&bench.superuser).await.unwrap())
}

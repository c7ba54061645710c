//! The second data server of a stack: another cluster, with a PgBouncer of its own before it.
//!
//! One PgBouncer would not do: tenants' own databases are reached by its `*` entry, which leads to one host.

use std::time::Duration;

use anyhow::Result;

use super::pgbouncer::{self, PgbouncerPlan};
use super::postgres::{self, PostgresPlan};
use super::{Endpoint, Plan as Servers};
use crate::stack::Stack;

/// A server that was started, and how long it took.
type Started = Option<(String, Duration)>;

pub(super) struct Plan {
    postgres: PostgresPlan,
    pgbouncer: PgbouncerPlan,
}

/// `None` where it is not wanted and the stack never had one: whoever has it keeps it, there may be tenants on it.
///
/// `app_password`: the app login's, where the first pooler is given and knows it already.
pub(super) fn plan(plan: &mut Servers<'_>, is_wanted: bool, app_password: Option<String>) -> Result<Option<Plan>> {
    if !is_wanted && !plan.data.join(postgres::SECOND).exists() {
        return Ok(None);
    }
    let postgres = postgres::second(plan)?;
    let pgbouncer = pgbouncer::second(plan, &postgres, app_password)?;
    Ok(Some(Plan { postgres, pgbouncer }))
}

pub(super) async fn run(stack: &Stack, plan: Option<&Plan>) -> Result<(Started, Started)> {
    let Some(Plan { postgres, pgbouncer }) = plan else {
        return Ok((None, None));
    };
    tokio::try_join!(postgres::run(stack, postgres), pgbouncer::run(stack, pgbouncer))
}

impl Plan {
    pub(super) fn into_endpoints(self) -> (Endpoint, Endpoint) {
        (self.postgres.endpoint, self.pgbouncer.endpoint)
    }
}

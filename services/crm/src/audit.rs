//! The audit log in a tenant's home: read, sealed, and told of refusals and of operators who were let in. Its other entries are
//! written by the statements of the changes that they are about.

pub(crate) mod sealing;
mod store;

use std::time::Duration;

use async_trait::async_trait;
use rowhouse_audit::log::Unsealed;
use rowhouse_audit::{AuditLog, Batch, Chain, Entry, Query};
use rowhouse_context::{Ctx, Principal, RequestId, ServiceName};
use rowhouse_db::{Mode, TenantDb};
use rowhouse_status::Failure;
use rowhouse_types::TenantId;
use tokio::time::Instant;

use crate::error::{Error, Result};
#[cfg(test)]
pub(crate) use store::{RELAY_STATEMENTS, STATEMENTS};

/// Longest time for what this service does in a home by itself.
const OWN_WORK_MAX: Duration = Duration::from_secs(10);

/// Tenants' logs in their homes. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct HomeLog {
    /// For who reads: each tenant's calls wait for its own.
    db: TenantDb,
    /// For this service's own work, besides the lanes of tenants' calls: a tenant that fills its slots is sealed all the same, and
    /// sealing takes none of them. `TenantDb::bulk` is for such jobs, as long as no call waits for what they lock: a seal locks
    /// its number and its lines of the queue, which only who seals wants, and an entry about no change locks nothing but itself.
    own: TenantDb,
}

/// What became of the entries that wait in a home.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sealed {
    /// So many are sealed now; fewer than fit into a seal were all.
    Now(usize),
    /// Another process has sealed meanwhile.
    Overtaken,
}

// === impl HomeLog ===

impl HomeLog {
    pub(crate) fn new(db: &TenantDb) -> Self {
        Self {
            db: db.clone(),
            own: db.bulk(),
        }
    }

    /// Seals the oldest entries that wait in a tenant's home, which has a place for seals where any wait.
    ///
    /// The head is read before the entries: whoever seals in between takes the next number, and then this one is refused, so
    /// no entry is sealed twice.
    pub(crate) async fn seal(&self, tenant: TenantId) -> Result<Sealed> {
        let mut tx = self.own.begin(&own_ctx(tenant), Mode::Write).await?;
        let head = store::head(&mut tx).await?;
        let entries = store::waiting(&mut tx).await?;
        tx.commit_with_next();
        if entries.is_empty() {
            store::forget(&mut tx).await?;
            return Ok(Sealed::Now(0));
        }
        let seal = rowhouse_audit::Seal::next(&chain(tenant), &head, &entries);
        if store::seal(&mut tx, &seal).await? {
            Ok(Sealed::Now(entries.len()))
        } else {
            Ok(Sealed::Overtaken)
        }
    }
}

#[async_trait]
impl AuditLog for HomeLog {
    async fn page(&self, ctx: &Ctx, tenant: Option<TenantId>, query: &Query) -> Result<Vec<Entry>, Failure> {
        must_be_for(ctx, tenant)?;
        let tx = self.db.begin_single(ctx, Mode::Read).await.map_err(Error::from)?;
        Ok(store::page(tx, query).await?)
    }

    async fn seals(&self, ctx: &Ctx, tenant: Option<TenantId>, after: i64) -> Result<Vec<Batch>, Failure> {
        must_be_for(ctx, tenant)?;
        let mut tx = self.db.begin(ctx, Mode::Read).await.map_err(Error::from)?;
        let seals = rowhouse_audit::Seal::first_page(store::seals(&mut tx, after).await?);
        tx.commit_with_next();
        let entries = store::entries(&mut tx, &seals).await?;
        Ok(seals.into_iter().map(|seal| Batch::of(seal, &entries)).collect())
    }

    async fn unsealed(&self, ctx: &Ctx, tenant: Option<TenantId>) -> Result<Unsealed, Failure> {
        must_be_for(ctx, tenant)?;
        let mut tx = self.db.begin(ctx, Mode::Read).await.map_err(Error::from)?;
        Ok(store::unsealed(&mut tx).await?)
    }

    async fn note(&self, entry: &Entry) -> Result<(), Failure> {
        let tenant = entry.tenant.ok_or(Error::NoTenant(rowhouse_context::NoTenant))?;
        let begun = self.own.begin_single(&own_ctx(tenant), Mode::Write).await;
        let mut tx = begun.map_err(Error::from)?;
        Ok(store::note(&mut tx, entry).await?)
    }
}

/// A home is entered by the call's tenant; there is no log of the platform in one.
fn must_be_for(ctx: &Ctx, tenant: Option<TenantId>) -> Result<(), Failure> {
    if tenant.is_some() && ctx.tenant_opt() == tenant {
        Ok(())
    } else {
        Err(Failure::internal(
            "a home's log was asked for another tenant than the call's",
        ))
    }
}

fn chain(tenant: TenantId) -> Chain {
    Chain {
        service: ServiceName::Crm,
        tenant: Some(tenant),
    }
}

fn own_ctx(tenant: TenantId) -> Ctx {
    let principal = Principal::Service { name: ServiceName::Crm };
    Ctx::new(
        RequestId::generate(),
        principal,
        Some(tenant),
        Instant::now() + OWN_WORK_MAX,
    )
}

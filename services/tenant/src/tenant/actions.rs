//! What an operator may do with tenants. One function each.

use std::time::Duration;

use chrono::DateTime;
use rowhouse_context::{Ctx, Principal, RequestId, ServiceName};
use rowhouse_db::paging::{Page, PageScope, PageTokens};
use rowhouse_db::requests::{Claimed, Once};
use rowhouse_types::{Etag, OperationId, Placement, ServerName, TenantId};
use serde_json::{Value, json};
use sqlx::{PgConnection, PgPool};
use tokio::time::Instant;
use uuid::Uuid;

use super::store::{self, Cursor, Reservation, Reserved};
use super::{Change, NewTenant, Reason, State, Tenant};
use crate::audit::{self, Entry};
use crate::directory;
use crate::error::{Error, Result};
use crate::operation::saga::Sagas;
use crate::operation::store::{LEASE, Payload};
use crate::operation::{self, Held, Kind};
use crate::plan::PlanName;
use crate::purge::{self, Purge};
use crate::spare::Refill;
use crate::{request, server};

/// How long before the caller's deadline an answer is given that the work goes on: enough for the way back.
const ANSWER_BEFORE: Duration = Duration::from_millis(250);

/// Why a tenant is purged that no operator has ordered to be.
const GRACE_OVER: &str = "the grace period is over";

/// How often a server is chosen for one tenant: each time but the first, the one chosen before was filled meanwhile.
const PLACINGS_MAX: u32 = 8;

/// What an operator may do with tenants.
#[derive(Clone, Debug)]
pub(crate) struct Tenants {
    pool: PgPool,
    sagas: Sagas,
    tokens: PageTokens,
    refill: Refill,
    /// How long a deleted tenant can be undeleted.
    grace: Duration,
}

// === impl Tenants ===

impl Tenants {
    /// `refill`: tells the filler that a spare was taken. `grace`: how long a deleted tenant can be undeleted.
    pub(crate) fn new(pool: PgPool, sagas: Sagas, tokens: PageTokens, refill: Refill, grace: Duration) -> Self {
        Self {
            pool,
            sagas,
            tokens,
            refill,
            grace,
        }
    }

    /// Creates a tenant: active, or still provisioning where the deadline comes first.
    pub(crate) async fn create(&self, ctx: &Ctx, new: NewTenant) -> Result<Tenant> {
        for _ in 0..PLACINGS_MAX {
            let server = match server::actions::choose(&self.pool, &new.server).await {
                Ok(server) => server,
                Err(refusal) => return self.unplaced(ctx, &new, refusal).await,
            };
            match self.create_on(ctx, &new, server).await {
                // Filled or drained between the choice and the admission: the next choice sees it.
                Err(Error::ServersFull) => {}
                done => return done,
            }
        }
        Err(Error::ServersFull)
    }

    /// No server has room: still, a call that is repeated answers the tenant that it made.
    async fn unplaced(&self, ctx: &Ctx, new: &NewTenant, refusal: Error) -> Result<Tenant> {
        let Some(once) = recognised_by(new) else {
            return Err(refusal);
        };
        let mut connection = self.pool.acquire().await?;
        let caller = ctx.principal().actor();
        let earlier = request::TABLE.find(&mut connection, &caller, &once).await?;
        drop(connection);
        self.created_before(ctx, earlier.ok_or(refusal)?).await
    }

    async fn create_on(&self, ctx: &Ctx, new: &NewTenant, server: ServerName) -> Result<Tenant> {
        let mut tenant = planned(new, server);
        let payload = Payload {
            administrator: Some(new.administrator.to_string()),
        };
        let mut held = begin(ctx, Kind::Provision, &tenant);
        held.administrator.clone_from(&payload.administrator);
        let once = recognised_by(new);
        let reservation = Reservation {
            tenant: &tenant,
            plan: &new.plan,
            caller: &ctx.principal().actor(),
            once: once.as_ref(),
            operation: held.id,
            payload: &serde_json::to_value(&payload).map_err(Error::unreadable)?,
            lease: held.lease,
            lease_secs: LEASE.as_secs_f64(),
            traceparent: held.traceparent.as_deref(),
            after: &with_plan(picture(&tenant), &new.plan),
        };
        match store::reserve(&self.pool, ctx, &reservation).await? {
            Reserved::New { id, spare, created_at } => {
                self.count(&tenant, spare);
                (tenant.id, held.tenant, held.spare) = (id, id, spare);
                (tenant.created_at, tenant.updated_at) = (created_at, created_at);
                let active = self.sagas.settle(held.id, Some(held), answer_by(ctx)).await?;
                Ok(active.unwrap_or(tenant))
            }
            Reserved::Before(earlier) => self.created_before(ctx, earlier).await,
        }
    }

    /// One tenant.
    pub(crate) async fn get(&self, id: TenantId) -> Result<Tenant> {
        let tenant = store::get(&self.pool, id).await?;
        tenant.ok_or(Error::TenantUnknown { id })
    }

    /// A page of tenants, the newest first.
    ///
    /// `deleted`: whether those that are deleted are among them. `size`: how many. `token`: of the page before, or empty.
    pub(crate) async fn list(&self, ctx: &Ctx, deleted: bool, size: u32, token: &str) -> Result<Page<Tenant>> {
        let scope = PageScope {
            method: "ListTenants",
            tenant: None,
            user: ctx.principal().user(),
            fingerprint: vec![u8::from(deleted)],
        };
        let paging = self.tokens.begin(scope, size, token).map_err(|_| Error::PageToken)?;
        let tenants = store::list(&self.pool, paging.after().copied(), deleted, paging.limit()).await?;
        Ok(paging.finish(tenants, Cursor::after))
    }

    /// Gives a tenant another display name.
    pub(crate) async fn update(&self, ctx: &Ctx, change: Change) -> Result<Tenant> {
        let id = change.id;
        let mut transaction = self.pool.begin().await?;
        let before = store::lock(&mut transaction, id).await?;
        let before = before.ok_or(Error::TenantUnknown { id })?;
        before.must_be_kept()?;
        if change.etag.is_some_and(|etag| etag != before.etag) {
            return Err(Error::EtagMismatch { id });
        }
        let after = store::rename(&mut transaction, id, change.display_name.as_str()).await?;
        let entry = Entry {
            action: "tenant.update",
            target: &id.to_string(),
            before: json!({ "display_name": before.display_name }),
            after: json!({ "display_name": after.display_name }),
            reason: None,
            outcome: "done",
        };
        audit::record(&mut transaction, ctx, &entry).await?;
        transaction.commit().await?;
        Ok(after)
    }

    /// Refuses a tenant everywhere from the moment this returns.
    pub(crate) async fn suspend(&self, ctx: &Ctx, id: TenantId, reason: &Reason) -> Result<Tenant> {
        self.turn(ctx, id, reason, None, Kind::Suspend).await
    }

    /// Refuses every change of a tenant's data from the moment this returns; reads go on.
    pub(crate) async fn set_read_only(&self, ctx: &Ctx, id: TenantId, reason: &Reason) -> Result<Tenant> {
        self.turn(ctx, id, reason, None, Kind::Restrict).await
    }

    /// Ends a suspension, or that a tenant is read-only.
    pub(crate) async fn resume(&self, ctx: &Ctx, id: TenantId, reason: &Reason) -> Result<Tenant> {
        self.turn(ctx, id, reason, None, Kind::Resume).await
    }

    /// Refuses a tenant everywhere from the moment this returns; its data is kept for the grace period.
    ///
    /// `etag`: which the tenant must still have.
    pub(crate) async fn delete(&self, ctx: &Ctx, id: TenantId, reason: &Reason, etag: Option<Etag>) -> Result<Tenant> {
        self.turn(ctx, id, reason, etag, Kind::Delete).await
    }

    /// Brings a deleted tenant back.
    pub(crate) async fn undelete(&self, ctx: &Ctx, id: TenantId, reason: &Reason) -> Result<Tenant> {
        self.turn(ctx, id, reason, None, Kind::Undelete).await
    }

    /// Removes what there is of a deleted tenant, whether or not its grace is over.
    ///
    /// `slug`: the tenant's, so that nobody purges another than they mean.
    pub(crate) async fn purge(&self, ctx: &Ctx, id: TenantId, reason: &Reason, slug: &str) -> Result<Tenant> {
        if self.get(id).await?.slug != slug {
            return Err(Error::SlugMismatch);
        }
        self.turn(ctx, id, reason, None, Kind::Purge).await
    }

    /// The record of a tenant's purge.
    pub(crate) async fn get_purge(&self, id: TenantId) -> Result<Purge> {
        purge::store::get(&self.pool, id)
            .await?
            .ok_or(Error::PurgeUnknown { id })
    }

    /// Begins the purge of tenants whose grace is over, at most `most`; answers how many.
    pub(crate) async fn purge_due(&self, most: usize) -> Result<usize> {
        let principal = Principal::Service {
            name: ServiceName::Tenant,
        };
        let reason = Reason::parse_required(GRACE_OVER).map_err(Error::unreadable)?;
        for begun in 0..most {
            let ctx = Ctx::new(RequestId::generate(), principal.clone(), None, Instant::now() + LEASE);
            let mut transaction = self.pool.begin().await?;
            let Some(before) = store::lock_due_for_purge(&mut transaction).await? else {
                return Ok(begun);
            };
            let (id, from) = (before.id, before.state);
            let during = store::change_state(&mut transaction, id, from, State::Purging, self.grace).await?;
            // Nobody changes a row that is locked.
            let during = during.ok_or(Error::TenantUnknown { id })?;
            let held = accept(&mut transaction, &ctx, Kind::Purge, &before, &during, &reason).await?;
            transaction.commit().await?;
            // Not awaited here: the task is tracked by `Sagas`.
            drop(self.sagas.spawn(held));
        }
        Ok(most)
    }

    /// Leads a tenant through an operation. A tenant that is at its end already stays as it is; one that is on the way is
    /// waited for.
    async fn turn(&self, ctx: &Ctx, id: TenantId, reason: &Reason, etag: Option<Etag>, kind: Kind) -> Result<Tenant> {
        let mut transaction = self.pool.begin().await?;
        let before = store::lock(&mut transaction, id).await?;
        let before = before.ok_or(Error::TenantUnknown { id })?;
        if before.state == kind.state_after() {
            return Ok(before);
        }
        if before.state == kind.state_during() {
            transaction.rollback().await?;
            return self.wait_for(ctx, id).await;
        }
        let forbidden = Error::StateForbids {
            id,
            state: before.state,
            wanted: kind.participle(),
        };
        if !kind.states_before().contains(&before.state) {
            return Err(forbidden);
        }
        if etag.is_some_and(|etag| etag != before.etag) {
            return Err(Error::EtagMismatch { id });
        }
        let during = kind.state_during();
        let during = store::change_state(&mut transaction, id, before.state, during, self.grace).await?;
        let during = during.ok_or(forbidden)?;
        let held = accept(&mut transaction, ctx, kind, &before, &during, reason).await?;
        transaction.commit().await?;
        let operation = held.id;
        let done = self.sagas.settle(operation, Some(held), answer_by(ctx)).await?;
        done.ok_or(Error::StillRunning { operation })
    }

    /// The tenant that an earlier call with the same request id and content created, once it is active.
    async fn created_before(&self, ctx: &Ctx, earlier: Claimed) -> Result<Tenant> {
        let Claimed::Repeated(id) = earlier else {
            return Err(Error::RequestReused);
        };
        let id = TenantId::from_uuid(id);
        let tenant = self.get(id).await?;
        if tenant.state != State::Provisioning {
            return Ok(tenant);
        }
        match self.wait_for(ctx, id).await {
            Err(Error::StillRunning { .. }) => Ok(tenant),
            settled => settled,
        }
    }

    /// Waits for the operation that runs for a tenant.
    async fn wait_for(&self, ctx: &Ctx, id: TenantId) -> Result<Tenant> {
        let Some(operation) = operation::store::open(&self.pool, id).await? else {
            // It has ended since the tenant was read.
            return self.get(id).await;
        };
        let done = self.sagas.settle(operation, None, answer_by(ctx)).await?;
        done.ok_or(Error::StillRunning { operation })
    }

    /// Counts whether a sign-up found a spare, and has the filler see to it at once.
    fn count(&self, tenant: &Tenant, spare: bool) {
        if tenant.placement == Placement::Shared {
            return;
        }
        self.refill.notify();
        let (server, outcome) = (tenant.server.to_string(), if spare { "hit" } else { "miss" });
        let placement = tenant.placement.as_str();
        metrics::counter!("tenant_spare_claims_total", "server" => server, "placement" => placement, "outcome" => outcome)
            .increment(1);
    }
}

/// Begins an operation on a tenant whose state was changed for it, and records who wants it and why.
async fn accept(
    connection: &mut PgConnection,
    ctx: &Ctx,
    kind: Kind,
    before: &Tenant,
    during: &Tenant,
    reason: &Reason,
) -> Result<Held> {
    let id = during.id;
    if let Some(state) = kind.homes_at_once() {
        directory::store::mark(connection, id, state).await?;
    }
    let mut held = begin(ctx, kind, during);
    // Auth orders a tenant's operations by their ids. These hold the time of whichever replica made them, so the
    // clocks must not decide: under the lock of the tenant's row, each id is above the one before.
    let newest = operation::store::newest(connection, id).await?;
    held.id = newest.map_or(held.id, |newest| held.id.max(after(newest)));
    operation::store::begin(connection, &held).await?;
    if kind == Kind::Purge {
        let actor = ctx.principal().actor();
        purge::store::begin(connection, id, held.id, &actor, reason.as_str()).await?;
    }
    let entry = Entry {
        action: kind.audited_as(),
        target: &id.to_string(),
        before: json!({ "state": before.state.as_str() }),
        after: json!({ "state": during.state.as_str() }),
        reason: Some(reason.as_str()),
        outcome: "accepted",
    };
    audit::record(connection, ctx, &entry).await?;
    Ok(held)
}

/// The tenant as it will be reserved, unless a spare lends it an older id.
fn planned(new: &NewTenant, server: ServerName) -> Tenant {
    Tenant {
        id: TenantId::generate(),
        slug: new.slug.to_string(),
        display_name: new.display_name.to_string(),
        state: State::Provisioning,
        placement: new.server.placement,
        server,
        etag: Etag::from_revision(1),
        deletion: None,
        created_at: DateTime::UNIX_EPOCH,
        updated_at: DateTime::UNIX_EPOCH,
    }
}

/// A new operation for a tenant, held by this process.
fn begin(ctx: &Ctx, kind: Kind, tenant: &Tenant) -> Held {
    Held {
        id: OperationId::generate(),
        lease: Uuid::new_v4(),
        kind,
        step: kind.first_step(),
        attempts: 0,
        spare: false,
        tenant: tenant.id,
        display_name: tenant.display_name.clone(),
        server: tenant.server.clone(),
        placement: tenant.placement,
        administrator: None,
        request: ctx.request_id().clone(),
        traceparent: rowhouse_telemetry::trace::current_traceparent(),
    }
}

/// The next id above another.
fn after(id: OperationId) -> OperationId {
    OperationId::from_uuid(Uuid::from_u128(id.uuid().as_u128().saturating_add(1)))
}

/// When to answer that the work goes on.
fn answer_by(ctx: &Ctx) -> Instant {
    let left = ctx.time_left();
    Instant::now() + left.saturating_sub(ANSWER_BEFORE.min(left / 4))
}

/// How a call that names a request id is recognised when it comes again.
fn recognised_by(new: &NewTenant) -> Option<Once> {
    let content = json!([
        new.slug.as_str(),
        new.display_name.as_str(),
        new.server.placement.as_str(),
        new.server.labels,
        new.administrator.as_str(),
        new.plan.as_str(),
    ]);
    new.request.map(|key| Once::new("CreateTenant", key, &content))
}

/// A new tenant as the audit log shows it.
fn with_plan(mut picture: Value, plan: &PlanName) -> Value {
    if let Value::Object(fields) = &mut picture {
        fields.insert("plan".to_owned(), json!(plan.as_str()));
    }
    picture
}

/// A tenant as the audit log shows it.
fn picture(tenant: &Tenant) -> Value {
    json!({
        "slug": tenant.slug,
        "display_name": tenant.display_name,
        "placement": tenant.placement.as_str(),
        "server": tenant.server.as_str(),
    })
}

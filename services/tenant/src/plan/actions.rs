//! What an operator may do with plans. One function each.

use rowhouse_context::Ctx;
use rowhouse_db::paging::{Page, PageScope, PageTokens};
use rowhouse_types::{Etag, Limits, TenantId};
use serde_json::{Value, json};
use sqlx::PgPool;

use super::spread::Spread;
use super::{Change, NewPlan, Plan, PlanName, TenantPlan, store};
use crate::audit::{self, Entry};
use crate::error::{Error, Result};
use crate::tenant::Reason;

/// What an operator may do with plans. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Plans {
    pool: PgPool,
    tokens: PageTokens,
    spread: Spread,
}

// === impl Plans ===

impl Plans {
    pub(crate) fn new(pool: PgPool, tokens: PageTokens, spread: Spread) -> Self {
        Self { pool, tokens, spread }
    }

    /// Adds a plan. A repeated call answers the plan as it is.
    pub(crate) async fn create(&self, ctx: &Ctx, new: NewPlan) -> Result<Plan> {
        let mut transaction = self.pool.begin().await?;
        let Some(plan) = store::insert(&mut transaction, &new).await? else {
            let found = store::get(&mut transaction, &new.name).await?;
            let same = |found: &Plan| found.display_name == new.display_name.as_str() && found.limits == new.limits;
            return found.filter(same).ok_or(Error::PlanExists { name: new.name });
        };
        let entry = entry("plan.create", plan.name.as_str(), Value::Null, picture(&plan));
        audit::record(&mut transaction, ctx, &entry).await?;
        transaction.commit().await?;
        Ok(plan)
    }

    /// One plan.
    pub(crate) async fn get(&self, name: &PlanName) -> Result<Plan> {
        let mut connection = self.pool.acquire().await?;
        let plan = store::get(&mut connection, name).await?;
        plan.ok_or_else(|| unknown(name))
    }

    /// A page of plans, by name.
    ///
    /// `size`: how many. `token`: of the page before, or empty.
    pub(crate) async fn list(&self, ctx: &Ctx, size: u32, token: &str) -> Result<Page<Plan>> {
        let scope = PageScope {
            method: "ListPlans",
            tenant: None,
            user: ctx.principal().user(),
            fingerprint: Vec::new(),
        };
        let paging = self.tokens.begin(scope, size, token).map_err(|_| Error::PageToken)?;
        let plans = store::list(&self.pool, paging.after(), paging.limit()).await?;
        Ok(paging.finish(plans, |last: &Plan| last.name.clone()))
    }

    /// Changes a plan, and what its tenants may use.
    pub(crate) async fn update(&self, ctx: &Ctx, change: Change) -> Result<Plan> {
        let mut transaction = self.pool.begin().await?;
        let before = store::lock(&mut transaction, &change.name).await?;
        let before = before.ok_or_else(|| unknown(&change.name))?;
        check_etag(&before, change.etag)?;
        let after = store::update(&mut transaction, &change).await?;
        let entry = entry("plan.update", change.name.as_str(), picture(&before), picture(&after));
        audit::record(&mut transaction, ctx, &entry).await?;
        transaction.commit().await?;
        self.spread.wake();
        Ok(after)
    }

    /// Removes a plan that no tenant has.
    pub(crate) async fn delete(&self, ctx: &Ctx, name: &PlanName, etag: Option<Etag>) -> Result<()> {
        let mut transaction = self.pool.begin().await?;
        let before = store::lock(&mut transaction, name).await?;
        let before = before.ok_or_else(|| unknown(name))?;
        check_etag(&before, etag)?;
        store::delete(&mut transaction, name).await?;
        let entry = entry("plan.delete", name.as_str(), picture(&before), Value::Null);
        audit::record(&mut transaction, ctx, &entry).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Which plan a tenant has.
    pub(crate) async fn of_tenant(&self, tenant: TenantId) -> Result<TenantPlan> {
        let mut connection = self.pool.acquire().await?;
        let plan = store::of_tenant(&mut connection, tenant).await?;
        plan.ok_or(Error::TenantUnknown { id: tenant })
    }

    /// Gives a tenant a plan. Its statement timeout is in force when this answers, unless a participant is away.
    pub(crate) async fn assign(
        &self,
        ctx: &Ctx,
        tenant: TenantId,
        plan: &PlanName,
        overrides: Limits,
        reason: &Reason,
    ) -> Result<TenantPlan> {
        let mut transaction = self.pool.begin().await?;
        let id = tenant;
        let before = crate::tenant::store::lock(&mut transaction, id).await?;
        before.ok_or(Error::TenantUnknown { id })?.must_be_kept()?;
        let before = store::of_tenant(&mut transaction, tenant).await?;
        store::assign(&mut transaction, tenant, plan, overrides).await?;
        let after = store::of_tenant(&mut transaction, tenant).await?;
        let after = after.ok_or(Error::TenantUnknown { id })?;
        let target = tenant.to_string();
        let entry = Entry {
            reason: Some(reason.as_str()),
            ..entry(
                "tenant.plan",
                &target,
                before.as_ref().map_or(Value::Null, assigned),
                assigned(&after),
            )
        };
        audit::record(&mut transaction, ctx, &entry).await?;
        transaction.commit().await?;
        self.spread.to_tenant(ctx, tenant).await;
        Ok(after)
    }
}

fn unknown(name: &PlanName) -> Error {
    Error::PlanUnknown { name: name.clone() }
}

fn check_etag(plan: &Plan, etag: Option<Etag>) -> Result<()> {
    if etag.is_some_and(|etag| etag != plan.etag) {
        let name = plan.name.clone();
        return Err(Error::PlanEtagMismatch { name });
    }
    Ok(())
}

fn entry<'a>(action: &'static str, target: &'a str, before: Value, after: Value) -> Entry<'a> {
    Entry {
        action,
        target,
        before,
        after,
        reason: None,
        outcome: "done",
    }
}

/// A plan as the audit log shows it.
fn picture(plan: &Plan) -> Value {
    json!({ "display_name": plan.display_name, "limits": plan.limits })
}

/// A tenant's plan as the audit log shows it.
fn assigned(plan: &TenantPlan) -> Value {
    json!({ "plan": plan.plan, "overrides": plan.overrides })
}

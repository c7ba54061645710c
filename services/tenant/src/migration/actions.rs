//! What an operator may do with runs of migrations. One function each.

use aws_lc_rs::digest;
use futures_util::future::try_join_all;
use rowhouse_context::{Ctx, ServiceName};
use rowhouse_db::paging::{Page, PageScope, PageTokens};
use rowhouse_types::{MigrationRunId, ServerName};
use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

use super::{Drift, Fleet, Plan, Run, State, peer, store};
use crate::audit::{self, Entry};
use crate::error::{Error, Result};
use crate::operation::peers::Peers;
use crate::server;
use crate::tenant::Reason;

/// What an operator may do with runs. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Migrations {
    pub(super) pool: PgPool,
    pub(super) peers: Peers,
    tokens: PageTokens,
}

/// A run to be started.
pub(crate) struct NewRun {
    pub(crate) plan: Plan,
    pub(crate) reason: Reason,
    pub(crate) request: Option<Uuid>,
}

/// Houses to compare.
pub(crate) struct DriftQuery {
    pub(crate) participant: ServiceName,
    pub(crate) server: ServerName,
    pub(crate) size: u32,
    pub(crate) token: String,
}

/// A page of houses, compared.
pub(crate) struct DriftPage {
    pub(crate) checked: i32,
    pub(crate) drifts: Vec<Drift>,
    /// Empty on the last page.
    pub(crate) next_page_token: String,
}

// === impl Migrations ===

impl Migrations {
    pub(crate) fn new(pool: PgPool, peers: Peers, tokens: PageTokens) -> Self {
        Self { pool, peers, tokens }
    }

    /// Which houses are behind, by data server.
    pub(crate) async fn plan(&self, ctx: &Ctx, participant: ServiceName) -> Result<Vec<(ServerName, Fleet)>> {
        let servers = server::store::names(&self.pool).await?;
        let asked = servers.into_iter().map(|server| async move {
            let fleet = peer::describe(&self.peers, ctx, participant, server.as_str()).await?;
            Ok::<_, Error>((server, fleet))
        });
        try_join_all(asked).await
    }

    /// Starts a run. A repeated call answers the run that the first one started.
    pub(crate) async fn start(&self, ctx: &Ctx, mut new: NewRun) -> Result<Run> {
        let fingerprint = fingerprint(&new);
        if let Some(request) = new.request
            && let Some(run) = self.started_before(ctx, request, &fingerprint).await?
        {
            return Ok(run);
        }
        let fleets = self.plan(ctx, new.plan.participant).await?;
        // Of several participant processes of several versions, the oldest decides.
        let newest = fleets.iter().map(|(_, fleet)| fleet.newest).min().unwrap_or_default();
        if new.plan.target == 0 {
            new.plan.target = newest;
        }
        if !(1..=newest).contains(&new.plan.target) {
            let version = new.plan.target;
            return Err(Error::MigrationVersionUnknown { version, newest });
        }
        let mut transaction = self.pool.begin().await?;
        let id = MigrationRunId::generate();
        if let Some(request) = new.request {
            let caller = ctx.principal().actor();
            let (reserved, before) = store::reserve(&mut transaction, &caller, request, &fingerprint, id).await?;
            if reserved != id {
                transaction.rollback().await?;
                return self.repeated(reserved, &before, &fingerprint).await;
            }
        }
        let planned = behind(&fleets, new.plan.target);
        let run = store::insert(&mut transaction, ctx, id, &new.plan, planned).await?;
        let entry = Entry {
            action: "migration.start",
            target: &run.id.to_string(),
            before: Value::Null,
            after: json!(run.plan),
            reason: Some(new.reason.as_str()),
            outcome: "accepted",
        };
        audit::record(&mut transaction, ctx, &entry).await?;
        transaction.commit().await?;
        Ok(run)
    }

    /// One run.
    pub(crate) async fn get(&self, id: MigrationRunId) -> Result<Run> {
        store::get(&self.pool, id).await?.ok_or(Error::MigrationUnknown { id })
    }

    /// A page of runs, the newest first.
    ///
    /// `size`: how many. `token`: of the page before, or empty.
    pub(crate) async fn list(&self, ctx: &Ctx, size: u32, token: &str) -> Result<Page<Run>> {
        let scope = scope(ctx, "ListMigrations", Vec::new());
        let paging = self.tokens.begin(scope, size, token).map_err(|_| Error::PageToken)?;
        let runs = store::list(&self.pool, paging.after().copied(), paging.limit()).await?;
        Ok(paging.finish(runs, |last: &Run| last.id))
    }

    /// Starts no more houses.
    pub(crate) async fn pause(&self, ctx: &Ctx, id: MigrationRunId, reason: &Reason) -> Result<Run> {
        self.turn(ctx, id, reason, State::Paused, "migration.pause").await
    }

    /// Goes on, and tries again what has failed.
    pub(crate) async fn resume(&self, ctx: &Ctx, id: MigrationRunId, reason: &Reason) -> Result<Run> {
        self.turn(ctx, id, reason, State::Running, "migration.resume").await
    }

    /// Ends a run for good.
    pub(crate) async fn cancel(&self, ctx: &Ctx, id: MigrationRunId, reason: &Reason) -> Result<Run> {
        self.turn(ctx, id, reason, State::Cancelled, "migration.cancel").await
    }

    /// Leads a run to another state. One that is there already stays as it is.
    async fn turn(
        &self,
        ctx: &Ctx,
        id: MigrationRunId,
        reason: &Reason,
        state: State,
        action: &'static str,
    ) -> Result<Run> {
        let mut transaction = self.pool.begin().await?;
        let before = store::lock(&mut transaction, id).await?;
        let before = before.ok_or(Error::MigrationUnknown { id })?;
        if before.state == state {
            return Ok(before);
        }
        if !before.state.may_become(state) {
            return Err(Error::MigrationStateForbids {
                id,
                state: before.state,
                wanted: state,
            });
        }
        let after = store::set_state(&mut transaction, id, state).await?;
        let entry = Entry {
            action,
            target: &id.to_string(),
            before: json!({ "state": before.state.as_str(), "wave": before.wave }),
            after: json!({ "state": after.state.as_str() }),
            reason: Some(reason.as_str()),
            outcome: "done",
        };
        audit::record(&mut transaction, ctx, &entry).await?;
        transaction.commit().await?;
        Ok(after)
    }

    /// Compares some houses with the template.
    pub(crate) async fn check_drift(&self, ctx: &Ctx, query: DriftQuery) -> Result<DriftPage> {
        let fingerprint = format!("{} {}", query.participant, query.server).into_bytes();
        let scope = scope(ctx, "CheckDrift", fingerprint);
        let after: String = match query.token.as_str() {
            "" => String::new(),
            token => self.tokens.open(&scope, token).map_err(|_| Error::PageToken)?,
        };
        let mut connection = self.pool.acquire().await?;
        let known = server::store::get(&mut connection, &query.server).await?;
        drop(connection);
        if known.is_none() {
            return Err(Error::ServerUnknown { name: query.server });
        }
        let request = peer::drift_request(query.server.as_str(), after, query.size);
        let page = peer::drift(&self.peers, ctx, query.participant, request).await?;
        Ok(DriftPage {
            checked: page.checked,
            drifts: page.drifts,
            next_page_token: match page.next.as_str() {
                "" => String::new(),
                _ => self.tokens.seal(&scope, &page.next),
            },
        })
    }

    /// The run that an earlier call with this request id started: it is answered whatever the participant says now.
    async fn started_before(&self, ctx: &Ctx, request: Uuid, fingerprint: &[u8]) -> Result<Option<Run>> {
        let caller = ctx.principal().actor();
        match store::reserved(&self.pool, &caller, request).await? {
            Some((id, before)) => self.repeated(id, &before, fingerprint).await.map(Some),
            None => Ok(None),
        }
    }

    async fn repeated(&self, id: MigrationRunId, before: &[u8], fingerprint: &[u8]) -> Result<Run> {
        if before == fingerprint {
            self.get(id).await
        } else {
            Err(Error::RequestReused)
        }
    }
}

fn scope(ctx: &Ctx, method: &'static str, fingerprint: Vec<u8>) -> PageScope {
    PageScope {
        method,
        tenant: None,
        user: ctx.principal().user(),
        fingerprint,
    }
}

/// Houses that are older than a version.
fn behind(fleets: &[(ServerName, Fleet)], target: i32) -> i64 {
    let versions = fleets.iter().flat_map(|(_, fleet)| &fleet.versions);
    let older = versions.filter(|version| version.version < target);
    older.map(|version| version.houses).sum()
}

fn fingerprint(new: &NewRun) -> Vec<u8> {
    let fields = json!([new.plan, new.reason.as_str()]);
    let digest = digest::digest(&digest::SHA256, fields.to_string().as_bytes());
    digest.as_ref().to_vec()
}

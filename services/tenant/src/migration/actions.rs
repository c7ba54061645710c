//! What an operator may do with runs of migrations. One function each.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use futures_util::future::join_all;
use rowhouse_context::{Ctx, ServiceName};
use rowhouse_db::paging::{Page, PageScope, PageTokens};
use rowhouse_db::requests::{Claimed, Once};
use rowhouse_types::{IdempotencyKey, MigrationRunId, ServerName};
use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

use super::{Away, Drift, Fleet, Plan, Progress, Run, State, Wave, peer, store};
use crate::audit::{self, Entry};
use crate::error::{Error, Result};
use crate::operation::peers::Peers;
use crate::tenant::Reason;
use crate::{request, server};

/// Canaries that are told to be unknown in one answer.
const UNKNOWN_MAX: usize = 20;

/// What an operator may do with runs. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Migrations {
    pub(super) pool: PgPool,
    pub(super) peers: Peers,
    pub(super) tokens: PageTokens,
}

/// A run to be started.
pub(crate) struct NewRun {
    pub(crate) plan: Plan,
    pub(crate) reason: Reason,
    pub(crate) request: Option<IdempotencyKey>,
}

/// What each data server says of its houses, or why it says nothing.
pub(crate) type Fleets = Vec<(ServerName, Result<Fleet>)>;

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

    /// Which houses are behind, by data server. One that does not answer keeps no other from it.
    pub(crate) async fn plan(&self, ctx: &Ctx, participant: ServiceName) -> Result<Fleets> {
        if self.peers.participant(participant).is_none() {
            return Err(Error::ParticipantUnknown { participant });
        }
        let servers = server::store::names(&self.pool).await?;
        // Whoever hangs has half of the time: the caller shall hear of the others.
        let wait = ctx.time_left() / 2;
        let asked = servers.into_iter().map(|server| async move {
            let fleet = peer::describe(&self.peers, ctx, participant, server.as_str(), wait).await;
            (server, fleet)
        });
        Ok(join_all(asked).await)
    }

    /// Starts a run. A repeated call answers the run that the first one started.
    pub(crate) async fn start(&self, ctx: &Ctx, mut new: NewRun) -> Result<Run> {
        let once = recognised_by(&new);
        if let Some(once) = &once
            && let Some(run) = self.started_before(ctx, once).await?
        {
            return Ok(run);
        }
        self.check_canaries(&new.plan).await?;
        let fleets = self.plan(ctx, new.plan.participant).await?;
        let (newest, fleets) = newest(fleets)?;
        if new.plan.target == 0 {
            new.plan.target = newest;
        }
        if !(1..=newest).contains(&new.plan.target) {
            let version = new.plan.target;
            return Err(Error::MigrationVersionUnknown { version, newest });
        }
        let progress = progress(fleets, new.plan.target, store::now(&self.pool).await?);
        let mut transaction = self.pool.begin().await?;
        let id = MigrationRunId::generate();
        if let Some(once) = &once {
            let caller = ctx.principal().actor();
            let claimed = request::TABLE.claim(&mut transaction, &caller, once, id.uuid()).await?;
            if claimed != Claimed::First {
                transaction.rollback().await?;
                return self.repeated(claimed).await;
            }
        }
        let planned = progress.values().map(|progress| progress.behind_in_all).sum();
        let run = store::insert(&mut transaction, ctx, id, &new.plan, (planned, &progress)).await?;
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
        let mut turned = before.clone();
        turned.turn(state);
        let after = store::set_state(&mut transaction, &turned).await?;
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

    /// Every canary has a home. A wave of others would match no house, and be through at once.
    async fn check_canaries(&self, plan: &Plan) -> Result<()> {
        let named = plan.waves.iter().enumerate().flat_map(|(wave, of)| {
            let tenants = match of {
                Wave::Tenants(tenants) => tenants.as_slice(),
                Wave::Percent(_) => &[],
            };
            tenants
                .iter()
                .enumerate()
                .map(move |(at, tenant)| ((wave, at), tenant.uuid()))
        });
        let named: Vec<((usize, usize), Uuid)> = named.collect();
        if named.is_empty() {
            return Ok(());
        }
        let tenants: Vec<Uuid> = named.iter().map(|(_, tenant)| *tenant).collect();
        let known = store::with_home(&self.pool, plan.participant, &tenants).await?;
        let unknown = named.into_iter().filter(|(_, tenant)| !known.contains(tenant));
        let places: Vec<(usize, usize)> = unknown.map(|(place, _)| place).take(UNKNOWN_MAX).collect();
        if places.is_empty() {
            return Ok(());
        }
        Err(Error::CanariesUnknown { places })
    }

    /// The run that an earlier call with this request id started: it is answered whatever the participant says now.
    async fn started_before(&self, ctx: &Ctx, once: &Once) -> Result<Option<Run>> {
        let mut connection = self.pool.acquire().await?;
        let caller = ctx.principal().actor();
        let earlier = request::TABLE.find(&mut connection, &caller, once).await?;
        drop(connection);
        match earlier {
            Some(earlier) => self.repeated(earlier).await.map(Some),
            None => Ok(None),
        }
    }

    async fn repeated(&self, earlier: Claimed) -> Result<Run> {
        let Claimed::Repeated(id) = earlier else {
            return Err(Error::RequestReused);
        };
        self.get(MigrationRunId::from_uuid(id)).await
    }
}

pub(super) fn scope(ctx: &Ctx, method: &'static str, fingerprint: Vec<u8>) -> PageScope {
    PageScope {
        method,
        tenant: None,
        user: ctx.principal().user(),
        fingerprint,
    }
}

/// The newest version that the participant has: of several processes of several versions, the oldest decides.
///
/// # Errors
/// That of the last data server, where none has answered: what can be migrated is not known then.
fn newest(mut fleets: Fleets) -> Result<(i32, Fleets)> {
    let newest = fleets.iter().filter_map(|(_, fleet)| Some(fleet.as_ref().ok()?.newest));
    let newest = newest.min();
    if newest.is_none()
        && let Some((_, fleet)) = fleets.pop()
    {
        fleet?;
    }
    Ok((newest.unwrap_or_default(), fleets))
}

/// How far a run is before it has asked anybody. How many of a server's houses are the first wave's is not known yet.
fn progress(fleets: Fleets, target: i32, now: DateTime<Utc>) -> BTreeMap<String, Progress> {
    let progress = fleets.into_iter().map(|(server, fleet)| {
        let progress = match fleet {
            Ok(fleet) => Progress {
                behind_in_all: fleet.behind(target),
                ..Progress::default()
            },
            Err(error) => Progress {
                is_unknown: true,
                away: Some(Away::after(None, &error.to_string(), now)),
                ..Progress::default()
            },
        };
        (server.to_string(), progress)
    });
    progress.collect()
}

/// How a call that names a request id is recognised when it comes again.
fn recognised_by(new: &NewRun) -> Option<Once> {
    let content = json!([new.plan, new.reason.as_str()]);
    new.request.map(|key| Once::new("StartMigration", key, &content))
}

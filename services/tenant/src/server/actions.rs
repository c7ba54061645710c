//! What an operator may do with data servers. One function each.

use rowhouse_context::Ctx;
use rowhouse_db::paging::{Page, PageScope, PageTokens};
use rowhouse_types::ServerName;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::store::{self, Choice};
use super::{Change, Server, State, Traits, Wish};
use crate::audit::{self, Entry};
use crate::error::{Error, Result};
use crate::operation::peers::Peers;
use crate::tenant::Reason;

/// What an operator may do with data servers. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Servers {
    pool: PgPool,
    peers: Peers,
    tokens: PageTokens,
}

// === impl Servers ===

impl Servers {
    pub(crate) fn new(pool: PgPool, peers: Peers, tokens: PageTokens) -> Self {
        Self { pool, peers, tokens }
    }

    /// Makes a server known, once every participant has it ready. A repeated call answers the server as it is.
    pub(crate) async fn register(&self, ctx: &Ctx, traits: Traits) -> Result<Server> {
        self.peers.check_server(ctx, &traits.name).await?;
        let mut transaction = self.pool.begin().await?;
        let Some(server) = store::insert(&mut transaction, &traits).await? else {
            let found = store::get(&mut transaction, &traits.name).await?;
            return found
                .filter(|found| found.traits == traits)
                .ok_or(Error::ServerExists { name: traits.name });
        };
        let entry = Entry {
            action: "server.register",
            target: server.traits.name.as_str(),
            before: Value::Null,
            after: picture(&server),
            reason: None,
            outcome: "done",
        };
        audit::record(&mut transaction, ctx, &entry).await?;
        transaction.commit().await?;
        Ok(server)
    }

    /// One server.
    pub(crate) async fn get(&self, name: &ServerName) -> Result<Server> {
        let mut connection = self.pool.acquire().await?;
        let server = store::get(&mut connection, name).await?;
        server.ok_or_else(|| Error::ServerUnknown { name: name.clone() })
    }

    /// A page of servers, by name.
    ///
    /// `size`: how many. `token`: of the page before, or empty.
    pub(crate) async fn list(&self, ctx: &Ctx, size: u32, token: &str) -> Result<Page<Server>> {
        let scope = PageScope {
            method: "ListServers",
            tenant: None,
            user: ctx.principal().user(),
            fingerprint: Vec::new(),
        };
        let paging = self.tokens.begin(scope, size, token).map_err(|_| Error::PageToken)?;
        let servers = store::list(&self.pool, paging.after(), paging.limit()).await?;
        Ok(paging.finish(servers, |last: &Server| last.traits.name.clone()))
    }

    /// Changes a server.
    pub(crate) async fn update(&self, ctx: &Ctx, change: Change) -> Result<Server> {
        let mut transaction = self.pool.begin().await?;
        let before = store::lock(&mut transaction, &change.name).await?;
        let before = before.ok_or_else(|| Error::ServerUnknown {
            name: change.name.clone(),
        })?;
        if change.etag.is_some_and(|etag| etag != before.etag) {
            return Err(Error::ServerEtagMismatch { name: change.name });
        }
        let after = store::update(&mut transaction, &change).await?;
        let entry = Entry {
            action: "server.update",
            target: change.name.as_str(),
            before: picture(&before),
            after: picture(&after),
            reason: None,
            outcome: "done",
        };
        audit::record(&mut transaction, ctx, &entry).await?;
        transaction.commit().await?;
        Ok(after)
    }

    /// Keeps new tenants from a server. Sign-ups that are being admitted hold its row, so none is placed there once this
    /// has answered.
    pub(crate) async fn drain(&self, ctx: &Ctx, name: &ServerName, reason: &Reason) -> Result<Server> {
        self.turn(ctx, name, reason, State::Draining, "server.drain").await
    }

    /// Lets new tenants be placed on a server again.
    pub(crate) async fn activate(&self, ctx: &Ctx, name: &ServerName, reason: &Reason) -> Result<Server> {
        self.turn(ctx, name, reason, State::Active, "server.activate").await
    }

    async fn turn(
        &self,
        ctx: &Ctx,
        name: &ServerName,
        reason: &Reason,
        state: State,
        action: &'static str,
    ) -> Result<Server> {
        let mut transaction = self.pool.begin().await?;
        let before = store::lock(&mut transaction, name).await?;
        let before = before.ok_or_else(|| Error::ServerUnknown { name: name.clone() })?;
        if before.state == state {
            return Ok(before);
        }
        let after = store::set_state(&mut transaction, name, state).await?;
        let entry = Entry {
            action,
            target: name.as_str(),
            before: json!({ "state": before.state.as_str() }),
            after: json!({ "state": after.state.as_str() }),
            reason: Some(reason.as_str()),
            outcome: "done",
        };
        audit::record(&mut transaction, ctx, &entry).await?;
        transaction.commit().await?;
        Ok(after)
    }
}

/// The server for a new tenant.
pub(crate) async fn choose(pool: &PgPool, wish: &Wish) -> Result<ServerName> {
    match store::choose(pool, wish).await? {
        Choice::Server(name) => Ok(name),
        Choice::Full => Err(Error::ServersFull),
        Choice::None => Err(Error::NoServerFits),
    }
}

/// A server as the audit log shows it.
fn picture(server: &Server) -> Value {
    let traits = &server.traits;
    let placements: Vec<&str> = traits.placements.iter().map(|placement| placement.as_str()).collect();
    json!({
        "address": traits.address.as_str(),
        "labels": traits.labels,
        "placements": placements,
        "tenants_max": traits.tenants_max.tenants(),
    })
}

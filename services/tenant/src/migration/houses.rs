//! Houses with their versions, over all data servers, a page at a time.

use rowhouse_context::{Ctx, ServiceName};
use rowhouse_db::paging::PageScope;
use rowhouse_types::{ServerName, TenantId};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::{Instant, timeout_at};

use super::actions::{Migrations, scope};
use super::{House, peer, store};
use crate::error::{Error, Result};
use crate::server;

/// Which houses to list, and how many.
#[derive(Clone, Debug)]
pub(crate) struct HouseQuery {
    pub(crate) participant: ServiceName,
    pub(crate) filter: HouseFilter,
    pub(crate) size: u32,
    pub(crate) token: String,
}

/// Which of a participant's houses; all where nothing is said.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct HouseFilter {
    pub(crate) server: Option<ServerName>,
    pub(crate) tenant: Option<TenantId>,
    pub(crate) behind_only: bool,
}

/// Houses, by data server and name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HousePage {
    pub(crate) houses: Vec<House>,
    /// The newest version that the participant has: of several processes of several versions, the oldest decides. `None` where
    /// none was asked, or none has answered.
    pub(crate) newest: Option<i32>,
    /// Data servers that did not answer.
    pub(crate) unreachable: Vec<ServerName>,
    /// Empty on the last page.
    pub(crate) next_page_token: String,
}

/// Where a page begins.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Cursor {
    server: ServerName,
    /// The last of its houses that was told; empty where none was.
    after: String,
}

// === impl Migrations ===

impl Migrations {
    /// Which version houses have, by data server: each is asked once for a page, and only until that is full. One that does not
    /// answer keeps no other from it, unless it is the only one that the filter leaves. Only the first of a page is said to hang,
    /// once it has had half of the deadline; where another does, the page ends before it.
    pub(crate) async fn list_houses(&self, ctx: &Ctx, query: &HouseQuery) -> Result<HousePage> {
        let (participant, filter) = (query.participant, &query.filter);
        if self.peers.participant(participant).is_none() {
            return Err(Error::ParticipantUnknown { participant });
        }
        let scope = page_scope(ctx, query);
        let begin: Option<Cursor> = match query.token.as_str() {
            "" => None,
            token => Some(self.tokens.open(&scope, token).map_err(|_| Error::PageToken)?),
        };
        let mut servers = self.servers_of(filter).await?;
        servers.retain(|server| begin.as_ref().is_none_or(|begin| *server >= begin.server));
        let mut begin = begin.filter(|begin| servers.first() == Some(&begin.server));
        let is_only = filter.server.is_some() || filter.tenant.is_some();
        // Whoever hangs has half of the time: the caller shall hear of the others, and go on behind it with a call of its own.
        let until = Instant::now() + ctx.time_left() / 2;
        let size = usize::try_from(query.size).unwrap_or(usize::MAX);
        let token_at = |server, after| self.tokens.seal(&scope, &Cursor { server, after });
        let mut page = HousePage::default();
        for (index, server) in servers.into_iter().enumerate() {
            let left = size.saturating_sub(page.houses.len());
            if left == 0 || (index > 0 && Instant::now() >= until) {
                page.next_page_token = token_at(server, String::new());
                break;
            }
            let after = begin.take().map(|begin| begin.after).unwrap_or_default();
            let request = peer::house_request(&server, filter, after, left);
            let told = timeout_at(until, peer::houses(&self.peers, ctx, participant, request)).await;
            // Those before it may have left it next to nothing of the time. On the next page it is the first, and has all of that.
            if index > 0 && told.is_err() {
                page.next_page_token = token_at(server, String::new());
                break;
            }
            match told.unwrap_or_else(|_| Err(peer::late().into())) {
                Ok(told) => {
                    page.newest = Some(page.newest.map_or(told.newest, |newest| newest.min(told.newest)));
                    page.houses.extend(told.houses);
                    if !told.next.is_empty() {
                        page.next_page_token = token_at(server, told.next);
                        break;
                    }
                }
                Err(error) if is_only => return Err(about(&server, error)),
                Err(error) => {
                    tracing::warn!(%server, %error, "a data server does not tell its houses");
                    page.unreachable.push(server);
                }
            }
        }
        Ok(page)
    }

    /// The data servers that a filter leaves, in order.
    async fn servers_of(&self, filter: &HouseFilter) -> Result<Vec<ServerName>> {
        let mut servers = server::store::names(&self.pool).await?;
        // A token's place among them is found by this order, whatever the collation of the database.
        servers.sort();
        if let Some(name) = &filter.server {
            servers.retain(|server| server == name);
            if servers.is_empty() {
                return Err(Error::ServerUnknown { name: name.clone() });
            }
        }
        if let Some(tenant) = filter.tenant {
            let home = store::server_of(&self.pool, tenant).await?;
            servers.retain(|server| Some(server) == home.as_ref());
        }
        Ok(servers)
    }
}

/// A token is for the same participant and filter. The size may change from page to page.
fn page_scope(ctx: &Ctx, query: &HouseQuery) -> PageScope {
    let same = json!([query.participant.as_str(), query.filter]);
    scope(ctx, "ListHouses", same.to_string().into_bytes())
}

/// The error, with the name of the data server that it is about.
fn about(server: &ServerName, error: Error) -> Error {
    match error {
        Error::Participant(failure) => failure.about("server", server).into(),
        other => other,
    }
}

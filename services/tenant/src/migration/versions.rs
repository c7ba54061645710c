//! Keeps what the directory says of homes' versions up with what participants say of their houses, whoever has migrated them: a
//! run, a participant's own `migrate`, or a process that died before it could tell.
//!
//! Every process does so. A version is only ever raised, and to one that the homes have, so it does not matter who comes first.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use rowhouse_context::{Ctx, Principal, RequestId, ServiceName};
use rowhouse_types::ServerName;
use sqlx::PgPool;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{peer, store};
use crate::error::Result;
use crate::operation::peers::Peers;
use crate::server;

/// How often participants are asked, each about each data server: that long at most services go on with the statements of an older
/// version. It costs a participant three queries that read the lines of its houses and homes: versions, faults and older homes.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Longest time for one answer.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// A participant's homes on a data server.
pub(super) type Place = (ServiceName, ServerName);

/// Keeps the directory's versions up. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Versions {
    pool: PgPool,
    peers: Peers,
}

// === impl Versions ===

impl Versions {
    pub(crate) fn new(pool: PgPool, peers: Peers) -> Self {
        Self { pool, peers }
    }

    /// Asks at once, and then every minute, until `stop` is cancelled.
    pub(crate) async fn run(&self, stop: CancellationToken) {
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut silent, mut failing) = (BTreeSet::new(), false);
        loop {
            let look = async {
                ticks.tick().await;
                self.look(&mut silent).await
            };
            let Some(look) = stop.run_until_cancelled(look).await else {
                return;
            };
            if let Err(error) = &look
                && !failing
            {
                tracing::warn!(%error, "data servers whose homes have versions cannot be read");
            }
            failing = look.is_err();
        }
    }

    /// Asks about every place at the same time: one that hangs keeps no other waiting, and one that fails is asked again with the
    /// next look.
    ///
    /// `silent`: the places that did not answer the last time, and then those that did not this time. They are logged once, and not
    /// every minute for as long as it lasts.
    pub(super) async fn look(&self, silent: &mut BTreeSet<Place>) -> Result<()> {
        let servers = server::store::names(&self.pool).await?;
        let mut places: Vec<Place> = Vec::new();
        for participant in self.peers.participants() {
            places.extend(servers.iter().map(|server| (participant, server.clone())));
        }
        let looks = places.into_iter().map(|place| async move {
            let looked = self.look_at(&place).await;
            (place, looked)
        });
        let mut failed = BTreeSet::new();
        for (place, looked) in join_all(looks).await {
            let Err(error) = looked else { continue };
            if !silent.contains(&place) {
                let (participant, server) = &place;
                tracing::warn!(%participant, %server, %error, "which versions homes have is not known; it will be asked again");
            }
            failed.insert(place);
        }
        *silent = failed;
        Ok(())
    }

    async fn look_at(&self, (participant, server): &Place) -> Result<()> {
        let asked_at = store::now(&self.pool).await?;
        let name = ServiceName::Tenant;
        let until = Instant::now() + ANSWER_MAX;
        let ctx = Ctx::new(RequestId::generate(), Principal::Service { name }, None, until);
        let fleet = peer::describe(&self.peers, &ctx, *participant, server.as_str(), ANSWER_MAX).await?;
        for (version, but) in fleet.at_least() {
            let known = store::Known {
                participant: *participant,
                server,
                version,
                but,
                asked_at,
            };
            let homes = store::tell_directory(&self.pool, &known).await?;
            if homes > 0 {
                tracing::info!(%participant, %server, version, homes, "the directory has learnt of homes' version");
            }
        }
        Ok(())
    }
}

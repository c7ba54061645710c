//! Calls to processes that are killed: what was cut off is called again. And how a kill is made to fall into a call.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Result, bail, ensure};
use rowhouse_devkit::suite::{Process, Suite};
use rowhouse_devkit::{cluster, journey, wait};
use tokio_postgres::Client;
use tonic::{Code, Status};

use crate::support::database;

/// Whoever has this holds those who pass a [`gate`] of the same database.
pub(crate) const CLOSE_GATE: &str = "SELECT pg_advisory_xact_lock(12)";

/// Calls that are held inside PostgreSQL. That a kill falls into one is not left to luck.
pub(crate) struct Hold {
    client: Client,
}

/// A statement after which whoever commits a change of a table's rows passes a gate, which [`CLOSE_GATE`] closes: then it has
/// happened, and nobody is told.
///
/// `event`: which changes, as a trigger's.
pub(crate) fn gate(schema: &str, table: &str, event: &str) -> String {
    format!(
        "CREATE FUNCTION {schema}.pass_gate() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
             PERFORM pg_catalog.pg_advisory_xact_lock_shared(12);
             RETURN NULL;
         END $$;
         CREATE CONSTRAINT TRIGGER gate AFTER {event} ON {schema}.{table} DEFERRABLE INITIALLY DEFERRED
         FOR EACH ROW EXECUTE FUNCTION {schema}.pass_gate()"
    )
}

/// A call that a killed process cut off; anything else is an answer. The suite's own have details: where it was another process
/// that was killed, they say that it is away or late.
pub(crate) fn was_cut(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable | Code::DeadlineExceeded => true,
        Code::Unknown | Code::Cancelled | Code::Internal => status.details().is_empty(),
        _ => false,
    }
}

/// Repeats what a killed process cut off until it is answered, and counts how often it was. What was cut may have happened:
/// each try counts for itself.
pub(crate) async fn surely<T, F: Future<Output = Result<T>>>(
    what: &str,
    cuts: &AtomicUsize,
    call: impl Fn() -> F,
) -> Result<T> {
    let until = Instant::now() + journey::BACKGROUND_MAX;
    loop {
        match call().await {
            Ok(done) => return Ok(done),
            Err(fault) => match fault.downcast_ref::<Status>() {
                Some(status) if was_cut(status) && Instant::now() < until => {
                    cuts.fetch_add(1, Ordering::Relaxed);
                    tokio::task::yield_now().await;
                }
                _ => bail!("{what}: {fault:?}"),
            },
        }
    }
}

// === impl Hold ===

impl Hold {
    /// Takes what the calls will wait for.
    ///
    /// `url`: a superuser's, of the database. `lock`: a statement that takes it until the end of the transaction.
    pub(crate) async fn begin(url: &str, lock: &str) -> Result<Self> {
        Self::of(cluster::connect(url).await?, lock).await
    }

    /// The same on a superuser's connection.
    pub(crate) async fn of(client: Client, lock: &str) -> Result<Self> {
        client.batch_execute(&format!("BEGIN; {lock}")).await?;
        Ok(Self { client })
    }

    /// Waits until so many calls are held.
    pub(crate) async fn wait_for(&self, calls: usize) -> Result<()> {
        wait::until("calls that are held", journey::BACKGROUND_MAX, || async {
            Ok(database::held(&self.client).await?.len() >= calls)
        })
        .await
    }

    /// Waits until none is held any more: each has ended, or given up.
    pub(crate) async fn wait_for_none(&self) -> Result<()> {
        wait::until("the end of calls that are held", journey::BACKGROUND_MAX, || async {
            Ok(database::held(&self.client).await?.is_empty())
        })
        .await
    }

    /// Kills a process while it waits for what is held, and lets go when it is gone. Returns how many calls it died in: one at
    /// least.
    pub(crate) async fn kill(self, suite: &Suite, victim: Process) -> Result<usize> {
        // Nothing but this lets go of them. Not asked when it is dead alone: a back end that has seen by then that nobody is there
        // (`client_connection_check_interval`) waits no more. And not before alone: another call may have come until it was dead.
        let mut cut = database::held(&self.client).await?;
        ensure!(!cut.is_empty(), "{} has no call that is held", victim.name());
        suite.kill9(victim).await?;
        cut.extend(database::held(&self.client).await?);
        cut.sort_unstable();
        cut.dedup();
        self.client.batch_execute("ROLLBACK").await?;
        // The others finish their statement, and end when they see it.
        let left = "SELECT count(*) FROM pg_stat_activity WHERE pid = ANY ($1) AND state <> 'idle'";
        wait::until("the end of what was held", journey::BACKGROUND_MAX, || async {
            Ok(self.client.query_one(left, &[&cut]).await?.get::<_, i64>(0) == 0)
        })
        .await?;
        Ok(cut.len())
    }
}

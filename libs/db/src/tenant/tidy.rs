//! What happens to the connection of a transaction that was dropped.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Waker};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

use super::server::Borrowed;

/// Longest time for the answer to a ROLLBACK when nothing else is due; then the connection is cut.
const IDLE_WITHIN: Duration = Duration::from_secs(5);

/// How long a dropped statement may go on by itself before its connection is cut: most take a millisecond.
const END_WITHIN: Duration = Duration::from_millis(25);

/// Owns the connections of dropped transactions until they are idle or cut, and the tasks that see to it.
pub(super) struct Tidy {
    connections: TaskTracker,
    tasks: TaskTracker,
    runtime: Handle,
}

// === impl Tidy ===

impl Tidy {
    /// `connections`: the tasks of all connections.
    pub(super) fn new(connections: TaskTracker, runtime: Handle) -> Self {
        Self {
            connections,
            tasks: TaskTracker::new(),
            runtime,
        }
    }

    /// Rolls back, and gives the connection to the pool again once it is known to be idle.
    ///
    /// ROLLBACK is queued before this returns. `in_flight`: an answer is still due; what does not end within a moment is
    /// cut.
    pub(super) fn roll_back(&self, mut borrowed: Borrowed, in_flight: bool) {
        metrics::counter!("rowhouse_db_dropped_transactions_total", "in_flight" => if in_flight { "yes" } else { "no" })
            .increment(1);
        // Should the task itself be dropped, nobody uses the connection again.
        borrowed.dirty = true;
        let _runtime = self.runtime.enter();
        let mut tidying = Box::pin(tidy(borrowed, in_flight));
        // The driver queues a message when its future is first polled.
        let polled = Pin::as_mut(&mut tidying).poll(&mut Context::from_waker(Waker::noop()));
        if polled.is_pending() {
            self.tasks.spawn_on(tidying, &self.runtime);
        }
    }

    /// Waits for the transactions dropped so far.
    pub(super) async fn finish(&self, longest: Duration) {
        self.tasks.close();
        if tokio::time::timeout(longest, self.tasks.wait()).await.is_err() {
            tracing::warn!("dropped transactions were still running at shutdown; their connections are cut");
        }
    }

    /// Waits for the connections' tasks, which have been told to stop.
    pub(super) async fn connections_ended(&self) {
        self.connections.close();
        self.connections.wait().await;
    }
}

/// Rolls back. A connection that is not known to be idle in time is cut.
///
/// Cut and not cancelled: PgBouncer up to 1.19 can end itself over a cancel request whose sender goes away too early
/// (its issues 801, 822 and 847), and a process that is killed always does. When its client goes, PgBouncer closes the
/// server connection in use, and the back end notices within `client_connection_check_interval`, which is set on the
/// login (`cluster/roles.sql`).
async fn tidy(mut connection: Borrowed, in_flight: bool) {
    let within = if in_flight { END_WITHIN } else { IDLE_WITHIN };
    // Answers come in the order of the messages, so with ROLLBACK's all others are there.
    let idle = tokio::time::timeout(within, connection.client.batch_execute("ROLLBACK"));
    if matches!(idle.await, Ok(Ok(()))) {
        connection.dirty = false;
    } else {
        metrics::counter!("rowhouse_db_discarded_connections_total").increment(1);
    }
}

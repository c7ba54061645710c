//! A run as a stream: what it is now, and then whenever it changes.

use std::time::Duration;

use futures_util::Stream;
use futures_util::stream::unfold;
use rowhouse_context::Ctx;
use rowhouse_types::MigrationRunId;
use tokio::time::{Instant, sleep_until};

use super::actions::Migrations;
use super::{Run, store};
use crate::error::{Error, Result};

/// How often a run is read. A watcher costs the database three reads of one row a second, whatever the run does.
const LOOK_EVERY: Duration = Duration::from_millis(350);

/// Where a watcher is.
enum Next {
    /// It has told this revision.
    After(i64),
    /// It has told the end, or a fault.
    Nothing,
}

// === impl Migrations ===

impl Migrations {
    /// Tells a run whenever it changes, until it ends or the call's deadline comes. It lasts as long as its reader.
    ///
    /// `first`: the run as it is told first.
    pub(crate) fn watch(&self, ctx: &Ctx, first: &Run) -> impl Stream<Item = Result<Run>> + Send + use<> {
        let (migrations, id, deadline) = (self.clone(), first.id, ctx.deadline());
        // Lower than any: the first look tells what is.
        unfold(Next::After(0), move |next| {
            let migrations = migrations.clone();
            async move {
                let Next::After(told) = next else { return None };
                match migrations.changed(id, told, deadline).await {
                    Ok(run) if run.state.is_final() => Some((Ok(run), Next::Nothing)),
                    Ok(run) => {
                        let told = run.revision;
                        Some((Ok(run), Next::After(told)))
                    }
                    Err(error) => Some((Err(error), Next::Nothing)),
                }
            }
        })
    }

    /// Waits until the run has a higher revision.
    async fn changed(&self, id: MigrationRunId, told: i64, deadline: Instant) -> Result<Run> {
        loop {
            let run = store::get(&self.pool, id)
                .await?
                .ok_or(Error::MigrationUnknown { id })?;
            if run.revision > told {
                return Ok(run);
            }
            let next = Instant::now() + LOOK_EVERY;
            if next >= deadline {
                return Err(Error::WatchOver { id });
            }
            sleep_until(next).await;
        }
    }
}

//! What homes forget by and by, whether or not anybody calls for their tenants.

use std::time::Duration;

use chrono::{TimeDelta, Utc};
use futures_util::future::join_all;
use rowhouse_types::{HomeState, ServerName, TenantId};
use sqlx::{Connection as _, PgConnection};
use tokio::time::timeout;
use uuid::Uuid;

use super::provisioner::own::bounded;
use super::provisioner::server_named;
use super::{ProvisionError, Provisioner, house, registry};
use crate::Statement;

/// Homes that are seen to over one connection: a back end remembers every table that it has touched.
const PAGE: i64 = 500;

/// Rows that one transaction removes: some milliseconds.
const PART_ROWS: u32 = 1_000;

/// Such transactions in one home in a turn; then it is the next home's.
const PARTS_MAX: u32 = 100;

/// Longest time for a turn in one home, and for reading a page of them: some hundred times what they take. A server that hangs
/// ends nothing by itself.
const TURN_MAX: Duration = Duration::from_secs(60);

/// How long a row's time must have been over by this process's clock. Others' clocks are behind: by theirs a row that is removed
/// must not count any more.
const CLOCKS_APART_MAX: TimeDelta = TimeDelta::minutes(1);

/// What is done in each home.
#[derive(Clone, Copy)]
struct Turn {
    statement: &'static str,
    part_rows: u32,
    max: Duration,
}

// === impl Provisioner ===

impl Provisioner {
    /// Removes rows whose time is over from every home that is in use, in transactions of up to 1,000 rows, 100,000 of a home;
    /// answers how many. Homes that refuse changes now (frozen, read-only, about to change their state) are left for another turn,
    /// and what fails keeps no other home from it. Each server is gone through for itself, with a minute for each home, so one that
    /// hangs keeps no other waiting. Any number of processes may do it at once.
    ///
    /// `statement`: removes at most `$3` (a bigint) rows of tenant `$1` whose time is over at `$2` (a timestamp, a minute ago:
    /// the clocks of those who read the rows differ from this one's), and passes over those that somebody else has locked.
    ///
    /// # Errors
    /// The first failure of a server or a home.
    pub async fn forget(&self, statement: &Statement<()>) -> Result<u64, ProvisionError> {
        self.forget_by(statement, PAGE, PART_ROWS, TURN_MAX).await
    }

    /// `page`: homes seen to over one connection. `part_rows`: rows that one transaction removes. `max`: longest time in one home.
    pub(crate) async fn forget_by(
        &self,
        statement: &Statement<()>,
        page: i64,
        part_rows: u32,
        max: Duration,
    ) -> Result<u64, ProvisionError> {
        let turn = Turn {
            statement: statement.sql(),
            part_rows,
            max,
        };
        let servers = self.servers.keys().map(|name| self.forget_on(name, turn, page));
        join_all(servers).await.into_iter().sum()
    }

    async fn forget_on(&self, name: &str, turn: Turn, page: i64) -> Result<u64, ProvisionError> {
        let server = &server_named(name)?;
        let (mut after, mut forgotten, mut failed) = (Uuid::nil(), 0, Ok(()));
        loop {
            let mut main = self.open(server, None).await?;
            let homes = timeout(TURN_MAX, registry::in_use(&mut main, self.participant, after, page)).await;
            let homes = homes.map_err(|_| too_late())??;
            if homes.is_empty() {
                return failed.map(|()| forgotten);
            }
            for (tenant, has_database) in homes {
                after = tenant.uuid();
                let done = async {
                    if has_database {
                        self.forget_in_own(tenant, server, turn).await
                    } else {
                        self.forget_in(&mut main, tenant, turn).await
                    }
                };
                match timeout(turn.max, done).await {
                    Ok(Ok(rows)) => forgotten += rows,
                    Ok(Err(error)) => failed = failed.and(Err(error)),
                    Err(_) => {
                        failed = failed.and(Err(too_late()));
                        // The connection is in the middle of something: the next home has another.
                        break;
                    }
                }
            }
            // All that counts was committed.
            drop(main.close().await);
        }
    }

    async fn forget_in_own(&self, tenant: TenantId, server: &ServerName, turn: Turn) -> Result<u64, ProvisionError> {
        let mut own = match self.own(tenant, server).await {
            Ok(Some(own)) => own,
            // It has been dropped since.
            Ok(None) | Err(ProvisionError::HomeAbsent) => return Ok(0),
            Err(error) => return Err(error),
        };
        let forgotten = self.forget_in(&mut own, tenant, turn).await?;
        own.close().await?;
        Ok(forgotten)
    }

    async fn forget_in(
        &self,
        connection: &mut PgConnection,
        tenant: TenantId,
        turn: Turn,
    ) -> Result<u64, ProvisionError> {
        let mut forgotten = 0;
        for _ in 0..PARTS_MAX {
            let mut tx = bounded(connection).await?;
            // First the lock, then the look-up, as who enters the home.
            if !registry::try_share_tenant(&mut tx, tenant).await? {
                break;
            }
            let entry = registry::find(&mut tx, tenant, self.participant).await?;
            let Some((home, HomeState::Active)) = entry.and_then(|entry| entry.place) else {
                break;
            };
            house::look_into(&mut tx, &home.schema, tenant).await?;
            // Not kept by the connection: each home has a plan of its own.
            let done = sqlx::query(turn.statement).persistent(false);
            let done = done
                .bind(tenant.uuid())
                .bind(Utc::now() - CLOCKS_APART_MAX)
                .bind(i64::from(turn.part_rows));
            let rows = done.execute(&mut *tx).await?.rows_affected();
            tx.commit().await?;
            forgotten += rows;
            if rows < turn.part_rows.into() {
                break;
            }
        }
        Ok(forgotten)
    }
}

fn too_late() -> ProvisionError {
    ProvisionError::Database(sqlx::Error::PoolTimedOut)
}

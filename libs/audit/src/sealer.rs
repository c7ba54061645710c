//! Sealing the log of a control schema: many chains in one transaction.
//!
//! A service's chains stand in one schema, so its sealer can take them together. A home is entered for one tenant at a time: who
//! keeps a log in homes seals it tenant by tenant.

use std::time::Duration;

use rowhouse_types::TenantId;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::ControlLog;
use crate::seal::ENTRIES_MAX;
use crate::store::sealing::{CHAINS_MAX, share};
use crate::store::tenant_of;

/// How often it looks for entries that wait.
pub const SEAL_EVERY: Duration = Duration::from_secs(1);

/// Seals of one chain in a round; then it is the next one's turn.
pub const SEALS_PER_TURN: usize = 10;

/// Chains that are sealed in one transaction at most: another sealer that meets one of them waits for all.
pub const CHAINS_TOGETHER_MAX: usize = 50;

/// Seals what is written, until `stop`. Every replica may: the number of a seal is given once.
pub async fn run(log: ControlLog, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(SEAL_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failing = false;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        match seal_all(&log, &stop).await {
            Ok(()) => failing = false,
            Err(error) if !std::mem::replace(&mut failing, true) => {
                tracing::warn!(cause = %error, "audit entries were not sealed; they wait");
            }
            Err(_) => {}
        }
    }
}

/// One round: seals what waits in every chain, up to a bound for each. One that fails keeps no other waiting; the last fault is
/// told. Where there is no connection to be had the round is over: each chain would wait for one in vain. It ends early at `stop`,
/// too.
///
/// # Errors
/// What PostgreSQL says.
pub async fn seal_all(log: &ControlLog, stop: &CancellationToken) -> Result<(), sqlx::Error> {
    let (mut after, mut outcome) = (None, Ok(()));
    loop {
        let chains = log.chains(after).await?;
        for together in chains.chunks(CHAINS_TOGETHER_MAX) {
            if stop.is_cancelled() {
                return outcome;
            }
            match seal_together(log, together, stop).await {
                Ok(()) => {}
                Err(error) if has_no_connection(&error) => return Err(error),
                Err(error) => outcome = Err(error),
            }
        }
        after = chains.last().copied();
        if i64::try_from(chains.len()).is_ok_and(|count| count < CHAINS_MAX) {
            return outcome;
        }
    }
}

/// Seals some chains in one transaction, then alone those that had their whole share waiting. Where the transaction fails each
/// is sealed alone: that shows which one it was, and what it was.
async fn seal_together(log: &ControlLog, chains: &[Uuid], stop: &CancellationToken) -> Result<(), sqlx::Error> {
    let tenants: Vec<Option<TenantId>> = chains.iter().copied().map(tenant_of).collect();
    let (alone, turns) = match log.seal_many(&tenants).await {
        Ok(sealed) => {
            let whole = |count: &Option<usize>| count.is_some_and(|count| count >= share(chains.len()));
            let more = tenants.iter().zip(&sealed).filter(|(_, count)| whole(count));
            (more.map(|(tenant, _)| *tenant).collect(), SEALS_PER_TURN - 1)
        }
        Err(error) if has_no_connection(&error) => return Err(error),
        Err(_) => (tenants, SEALS_PER_TURN),
    };
    let mut outcome = Ok(());
    for tenant in alone {
        if stop.is_cancelled() {
            break;
        }
        match seal_some(log, tenant, turns).await {
            Ok(()) => {}
            Err(error) if has_no_connection(&error) => return Err(error),
            Err(error) => outcome = Err(error),
        }
    }
    outcome
}

/// Whether the pool gave none, or gives none any more: no matter of what was to be sealed.
fn has_no_connection(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed)
}

async fn seal_some(log: &ControlLog, tenant: Option<TenantId>, turns: usize) -> Result<(), sqlx::Error> {
    for _ in 0..turns {
        if log.seal(tenant).await?.is_none_or(|sealed| sealed < ENTRIES_MAX) {
            break;
        }
    }
    Ok(())
}

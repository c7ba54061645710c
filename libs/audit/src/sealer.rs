//! Sealing the log of a control schema.

use std::time::Duration;

use rowhouse_types::TenantId;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::ControlLog;
use crate::seal::ENTRIES_MAX;
use crate::store::CHAINS_MAX;

/// How often it looks for entries that wait.
pub const SEAL_EVERY: Duration = Duration::from_secs(1);

/// Seals of one chain in a round; then it is the next one's turn.
pub const SEALS_PER_TURN: usize = 10;

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
        match seal_all(&log).await {
            Ok(()) => failing = false,
            Err(error) if !std::mem::replace(&mut failing, true) => {
                tracing::warn!(cause = %error, "audit entries were not sealed; they wait");
            }
            Err(_) => {}
        }
    }
}

/// Seals what waits in every chain, up to a bound for each. One that fails keeps no other waiting; the last fault is told.
async fn seal_all(log: &ControlLog) -> Result<(), sqlx::Error> {
    let (mut after, mut outcome) = (None, Ok(()));
    loop {
        let chains = log.chains(after).await?;
        for chain in &chains {
            if let Err(error) = seal_some(log, *chain).await {
                outcome = Err(error);
            }
        }
        after = chains.last().copied();
        if i64::try_from(chains.len()).is_ok_and(|count| count < CHAINS_MAX) {
            return outcome;
        }
    }
}

async fn seal_some(log: &ControlLog, chain: Uuid) -> Result<(), sqlx::Error> {
    let tenant = (!chain.is_nil()).then(|| TenantId::from_uuid(chain));
    for _ in 0..SEALS_PER_TURN {
        if log.seal(tenant).await?.is_none_or(|sealed| sealed < ENTRIES_MAX) {
            break;
        }
    }
    Ok(())
}

//! Sealing the log of a control schema: many chains in one transaction.
//!
//! A service's chains stand in one schema, so its sealer can take them together. A home is entered for one tenant at a time: who
//! keeps a log in homes seals it tenant by tenant.

use std::time::Duration;

use chrono::{DateTime, Utc};
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
            Err(error) => {
                metrics::counter!("rowhouse_audit_seal_failures_total").increment(1);
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(cause = %error, "audit entries were not sealed; they wait");
                }
            }
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
    let mut oldest: Option<Uuid> = None;
    loop {
        let (chains, entries): (Vec<Uuid>, Vec<Uuid>) = log.chains(after).await?.into_iter().unzip();
        oldest = oldest.into_iter().chain(entries).min();
        let were_all = i64::try_from(chains.len()).is_ok_and(|count| count < CHAINS_MAX);
        if were_all {
            let waiting = oldest.map_or(Duration::ZERO, |oldest| waiting(oldest, Utc::now()));
            metrics::gauge!("rowhouse_audit_waiting_seconds").set(waiting.as_secs_f64());
        }
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
        if were_all {
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

/// How long an entry has waited at `now`: its id says when it was made (RFC 9562, section 5.7).
fn waiting(entry: Uuid, now: DateTime<Utc>) -> Duration {
    let made = entry
        .get_timestamp()
        .map(|made| Duration::new(made.to_unix().0, made.to_unix().1));
    let now = u64::try_from(now.timestamp_millis()).map(Duration::from_millis);
    // Clocks differ a little: one that goes ahead has made an entry that has not waited.
    made.zip(now.ok())
        .map_or(Duration::ZERO, |(made, now)| now.saturating_sub(made))
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

#[cfg(test)]
mod tests {
    use uuid::{NoContext, Timestamp};

    use super::*;

    /// The sealers of homes (crm) look as often.
    #[test]
    fn whoever_seals_looks_for_entries_every_two_seconds_at_least() {
        assert!(SEAL_EVERY <= Duration::from_secs(2), "{SEAL_EVERY:?}");
    }

    #[test]
    fn an_entry_has_waited_since_its_id_was_made() {
        let made = DateTime::from_timestamp(1_800_000_000, 250_000_000).unwrap();
        let entry = Uuid::new_v7(Timestamp::from_unix(NoContext, 1_800_000_000, 250_000_000));
        let at = |millis| waiting(entry, made + chrono::TimeDelta::milliseconds(millis));
        assert_eq!(at(0), Duration::ZERO);
        assert_eq!(at(7_500), Duration::from_millis(7_500));
        assert_eq!(at(-2_000), Duration::ZERO, "made by a clock that goes ahead");
        // What is no id of ours stands in the queue only by somebody's hand, and is nobody's alarm.
        assert_eq!(waiting(Uuid::nil(), made), Duration::ZERO);
    }
}

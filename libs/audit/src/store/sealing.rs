//! Sealing what waits in the control database: the next seal of each of some chains, in one transaction.
//!
//! A new tenant is a new chain in several services: one by one, each chain would take the round trips and the COMMIT of a
//! transaction of its own.

use std::collections::{BTreeMap, HashMap, HashSet};

use rowhouse_types::TenantId;
use sqlx::{AssertSqlSafe, PgConnection, Row as _};
use uuid::Uuid;

use super::{ControlLog, Table, key, read_head};
use crate::entry::Entry;
use crate::seal::{Chain, ENTRIES_MAX, Head, Seal};

/// Chains that are read at once.
pub(crate) const CHAINS_MAX: i64 = 500;

/// Entries that are held for one transaction at most: what five full seals hold, and ten of each chain where all have as many.
const ENTRIES_TOGETHER_MAX: usize = 500;

/// Entries that wait, by their chain, the oldest first.
type Queued = BTreeMap<Uuid, Vec<Uuid>>;

/// How many entries each of so many chains may bring into one transaction; a chain that is alone as many as fit into a seal.
pub(crate) fn share(chains: usize) -> usize {
    (ENTRIES_TOGETHER_MAX / chains.max(1)).clamp(1, ENTRIES_MAX)
}

// === impl Table ===

impl Table {
    /// The statements of sealing.
    pub(super) fn sealing_statements(&self) -> [String; 5] {
        [
            self.chains_sql(),
            self.heads_sql(),
            self.queued_sql(),
            self.seal_sql(),
            self.sealed_sql(),
        ]
    }

    fn chains_sql(&self) -> String {
        let schema = self.schema;
        format!(
            "SELECT DISTINCT ON (chain) chain, id FROM {schema}.unsealed
             WHERE $1::uuid IS NULL OR chain > $1
             ORDER BY chain, id
             LIMIT $2"
        )
    }

    /// Each by the end of its index: a chain may have a million seals.
    fn heads_sql(&self) -> String {
        let schema = self.schema;
        format!(
            "SELECT wanted.chain, last.number, last.hash
             FROM unnest($1::uuid[]) AS wanted (chain)
             CROSS JOIN LATERAL (
                 SELECT number, hash FROM {schema}.seals AS seals
                 WHERE seals.chain = wanted.chain
                 ORDER BY number DESC
                 LIMIT 1
             ) AS last"
        )
    }

    fn queued_sql(&self) -> String {
        let schema = self.schema;
        format!(
            "SELECT wanted.chain, oldest.id
             FROM unnest($1::uuid[]) AS wanted (chain)
             CROSS JOIN LATERAL (
                 SELECT id FROM {schema}.unsealed AS unsealed WHERE unsealed.chain = wanted.chain ORDER BY id LIMIT $2
             ) AS oldest
             ORDER BY oldest.id"
        )
    }

    /// All sealers take the chains in one order, so no two wait for each other. It answers which seals it has written: the
    /// number of another was taken. `$1` has the entries of all seals, each seal those from its `lower` to its `upper`.
    fn seal_sql(&self) -> String {
        let schema = self.schema;
        format!(
            "INSERT INTO {schema}.seals (chain, number, previous, entries, size, leaves, sealed_at, hash)
             SELECT chain, number, previous, ($1::uuid[])[lower:upper], upper - lower + 1, leaves, sealed_at, hash
             FROM unnest($2::uuid[], $3::bigint[], $4::bytea[], $5::integer[], $6::integer[], $7::bytea[], $8::timestamptz[],
                 $9::bytea[]) AS next (chain, number, previous, lower, upper, leaves, sealed_at, hash)
             ORDER BY chain
             ON CONFLICT DO NOTHING
             RETURNING chain"
        )
    }

    fn sealed_sql(&self) -> String {
        let schema = self.schema;
        format!(
            "DELETE FROM {schema}.unsealed AS unsealed
             USING unnest($1::uuid[], $2::uuid[]) AS done (chain, id)
             WHERE unsealed.chain = done.chain AND unsealed.id = done.id"
        )
    }
}

// === impl ControlLog ===

impl ControlLog {
    /// Some of the chains that have entries without a seal, those after `after`, each with the oldest such entry; all of them
    /// where there are fewer than [`CHAINS_MAX`].
    pub(crate) async fn chains(&self, after: Option<Uuid>) -> Result<Vec<(Uuid, Uuid)>, sqlx::Error> {
        sqlx::query_as(AssertSqlSafe(self.table.chains_sql()))
            .bind(after)
            .bind(CHAINS_MAX)
            .fetch_all(&self.pool)
            .await
    }

    /// Seals the oldest entries of a chain that wait; answers how many there were, and `None` where another process has
    /// sealed meanwhile.
    ///
    /// # Errors
    /// What PostgreSQL says.
    pub async fn seal(&self, tenant: Option<TenantId>) -> Result<Option<usize>, sqlx::Error> {
        Ok(self.seal_many(&[tenant]).await?.into_iter().next().flatten())
    }

    /// Seals the oldest entries that wait in each of some chains, in one transaction and in as many round trips as for one
    /// chain; answers of each how many there were, and `None` where another process has sealed it meanwhile. The more chains,
    /// the fewer entries of each, so that what is held at once has a bound.
    ///
    /// The heads are read before the entries that wait: whoever seals in between takes the next number, and then the seal of
    /// that chain is refused, so no entry is sealed twice. What waits in such a chain stays in the queue: the other's seal
    /// need not name all of it.
    ///
    /// `tenants`: each once, [`CHAINS_TOGETHER_MAX`](crate::sealer::CHAINS_TOGETHER_MAX) at most.
    ///
    /// # Errors
    /// What PostgreSQL says; then nothing is sealed in any of the chains.
    pub async fn seal_many(&self, tenants: &[Option<TenantId>]) -> Result<Vec<Option<usize>>, sqlx::Error> {
        let mut transaction = self.pool.begin().await?;
        let chains: Vec<Uuid> = tenants.iter().copied().map(key).collect();
        let heads = self.heads(&mut transaction, &chains).await?;
        let queued = self.queued(&mut transaction, &chains).await?;
        let ids: Vec<Uuid> = queued.values().flatten().copied().collect();
        let entries = self.entries(&mut transaction, &ids).await?;
        let entries: HashMap<Uuid, Entry> = entries.into_iter().map(|entry| (entry.id.uuid(), entry)).collect();

        let mut seals = Vec::new();
        for tenant in tenants {
            let chain = key(*tenant);
            let found = queued.get(&chain).into_iter().flatten();
            let found: Vec<&Entry> = found.filter_map(|id| entries.get(id)).collect();
            if !found.is_empty() {
                let head = heads.get(&chain).copied().unwrap_or_else(Head::start);
                seals.push((chain, Seal::next(&self.chain(*tenant), &head, &found)));
            }
        }
        let overtaken = self.write(&mut transaction, &seals).await?;
        self.forget(&mut transaction, &queued, &overtaken).await?;
        transaction.commit().await?;
        let count = |chain: &Uuid| queued.get(chain).map_or(0, Vec::len);
        let answer = chains
            .iter()
            .map(|chain| (!overtaken.contains(chain)).then(|| count(chain)));
        Ok(answer.collect())
    }

    /// The last seals of the chains that have any.
    async fn heads(&self, connection: &mut PgConnection, chains: &[Uuid]) -> Result<HashMap<Uuid, Head>, sqlx::Error> {
        let rows = sqlx::query(AssertSqlSafe(self.table.heads_sql()))
            .bind(chains)
            .fetch_all(connection)
            .await?;
        rows.iter()
            .map(|row| Ok((row.try_get("chain")?, read_head(row)?)))
            .collect()
    }

    /// Each chain's share of what waits.
    async fn queued(&self, connection: &mut PgConnection, chains: &[Uuid]) -> Result<Queued, sqlx::Error> {
        let rows: Vec<(Uuid, Uuid)> = sqlx::query_as(AssertSqlSafe(self.table.queued_sql()))
            .bind(chains)
            .bind(i64::try_from(share(chains.len())).unwrap_or(i64::MAX))
            .fetch_all(connection)
            .await?;
        let mut queued = Queued::new();
        for (chain, id) in rows {
            queued.entry(chain).or_default().push(id);
        }
        Ok(queued)
    }

    /// Writes seals of different chains; answers which chains another process has sealed meanwhile.
    async fn write(&self, connection: &mut PgConnection, seals: &[(Uuid, Seal)]) -> Result<HashSet<Uuid>, sqlx::Error> {
        if seals.is_empty() {
            return Ok(HashSet::new());
        }
        let (mut entries, mut bounds) = (Vec::new(), Vec::new());
        for (_, seal) in seals {
            let lower = entries.len() + 1;
            entries.extend(seal.entries.iter().map(|id| id.uuid()));
            bounds.push((lower, entries.len()));
        }
        let place = |at: usize| i32::try_from(at).unwrap_or(i32::MAX);
        let of_each = || seals.iter().map(|(_, seal)| seal);
        let written: HashSet<Uuid> = sqlx::query_scalar(AssertSqlSafe(self.table.seal_sql()))
            .bind(entries)
            .bind(seals.iter().map(|(chain, _)| *chain).collect::<Vec<Uuid>>())
            .bind(of_each().map(|seal| seal.number).collect::<Vec<i64>>())
            .bind(of_each().map(|seal| seal.previous.bytes()).collect::<Vec<&[u8]>>())
            .bind(bounds.iter().map(|(lower, _)| place(*lower)).collect::<Vec<i32>>())
            .bind(bounds.iter().map(|(_, upper)| place(*upper)).collect::<Vec<i32>>())
            .bind(of_each().map(Seal::leaf_bytes).collect::<Vec<Vec<u8>>>())
            .bind(of_each().map(|seal| seal.sealed_at).collect::<Vec<_>>())
            .bind(of_each().map(|seal| seal.hash.bytes()).collect::<Vec<&[u8]>>())
            .fetch_all(connection)
            .await?
            .into_iter()
            .collect();
        let chains = seals.iter().map(|(chain, _)| *chain);
        Ok(chains.filter(|chain| !written.contains(chain)).collect())
    }

    /// Takes from the queue what is sealed now, and what is no entry.
    ///
    /// What is no entry is in nobody's seal, so two sealers may take it away at once: in one order, as long as PostgreSQL goes
    /// by the list. Where it does not and they wait for each other, it refuses one, whose chains are sealed one by one then.
    async fn forget(
        &self,
        connection: &mut PgConnection,
        queued: &Queued,
        overtaken: &HashSet<Uuid>,
    ) -> Result<(), sqlx::Error> {
        let done = queued.iter().filter(|(chain, _)| !overtaken.contains(*chain));
        let done = done.flat_map(|(chain, ids)| ids.iter().map(|id| (*chain, *id)));
        let (chains, ids): (Vec<Uuid>, Vec<Uuid>) = done.unzip();
        sqlx::query(AssertSqlSafe(self.table.sealed_sql()))
            .bind(chains)
            .bind(ids)
            .execute(connection)
            .await?;
        Ok(())
    }

    fn chain(&self, tenant: Option<TenantId>) -> Chain {
        Chain {
            service: self.table.service,
            tenant,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sealer::CHAINS_TOGETHER_MAX;

    #[test]
    fn what_is_held_for_one_transaction_has_a_bound() {
        assert_eq!(share(1), ENTRIES_MAX, "a chain that is alone fills its seal");
        for chains in 0..=CHAINS_TOGETHER_MAX {
            assert!((10..=ENTRIES_MAX).contains(&share(chains)), "{chains}");
            assert!(share(chains) * chains <= ENTRIES_TOGETHER_MAX, "{chains}");
        }
    }
}

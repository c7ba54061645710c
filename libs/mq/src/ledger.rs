//! Counted attempts and processed messages: tables `<schema>.attempts` and `<schema>.processed`.

use sqlx::PgPool;

/// Where one service counts attempts and remembers what it has processed.
#[derive(Clone, Debug)]
pub struct Ledger {
    pub(crate) pool: PgPool,
    pub(crate) schema: &'static str,
}

// === impl Ledger ===

impl Ledger {
    /// The tables `<schema>.attempts` and `<schema>.processed` of the database that `pool` leads to.
    #[must_use]
    pub fn new(pool: PgPool, schema: &'static str) -> Self {
        Self { pool, schema }
    }
}

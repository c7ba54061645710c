//! What a store says: statements that are written once, and statements that are put together from written pieces.
//! Both know that `$1` is the tenant.

use std::fmt;
use std::marker::PhantomData;

use tokio_postgres::types::Type;

use crate::bind::{Bind, Value};
use crate::row::FromRow;
use crate::wire::kept::Text;

/// A statement for tenants' data that answers rows of `R`.
///
/// `$1` is the tenant's uuid; [`crate::TenantTx`] supplies it. The caller binds `$2` and following.
pub struct Statement<R> {
    name: &'static str,
    sql: &'static str,
    binds: &'static [Type],
    row: PhantomData<fn() -> R>,
}

/// A statement in two variants, while homes of two versions are served: [`crate::TenantTx::variant`] picks.
#[derive(Debug)]
pub struct Variants<R> {
    /// The first version of a home that the newer variant fits.
    pub since: i32,
    /// For homes of that version.
    pub newer: Statement<R>,
    /// For homes before it. It must run on newer homes too, for the directory may be behind: migrations only add.
    pub older: Statement<R>,
}

/// Any [`Statement`], whatever its rows: for lists of all statements of a store, which tests prepare.
pub trait AnyStatement: Sync {
    /// Its name in logs and metrics.
    fn name(&self) -> &'static str;
    /// Its text.
    fn sql(&self) -> &'static str;
    /// Types of `$2` and following.
    fn binds(&self) -> &'static [Type];
    /// Names and types of its columns.
    fn columns(&self) -> &'static [(&'static str, Type)];
}

/// A statement that is put together while running (filters, orders), from pieces that stand in the code and from binds:
/// no caller's text can become SQL.
pub struct Sql<R> {
    name: &'static str,
    text: String,
    binds: Vec<(Box<dyn Bind + Send>, Type)>,
    row: PhantomData<fn() -> R>,
}

// === impl Statement ===

impl<R> Statement<R> {
    /// A statement.
    ///
    /// `name`: for logs and metrics, `contact.insert`. `binds`: types of `$2` and following. Meant for constants: a text
    /// that does not mention `$1` does not compile there.
    #[must_use]
    pub const fn new(name: &'static str, sql: &'static str, binds: &'static [Type]) -> Self {
        assert!(
            mentions_tenant(sql.as_bytes()),
            "a statement must compare $1, the tenant"
        );
        Self {
            name,
            sql,
            binds,
            row: PhantomData,
        }
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn sql(&self) -> &'static str {
        self.sql
    }

    pub(crate) fn binds(&self) -> &'static [Type] {
        self.binds
    }

    /// What a connection keeps it by.
    pub(crate) fn text(&self) -> Text {
        Text::written(self.sql, self.binds)
    }
}

impl<R: FromRow> AnyStatement for Statement<R> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn sql(&self) -> &'static str {
        self.sql
    }

    fn binds(&self) -> &'static [Type] {
        self.binds
    }

    fn columns(&self) -> &'static [(&'static str, Type)] {
        R::COLUMNS
    }
}

impl<R> fmt::Debug for Statement<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Statement")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

// === impl Sql ===

impl<R> Sql<R> {
    /// Begins with `piece`, which names `$1` as the tenant.
    #[must_use]
    pub fn new(piece: &'static str) -> Self {
        Self {
            name: "dynamic",
            text: piece.to_owned(),
            binds: Vec::new(),
            row: PhantomData,
        }
    }

    /// The same with a name for logs and metrics.
    #[must_use]
    pub fn named(mut self, name: &'static str) -> Self {
        self.name = name;
        self
    }

    /// Appends a piece.
    #[must_use]
    pub fn push(mut self, piece: &'static str) -> Self {
        self.text.push_str(piece);
        self
    }

    /// Appends the next placeholder (`$2`, `$3`, ...) and binds `value` to it.
    #[must_use]
    pub fn bind<T: Value>(mut self, value: T) -> Self {
        self.binds.push((Box::new(value), T::TYPE));
        self.text.push('$');
        self.text.push_str(&(self.binds.len() + 1).to_string());
        self
    }

    /// The text so far: for tests.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn binds(&self) -> &[(Box<dyn Bind + Send>, Type)] {
        &self.binds
    }

    pub(crate) fn mentions_tenant(&self) -> bool {
        mentions_tenant(self.text.as_bytes())
    }
}

impl<R> fmt::Debug for Sql<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sql").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Whether `sql` has the placeholder `$1` (and not only `$10` to `$19`).
#[expect(
    clippy::indexing_slicing,
    reason = "`get` is not const, and the bounds stand in the loop's condition"
)]
const fn mentions_tenant(sql: &[u8]) -> bool {
    let mut at = 0;
    while at + 1 < sql.len() {
        let ends = at + 2 == sql.len() || !sql[at + 2].is_ascii_digit();
        if sql[at] == b'$' && sql[at + 1] == b'1' && ends {
            return true;
        }
        at += 1;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_placeholder_is_the_tenant() {
        assert!(mentions_tenant(b"SELECT 1 WHERE tenant_id = $1"));
        assert!(mentions_tenant(b"VALUES ($1, $2)"));
        for sql in ["SELECT 1", "SELECT $2", "SELECT $10, $19", "$", ""] {
            assert!(!mentions_tenant(sql.as_bytes()), "{sql}");
        }
    }

    #[test]
    fn a_dynamic_statement_counts_its_binds_from_two() {
        let sql = Sql::<()>::new("SELECT 1 FROM notes WHERE tenant_id = $1 AND a = ")
            .bind(1_i32)
            .push(" AND b = ")
            .bind("x".to_owned());
        assert_eq!(
            sql.text(),
            "SELECT 1 FROM notes WHERE tenant_id = $1 AND a = $2 AND b = $3"
        );
        assert_eq!(sql.binds()[1].1, Type::TEXT);
    }
}

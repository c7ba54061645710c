//! What a participant's homes consist of.

/// One step of a home's tables.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    /// 1, 2, 3 and so on.
    pub version: i32,
    /// For logs, such as `contacts`.
    pub name: &'static str,
    /// Statements separated by semicolons, run in one transaction with `search_path` on the home, as its owner.
    ///
    /// Names are unqualified. Every table has `tenant_id uuid NOT NULL`; primary key, unique constraints and b-tree
    /// indexes begin with it; every table grants what is needed to `rowhouse_tenant`, and to nobody else. Never
    /// `IF NOT EXISTS`. The migrator adds the CHECK of the house's number and the right to use the schema.
    pub sql: &'static str,
    /// What would keep readers or writers of filled tables waiting, done afterwards and outside that transaction.
    pub deferred: &'static [Deferred],
}

/// A step that is done while readers and writers go on. In a house that is being built it is part of the transaction.
#[derive(Clone, Copy, Debug)]
pub enum Deferred {
    /// An index, built CONCURRENTLY.
    Index {
        /// Its name: `contacts_colour_idx`.
        name: &'static str,
        /// The table, unqualified.
        table: &'static str,
        /// What follows the table's name: `(tenant_id, colour)`. Names that are not built in are qualified: `ext.gin_trgm_ops`.
        definition: &'static str,
        /// Whether it is unique.
        unique: bool,
    },
    /// A constraint that the migration added NOT VALID.
    Validate {
        /// The table, unqualified.
        table: &'static str,
        /// Its name.
        constraint: &'static str,
    },
}

/// The migrations of a participant's homes, oldest first, numbered from 1 without gaps.
#[derive(Clone, Copy, Debug)]
pub struct TenantMigrations {
    list: &'static [Migration],
}

// === impl TenantMigrations ===

impl TenantMigrations {
    /// The migrations. Meant for constants: a list that is not numbered 1, 2, 3 does not compile there.
    #[must_use]
    pub const fn new(list: &'static [Migration]) -> Self {
        assert!(numbered(list), "migrations are numbered from 1 without gaps");
        Self { list }
    }

    /// The newest version; 0 where there are none.
    #[must_use]
    pub const fn newest(&self) -> i32 {
        match self.list.last() {
            Some(migration) => migration.version,
            None => 0,
        }
    }

    /// The migrations that a home of `version` still needs.
    pub fn after(&self, version: i32) -> impl Iterator<Item = &'static Migration> {
        self.between(version, i32::MAX)
    }

    /// The migrations that bring a home from one version to another, that of `to` included.
    pub(super) fn between(&self, from: i32, to: i32) -> impl Iterator<Item = &'static Migration> {
        self.list
            .iter()
            .filter(move |migration| migration.version > from && migration.version <= to)
    }

    /// The newest version up to `version` that has deferred steps: what a home of `version` must have done; 0 where there
    /// is none.
    pub(super) fn deferred_until(&self, version: i32) -> i32 {
        self.deferred(version).max().unwrap_or(0)
    }

    /// The versions up to `version` that have deferred steps, the oldest first.
    pub(super) fn deferred(&self, version: i32) -> impl Iterator<Item = i32> {
        let with_steps = self
            .between(0, version)
            .filter(|migration| !migration.deferred.is_empty());
        with_steps.map(|migration| migration.version)
    }
}

#[expect(
    clippy::indexing_slicing,
    reason = "`get` is not const, and the bound stands in the loop's condition"
)]
const fn numbered(list: &[Migration]) -> bool {
    let mut at = 0;
    let mut version = 1;
    while at < list.len() {
        if list[at].version != version {
            return false;
        }
        at += 1;
        version += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn step(version: i32) -> Migration {
        Migration {
            version,
            name: "step",
            sql: "",
            deferred: &[],
        }
    }

    #[test]
    fn gaps_and_repetitions_are_refused() {
        assert!(numbered(&[]));
        assert!(numbered(&[step(1), step(2), step(3)]));
        assert!(!numbered(&[step(2)]));
        assert!(!numbered(&[step(1), step(1)]));
        assert!(!numbered(&[step(1), step(3)]));
    }

    #[test]
    fn a_home_gets_what_it_lacks() {
        const MIGRATIONS: TenantMigrations = TenantMigrations::new(&[step(1), step(2), step(3)]);
        let versions: Vec<i32> = MIGRATIONS.after(1).map(|migration| migration.version).collect();
        assert_eq!(versions, [2, 3]);
        assert_eq!(MIGRATIONS.between(0, 2).count(), 2);
        assert_eq!(MIGRATIONS.newest(), 3);
    }

    #[test]
    fn only_versions_with_deferred_steps_are_waited_for() {
        const INDEXED: Migration = Migration {
            deferred: &[Deferred::Validate {
                table: "notes",
                constraint: "notes_body_check",
            }],
            ..step(2)
        };
        const MIGRATIONS: TenantMigrations = TenantMigrations::new(&[step(1), INDEXED, step(3)]);
        assert_eq!([1, 2, 3].map(|version| MIGRATIONS.deferred_until(version)), [0, 2, 2]);
        assert_eq!(MIGRATIONS.deferred(MIGRATIONS.newest()).collect::<Vec<_>>(), [2]);
    }
}

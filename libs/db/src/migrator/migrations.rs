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
        self.list.iter().filter(move |migration| migration.version > version)
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
        assert_eq!(MIGRATIONS.newest(), 3);
    }
}

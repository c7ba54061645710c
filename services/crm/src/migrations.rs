//! What a home of this service consists of, and which versions of it this code serves.

use std::ops::RangeInclusive;

use rowhouse_db::{Deferred, Migration, TenantMigrations};

/// The migrations of a home, oldest first. One line for each file in `migrations/tenant/`.
pub const MIGRATIONS: TenantMigrations = TenantMigrations::new(&[
    Migration {
        version: 1,
        name: "contacts",
        sql: include_str!("../migrations/tenant/0001_contacts.sql"),
        deferred: &[],
    },
    Migration {
        version: 2,
        name: "owners",
        sql: include_str!("../migrations/tenant/0002_owners.sql"),
        deferred: &[Deferred::Index {
            name: "contacts_owner_created_at_idx",
            table: "contacts",
            definition: "(tenant_id, owner_id, created_at, id)",
            unique: false,
        }],
    },
    Migration {
        version: 3,
        name: "seals",
        sql: include_str!("../migrations/tenant/0003_seals.sql"),
        deferred: &[],
    },
]);

/// The versions that this code serves: the newest, and the one before it, so that code can go out before the homes are
/// migrated.
pub(crate) fn served() -> RangeInclusive<i32> {
    let newest = MIGRATIONS.newest();
    newest.saturating_sub(1).max(1)..=newest
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn every_file_has_its_line_and_keeps_the_house_rules() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/tenant");
        let files = fs::read_dir(folder).unwrap().count();
        assert_eq!(i32::try_from(files), Ok(MIGRATIONS.newest()));
        for migration in MIGRATIONS.after(0) {
            let header: Vec<&str> = migration
                .sql
                .lines()
                .take_while(|line| line.starts_with("--"))
                .collect();
            for question in ["-- Why:", "-- Locks:", "-- Safe for old code:"] {
                assert!(
                    header.iter().any(|line| line.starts_with(question)),
                    "{} does not answer {question}",
                    migration.name
                );
            }
            let sql = migration.sql.to_uppercase();
            assert!(
                !sql.contains("IF NOT EXISTS") && !sql.contains("CREATE TYPE"),
                "{}",
                migration.name
            );
        }
        assert!(served().contains(&MIGRATIONS.newest()));
    }
}

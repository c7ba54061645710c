//! The statements fit the schema, and the schema keeps the rules of tenants' tables (T08).

use std::time::Duration;

use rowhouse_config::Secret;
use rowhouse_db::testing::{audit_home, check_statements};
use rowhouse_db::{AnyStatement, Migration, Statement, TenantMigrations, Type};
use rowhouse_devkit::fixture::Databases;
use rowhouse_devkit::torture::Torture;
use rowhouse_types::{OperationId, Placement, TenantId};
use tokio::time::Instant;

use super::bench::{self, Bench, PLACEMENTS, server};
use crate::contact::store::STATEMENTS;
use crate::migrations::MIGRATIONS;
use crate::{audit, request};

async fn violations(bench: &Bench) -> Vec<String> {
    let url = Secret::new(bench.superuser_url(bench.one));
    let neighbour = bench.has_neighbours().then_some(bench.two);
    audit_home(&url, bench.one, neighbour).await.unwrap()
}

#[tokio::test]
async fn every_statement_fits_the_schema() {
    for placement in PLACEMENTS {
        let bench = Bench::start_in("crm_statements", placement).await;
        let url = Secret::new(bench.superuser_url(bench.one));
        for statements in [STATEMENTS, request::STATEMENTS, audit::STATEMENTS] {
            let faults = check_statements(&url, bench.one, statements).await.unwrap();
            assert!(faults.is_empty(), "{placement:?}: {faults:#?}");
        }
    }
}

/// The control: a statement with a wrong bind, and one that names a column that is not there.
#[tokio::test]
async fn a_statement_that_does_not_fit_is_noticed() {
    const WRONG_BIND: Statement<()> = Statement::new(
        "test.wrong_bind",
        "DELETE FROM requests WHERE tenant_id = $1 AND method = $2",
        &[Type::UUID],
    );
    const WRONG_COLUMN: Statement<()> = Statement::new(
        "test.wrong_column",
        "DELETE FROM requests WHERE tenant_id = $1 AND nobody = 1",
        &[],
    );
    let bench = Bench::start("crm_wrong_statements").await;
    let url = Secret::new(bench.databases.data_superuser_url());
    let statements: [&dyn AnyStatement; 2] = [&WRONG_BIND, &WRONG_COLUMN];
    let faults = check_statements(&url, bench.one, &statements).await.unwrap();
    for name in ["test.wrong_bind", "test.wrong_column"] {
        assert!(
            faults.iter().any(|fault| fault.starts_with(name)),
            "{name} goes unnoticed: {faults:#?}"
        );
    }
}

/// Every statement compares or inserts the tenant it is told, in each of its parts: a part that reads, changes or writes
/// a table of tenants says `tenant_id` as often as `$1`.
#[test]
fn the_tenant_of_every_statement_is_its_first_bind() {
    for statement in STATEMENTS.iter().chain(request::STATEMENTS) {
        let sql: String = statement
            .sql()
            .lines()
            .filter(|line| !line.trim_start().starts_with("--"))
            .collect();
        let tables = [
            "FROM contacts",
            "UPDATE contacts",
            "INTO contacts",
            "INTO requests",
            "INTO audit_entries",
        ]
        .iter()
        .chain(&["FROM requests", "UPDATE requests", "INTO rowhouse.outbox"])
        .map(|word| sql.matches(word).count())
        .sum::<usize>();
        let tenants = sql.matches("$1,").count() + sql.matches("tenant_id = $1").count();
        assert_eq!(tenants, tables, "{}", statement.name());
    }
}

#[tokio::test]
async fn a_freshly_built_home_has_no_violations() {
    let mut torture = Torture::begin("T08", "homes of crm");
    while torture.round().is_some() {
        for placement in PLACEMENTS {
            let bench = Bench::start_in("crm_catalogue", placement).await;
            let found = violations(&bench).await;
            assert!(found.is_empty(), "{placement:?}: {found:#?}");
            torture.trials(1);
        }
    }
}

/// Long enough to compare a few homes with their template.
const COMPARISON_MAX: Duration = Duration::from_secs(30);

/// The migrations that the release with this version had, and whatever may follow.
fn released(version: i32, more: &[Migration]) -> TenantMigrations {
    let known = MIGRATIONS.after(0).filter(|migration| migration.version <= version);
    let list: Vec<Migration> = known.copied().chain(more.iter().copied()).collect();
    TenantMigrations::new(list.leak())
}

/// A tenant in each placement, with a home as the first release has built it.
async fn first_homes(databases: &Databases) -> Vec<(Placement, TenantId)> {
    let provisioner = bench::provisioner(databases, released(1, &[])).await;
    let mut homes = Vec::new();
    for placement in PLACEMENTS {
        let (tenant, operation) = (TenantId::generate(), OperationId::generate());
        let home = provisioner.prepare(tenant, &server(), placement, operation).await;
        assert_eq!(home.unwrap().version, 1);
        homes.push((placement, tenant));
    }
    homes
}

/// Brings the homes on by a release's migrations, and answers what each of them breaks then.
async fn broken_after(
    databases: &Databases,
    homes: &[(Placement, TenantId)],
    migrations: TenantMigrations,
) -> Vec<(Placement, Vec<String>)> {
    let provisioner = bench::provisioner(databases, migrations).await;
    let mut broken = Vec::new();
    for (placement, tenant) in homes {
        let home = provisioner.migrate(*tenant, &server()).await.unwrap();
        assert_eq!(home.version, migrations.newest());
        let url = Secret::new(bench::superuser_url(databases, *placement, *tenant));
        broken.push((*placement, audit_home(&url, *tenant, None).await.unwrap()));
    }
    let until = Instant::now() + COMPARISON_MAX;
    let compared = provisioner.check_drift(&server(), None, 100, until).await.unwrap();
    assert_eq!((compared.checked, compared.drifts), (homes.len(), Vec::new()));
    broken
}

/// And the control: what a migration takes down is noticed in every placement.
#[tokio::test]
async fn a_home_keeps_every_rule_after_each_migration() {
    let careless = Migration {
        version: MIGRATIONS.newest() + 1,
        name: "careless",
        sql: "GRANT UPDATE ON audit_entries TO rowhouse_tenant; CREATE INDEX contacts_phone_idx ON contacts (phone)",
        deferred: &[],
    };
    let mut torture = Torture::begin("T08", "migrated homes of crm");
    while torture.round().is_some() {
        let databases = bench::databases("crm_migrated").await;
        let homes = first_homes(&databases).await;
        for version in 1..=MIGRATIONS.newest() {
            for (placement, found) in broken_after(&databases, &homes, released(version, &[])).await {
                assert!(found.is_empty(), "{placement:?}, version {version}: {found:#?}");
                torture.trials(1);
            }
        }
        let careless = released(MIGRATIONS.newest(), &[careless]);
        for (placement, found) in broken_after(&databases, &homes, careless).await {
            for rule in ["never changed", "begin with tenant_id"] {
                let is_named = found.iter().any(|violation| violation.contains(rule));
                assert!(is_named, "{placement:?}: {rule}: {found:#?}");
            }
        }
    }
}

/// The control: each thing that the audit guards, broken, is noticed.
#[tokio::test]
async fn a_home_that_breaks_a_rule_is_noticed() {
    let bench = Bench::start("crm_broken_catalogue").await;
    let breaches = [
        "ALTER TABLE contacts DROP CONSTRAINT contacts_house",
        "CREATE INDEX contacts_phone_idx ON contacts (phone)",
        "GRANT SELECT ON contacts TO rowhouse_app",
        "GRANT UPDATE ON audit_entries TO rowhouse_tenant",
        "GRANT DELETE ON audit_seals TO rowhouse_tenant",
        "CREATE TABLE notes (id uuid PRIMARY KEY)",
        "ALTER TABLE requests OWNER TO rowhouse_keeper",
    ];
    let mut before = 0;
    for breach in breaches {
        bench.execute(bench.one, breach).await;
        let found = violations(&bench).await.len();
        assert!(found > before, "{breach} was not noticed");
        before = found;
    }
}

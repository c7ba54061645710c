//! The statements fit the schema, and the schema keeps the rules of tenants' tables (T08).

use rowhouse_config::Secret;
use rowhouse_db::testing::{audit_home, check_statements};
use rowhouse_db::{AnyStatement, Statement, Type};
use rowhouse_devkit::torture::Torture;

use super::bench::{Bench, PLACEMENTS};
use crate::contact::store::STATEMENTS;
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

//! T08: homes of every placement before and after each migration, and the catalogue audit sees every wall that is missing. And
//! statements against the schema.

use rowhouse_config::Secret;
use rowhouse_db::testing::{audit_home, check_statements};
use rowhouse_db::{AnyStatement, Error, FromRow, Row, Statement, Type};
use rowhouse_devkit::servers::Login;
use rowhouse_devkit::torture::Torture;
use rowhouse_types::{Placement, TenantId};

use crate::bench::{Bench, schema, server};
use crate::fleet::older_homes;
use crate::notes::{Note, STATEMENTS};

/// Homes of each placement that are migrated in a round, short and long. Beside them one is built anew.
const HOMES: [usize; 2] = [2, 10];

#[tokio::test]
async fn homes_keep_every_rule_and_look_alike() {
    let mut torture = Torture::begin("T08", "catalogue");
    while torture.round().is_some() {
        let bench = Bench::start("audit", 1).await;
        for placement in [Placement::Schema, Placement::Shared, Placement::Database] {
            round(&mut torture, &bench, placement).await;
        }
    }
}

/// Homes as they are built, after each migration, and beside one that was built with all of them.
async fn round(torture: &mut Torture, bench: &Bench, placement: Placement) {
    let homes = torture.size(HOMES[0], HOMES[1]);
    let mut tenants = older_homes(bench, placement, homes).await;
    audited(torture, bench, placement, &tenants).await;
    for tenant in &tenants {
        let home = bench.provisioner.migrate(*tenant, &server()).await.unwrap();
        assert_eq!(home.version, 2);
    }
    tenants.push(bench.tenant_in(placement).await);
    audited(torture, bench, placement, &tenants).await;
}

/// Each keeps every rule, and looks like the last one where that is in the same database.
async fn audited(torture: &mut Torture, bench: &Bench, placement: Placement, tenants: &[TenantId]) {
    for tenant in tenants {
        let (url, template) = if placement == Placement::Database {
            let servers = bench.databases.servers();
            (servers.login_url(Login::Owner, &schema(*tenant)), None)
        } else {
            (bench.databases.data_url(Login::Owner), tenants.last().copied())
        };
        let violations = audit_home(&Secret::new(url), *tenant, template).await.unwrap();
        assert_eq!(violations, Vec::<String>::new(), "{placement:?}");
        torture.trials(1);
    }
    torture.count(placement.as_str(), tenants.len());
}

/// The controls: each damage is named by its own rule.
#[tokio::test]
async fn every_missing_wall_is_named() {
    let damages = [
        (
            "ALTER TABLE HOME.notes DROP CONSTRAINT notes_house",
            "CHECK of the house's number",
        ),
        (
            "ALTER TABLE HOME.notes DROP CONSTRAINT notes_house;
             ALTER TABLE HOME.notes ADD CONSTRAINT notes_house CHECK (tenant_id IS NOT NULL)",
            "CHECK of the house's number",
        ),
        (
            "ALTER SCHEMA HOME OWNER TO postgres",
            "the schema belongs to rowhouse_owner",
        ),
        ("ALTER TABLE HOME.notes OWNER TO postgres", "belongs to rowhouse_owner"),
        ("GRANT CREATE ON SCHEMA HOME TO rowhouse_tenant", "rights to the schema"),
        ("GRANT USAGE ON SCHEMA HOME TO rowhouse_app", "rights to the schema"),
        (
            "GRANT SELECT ON HOME.notes TO rowhouse_app",
            "only rowhouse_tenant has rights to tables",
        ),
        (
            "GRANT TRUNCATE ON HOME.notes TO rowhouse_tenant",
            "only rowhouse_tenant has rights to tables",
        ),
        ("GRANT UPDATE ON HOME.audit TO rowhouse_tenant", "never changed"),
        ("ALTER TABLE HOME.notes ALTER tenant_id DROP NOT NULL", ""),
        (
            "CREATE TABLE HOME.more (id uuid PRIMARY KEY)",
            "has tenant_id uuid NOT NULL",
        ),
        ("CREATE TABLE HOME.more (tenant_id uuid NOT NULL)", "has a primary key"),
        ("CREATE INDEX ON HOME.notes (body)", "begin with tenant_id"),
        ("CREATE UNIQUE INDEX ON HOME.notes (id)", "begin with tenant_id"),
        ("CREATE INDEX ON HOME.notes (lower(body))", "begin with tenant_id"),
        (
            "CREATE VIEW HOME.all_notes AS SELECT * FROM HOME.notes",
            "nothing but tables",
        ),
        (
            "CREATE FUNCTION HOME.f() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'",
            "runs as its definer",
        ),
        ("ALTER TABLE HOME.notes ENABLE ROW LEVEL SECURITY", "row-level security"),
        ("CREATE TYPE HOME.colour AS ENUM ('red')", "no enum"),
        ("GRANT SELECT ON rowhouse.homes TO rowhouse_app", "registry"),
        (
            "GRANT EXECUTE ON FUNCTION rowhouse.enter(uuid, text, bigint, text, integer, integer, integer) TO PUBLIC",
            "only rowhouse_app enters",
        ),
        ("GRANT TEMPORARY ON DATABASE THIS TO PUBLIC", "temporary tables"),
        (
            "ALTER TABLE HOME.notes ADD COLUMN more text",
            "the home has it, the template not",
        ),
        (
            "ALTER TABLE HOME.notes DROP CONSTRAINT notes_body_short",
            "the template has it, the home not",
        ),
    ];
    let bench = Bench::start("damage", 1).await;
    let (template, tenant) = (bench.tenant().await, bench.tenant().await);
    let superuser = bench.superuser().await;
    let url = Secret::new(bench.databases.data_superuser_url());
    for (damage, rule) in damages {
        let damage = damage
            .replace("HOME", &schema(tenant))
            .replace("THIS", bench.databases.data_name());
        // The primary key keeps tenant_id from being nullable: nothing to see.
        let Ok(()) = superuser.batch_execute(&damage).await else {
            assert!(rule.is_empty(), "{damage}");
            continue;
        };
        let violations = audit_home(&url, tenant, Some(template)).await.unwrap();
        assert!(
            violations.iter().any(|violation| violation.contains(rule)),
            "{damage}: {violations:#?}"
        );
        repair(&bench, &superuser, tenant).await;
    }
}

/// Undoes what grants and tables the damages left, by building the home anew.
async fn repair(bench: &Bench, superuser: &tokio_postgres::Client, tenant: TenantId) {
    let undo = format!(
        "DROP SCHEMA {home} CASCADE;
         DELETE FROM rowhouse.homes WHERE tenant_id = '{id}';
         DELETE FROM rowhouse.houses WHERE schema_name = '{home}';
         REVOKE ALL ON rowhouse.homes FROM rowhouse_app;
         REVOKE EXECUTE ON FUNCTION rowhouse.enter(uuid, text, bigint, text, integer, integer, integer) FROM PUBLIC;
         REVOKE TEMPORARY ON DATABASE {data} FROM PUBLIC",
        home = schema(tenant),
        id = tenant.uuid(),
        data = bench.databases.data_name()
    );
    superuser.batch_execute(&undo).await.unwrap();
    bench.prepare(tenant).await;
}

#[tokio::test]
async fn statements_fit_the_schema() {
    let bench = Bench::start("statements", 1).await;
    let tenant = bench.tenant().await;
    let url = Secret::new(bench.databases.data_superuser_url());
    assert_eq!(
        check_statements(&url, tenant, STATEMENTS).await.unwrap(),
        Vec::<String>::new()
    );
}

struct Body;

impl FromRow for Body {
    const COLUMNS: &'static [(&'static str, Type)] = &[("body", Type::VARCHAR)];

    fn from_row(_: &Row) -> Result<Self, Error> {
        Ok(Self)
    }
}

const MISSING_TABLE: Statement<()> = Statement::new("missing", "SELECT FROM nothing WHERE tenant_id = $1", &[]);
const WRONG_COLUMN: Statement<Body> = Statement::new("column", "SELECT body FROM notes WHERE tenant_id = $1", &[]);
const WRONG_ORDER: Statement<Note> = Statement::new(
    "order",
    "SELECT id, tenant_id, body FROM notes WHERE tenant_id = $1",
    &[],
);
const WRONG_BIND: Statement<()> = Statement::new(
    "bind",
    "SELECT FROM notes WHERE tenant_id = $1 AND body = $2",
    &[Type::VARCHAR],
);
const SURPLUS_BIND: Statement<()> = Statement::new("surplus", "SELECT FROM notes WHERE tenant_id = $1", &[Type::TEXT]);
const NO_RIGHT: Statement<()> = Statement::new("right", "DELETE FROM audit WHERE tenant_id = $1", &[]);
const STRANGE_TYPE: Statement<Strange> =
    Statement::new("strange", "SELECT notes AS x FROM notes WHERE tenant_id = $1", &[]);

struct Strange;

impl FromRow for Strange {
    const COLUMNS: &'static [(&'static str, Type)] = &[("x", Type::VARCHAR)];

    fn from_row(_: &Row) -> Result<Self, Error> {
        Ok(Self)
    }
}

#[tokio::test]
async fn every_statement_that_does_not_fit_is_named() {
    let bench = Bench::start("misfits", 1).await;
    let tenant = bench.tenant().await;
    let url = Secret::new(bench.databases.data_superuser_url());
    let misfits: [&dyn AnyStatement; 7] = [
        &MISSING_TABLE,
        &WRONG_COLUMN,
        &WRONG_ORDER,
        &WRONG_BIND,
        &SURPLUS_BIND,
        &NO_RIGHT,
        &STRANGE_TYPE,
    ];
    for misfit in misfits {
        let faults = check_statements(&url, tenant, &[misfit]).await.unwrap();
        assert!(!faults.is_empty(), "{}", misfit.name());
    }
}

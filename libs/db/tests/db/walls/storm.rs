//! T05, all faults at random: tenants of every placement, of which those without a database of their own share one pooled
//! connection; every transaction has one fault and is committed, and after each of them both neighbours look at what they have.

use std::sync::Arc;

use rowhouse_devkit::torture::{Dice, Torture};
use rowhouse_types::{Placement, TenantId};
use tokio_postgres::Client;
use uuid::Uuid;

use crate::bench::{Bench, schema, schema_of};

/// Faulty transactions of a round.
const FAULTS: usize = 150;

/// A tenant, the schema that its rows are in, and who gets there.
struct House {
    tenant: TenantId,
    schema: String,
    /// On the pooled connection.
    app: Arc<Client>,
    superuser: Arc<Client>,
}

/// What goes wrong in the transaction, after `enter`; or before it, and stays with the session.
struct Fault {
    in_session: String,
    in_transaction: String,
    /// Whose number is bound.
    bind: TenantId,
}

fn fault(dice: &mut Dice, own: &House, foreign: &House) -> (&'static str, Fault) {
    let none = |bind: TenantId| Fault {
        in_session: String::new(),
        in_transaction: String::new(),
        bind,
    };
    let inside = |sql: String| Fault {
        in_transaction: sql,
        ..none(own.tenant)
    };
    let before = |sql: String| Fault {
        in_session: sql,
        ..none(own.tenant)
    };
    let number = foreign.tenant.uuid();
    match dice.below(8) {
        0 => (
            "search path",
            inside(format!("SET LOCAL search_path = {}, ext, pg_temp", foreign.schema)),
        ),
        1 => ("setting", inside(format!("SET LOCAL rowhouse.tenant_id = '{number}'"))),
        2 => ("bind", none(foreign.tenant)),
        3 => ("no role", inside("SET LOCAL ROLE NONE".to_owned())),
        4 => ("RESET ROLE", inside("RESET ROLE".to_owned())),
        5 => (
            "session SET",
            before(format!(
                "SET search_path = {}, ext; SET rowhouse.tenant_id = '{number}'",
                foreign.schema
            )),
        ),
        6 => ("session SET ROLE", before("SET ROLE rowhouse_tenant".to_owned())),
        _ => (
            "temporary table",
            before("CREATE TEMPORARY TABLE notes (tenant_id uuid, id uuid, body text)".to_owned()),
        ),
    }
}

/// One transaction with the fault. Answers what a statement with the predicate has read.
async fn run(own: &House, fault: &Fault) -> Vec<String> {
    let app = &own.app;
    if !fault.in_session.is_empty() {
        // Refused, or it stays behind for whoever comes next.
        drop(app.batch_execute(&fault.in_session).await);
    }
    let enter = format!(
        "BEGIN; SET LOCAL ROLE NONE; SELECT rowhouse.enter('{}', 'crm', 1, 'write', 1, 2, 5000); {}",
        own.tenant.uuid(),
        fault.in_transaction
    );
    let mut bodies = Vec::new();
    if app.batch_execute(&enter).await.is_ok() {
        let read = format!("SELECT body FROM notes WHERE tenant_id = '{}'", fault.bind.uuid());
        app.batch_execute("SAVEPOINT read").await.unwrap();
        match app.query(&read, &[]).await {
            Ok(rows) => bodies = rows.iter().map(|row| row.get(0)).collect(),
            Err(_) => app.batch_execute("ROLLBACK TO SAVEPOINT read").await.unwrap(),
        }
        let write = format!(
            "INSERT INTO notes VALUES ('{}', '{}', '{}|written')",
            fault.bind.uuid(),
            Uuid::now_v7(),
            own.tenant
        );
        drop(app.batch_execute(&write).await);
    }
    app.batch_execute("COMMIT").await.unwrap();
    bodies
}

/// Rows in the houses that do not begin with their tenant's name, or stand in another's own house.
async fn misplaced(houses: &[House]) -> i64 {
    let mut misplaced = 0;
    for house in houses {
        let own = house.schema == schema(house.tenant);
        let sql = format!(
            "SELECT count(*) FROM {}.notes WHERE ($1 AND tenant_id <> $2) OR (tenant_id = $2 AND body NOT LIKE $3 || '|%')",
            house.schema
        );
        let binds: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
            [&own, &house.tenant.uuid(), &house.tenant.to_string()];
        misplaced += house.superuser.query_one(&sql, &binds).await.unwrap().get::<_, i64>(0);
    }
    misplaced
}

async fn start() -> (Bench, Vec<House>) {
    let bench = Bench::start("wall_storm", 1).await;
    let (app, superuser) = (Arc::new(bench.app().await), Arc::new(bench.superuser().await));
    let mut houses = Vec::new();
    for placement in [
        Placement::Schema,
        Placement::Schema,
        Placement::Shared,
        Placement::Shared,
        Placement::Database,
        Placement::Database,
    ] {
        let tenant = bench.tenant_in(placement).await;
        bench.insert(tenant, &format!("{tenant}|first")).await.unwrap();
        let (app, superuser) = if placement == Placement::Database {
            let own = (bench.app_of(tenant).await, bench.superuser_of(tenant).await);
            (Arc::new(own.0), Arc::new(own.1))
        } else {
            (Arc::clone(&app), Arc::clone(&superuser))
        };
        let schema = schema_of(&superuser, tenant).await;
        houses.push(House {
            tenant,
            schema,
            app,
            superuser,
        });
    }
    (bench, houses)
}

async fn round(torture: &mut Torture, mut dice: Dice) {
    let (bench, houses) = start().await;
    for _ in 0..FAULTS {
        let at = dice.below(houses.len());
        let foreign = (at + 1 + dice.below(houses.len() - 1)) % houses.len();
        let (own, foreign) = (&houses[at], &houses[foreign]);
        let (name, fault) = fault(&mut dice, own, foreign);
        let read = run(own, &fault).await;
        torture.trials(1);
        torture.count(name, 1);
        let own_name = own.tenant.to_string();
        assert!(read.iter().all(|body| body.starts_with(&own_name)), "{name}: {read:?}");
        // On the same connection, whatever was left on it.
        for house in [own, foreign] {
            let prefix = house.tenant.to_string();
            let listed = bench.list(house.tenant).await.unwrap();
            assert!(!listed.is_empty(), "{name}");
            for note in listed {
                assert!(
                    note.tenant == house.tenant.uuid() && note.body.starts_with(&prefix),
                    "{name}: {note:?}"
                );
            }
        }
    }
    assert_eq!(misplaced(&houses).await, 0);
}

#[tokio::test]
async fn no_single_fault_shows_or_moves_a_row() {
    let mut torture = Torture::begin("T05", "storm");
    while let Some(dice) = torture.round() {
        round(&mut torture, dice).await;
    }
}

/// The control: two faults at once, and both the reader and the audit see it.
#[tokio::test]
async fn two_faults_at_once_are_seen() {
    let (bench, houses) = start().await;
    let [own, foreign] = [&houses[0], &houses[1]];
    let both = Fault {
        in_session: String::new(),
        in_transaction: format!("SET LOCAL search_path = {}, ext, pg_temp", foreign.schema),
        bind: foreign.tenant,
    };
    assert_eq!(run(own, &both).await, [format!("{}|first", foreign.tenant)]);
    assert_eq!(misplaced(&houses).await, 1);
    assert_eq!(bench.list(foreign.tenant).await.unwrap().len(), 2);
}

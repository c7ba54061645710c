//! What a process that died has left of a tenant's own database.

use super::*;

/// As if the process had died before it said more of the databases than this.
pub(super) async fn unsay(main: &Client, state: &str) {
    let unsay = format!(
        "UPDATE rowhouse.databases SET state = '{state}', house_id = NULL;
         DELETE FROM rowhouse.houses WHERE placement = 'database'"
    );
    main.batch_execute(&unsay).await.unwrap();
}

pub(super) async fn remove(main: &Client, tenant: TenantId) {
    let drop = format!("DROP DATABASE {} WITH (FORCE)", schema(tenant));
    main.batch_execute(&drop).await.unwrap();
}

async fn superusers_in(main: &Client, tenant: TenantId) -> i64 {
    let sql = format!(
        "SELECT count(*) FROM pg_stat_activity AS backend JOIN pg_roles ON rolname = usename
         WHERE datname = '{}' AND rolsuper",
        schema(tenant)
    );
    count(main, &sql).await
}

async fn freeze_and_drop(bench: &Bench, tenant: TenantId) {
    bench.freeze(tenant).await;
    assert!(bench.provisioner.drop(tenant, &server()).await.unwrap());
}

#[tokio::test]
async fn a_database_that_is_half_made_is_finished() {
    let bench = Bench::start("own_half", 1).await;
    let main = bench.superuser().await;
    for died in [
        "before CREATE DATABASE",
        "after it",
        "in the platform",
        "before the home",
        "before it said so",
    ] {
        let (tenant, operation) = (TenantId::generate(), OperationId::generate());
        let first = prepare(&bench, tenant, operation).await.unwrap();
        unsay(&main, "building").await;
        let name = schema(tenant);
        match died {
            "before CREATE DATABASE" => remove(&main, tenant).await,
            "after it" => {
                remove(&main, tenant).await;
                let create = format!("CREATE DATABASE {name} OWNER rowhouse_owner TEMPLATE template0");
                main.batch_execute(&create).await.unwrap();
            }
            "in the platform" => {
                let own = bench.superuser_of(tenant).await;
                let undo = format!(
                    "DROP SCHEMA {name} CASCADE; DROP SCHEMA rowhouse CASCADE; DROP SCHEMA ext CASCADE;
                     CREATE SCHEMA rowhouse AUTHORIZATION rowhouse_owner"
                );
                own.batch_execute(&undo).await.unwrap();
            }
            "before the home" => {
                let own = bench.superuser_of(tenant).await;
                let undo =
                    format!("DROP SCHEMA {name} CASCADE; DELETE FROM rowhouse.homes; DELETE FROM rowhouse.houses");
                own.batch_execute(&undo).await.unwrap();
            }
            _ => {}
        }
        // Nobody was told of the home, so it is not there for anybody.
        let absent = bench.provisioner.describe(tenant, &server()).await;
        assert!(matches!(absent, Err(ProvisionError::HomeAbsent)), "{died}: {absent:?}");
        let other = prepare(&bench, tenant, OperationId::generate()).await;
        assert!(matches!(other, Err(ProvisionError::HomeExists)), "{died}: {other:?}");
        assert_eq!(prepare(&bench, tenant, operation).await.unwrap(), first, "{died}");
        bench.directory.put(first);
        bench.insert(tenant, "own").await.unwrap();
        let public =
            format!("SELECT count(*) FROM pg_database, aclexplode(datacl) WHERE datname = '{name}' AND grantee = 0");
        assert_eq!(count(&main, &public).await, 0, "{died}");
        freeze_and_drop(&bench, tenant).await;
    }
}

#[tokio::test]
async fn a_database_that_is_half_made_is_dropped() {
    let bench = Bench::start("own_half_drop", 1).await;
    let main = bench.superuser().await;
    for is_there in [true, false] {
        let (tenant, operation) = (TenantId::generate(), OperationId::generate());
        prepare(&bench, tenant, operation).await.unwrap();
        unsay(&main, "building").await;
        if !is_there {
            remove(&main, tenant).await;
        }
        assert!(bench.provisioner.drop(tenant, &server()).await.unwrap());
        assert!(!exists(&main, tenant).await);
        let late = prepare(&bench, tenant, operation).await;
        assert!(matches!(late, Err(ProvisionError::HomeDropped)), "{late:?}");
    }
}

#[tokio::test]
async fn a_drop_that_died_is_finished() {
    let bench = Bench::start("own_half_gone", 1).await;
    let main = bench.superuser().await;
    for died in ["after the home went", "before DROP DATABASE", "after it"] {
        let (tenant, operation) = (TenantId::generate(), OperationId::generate());
        prepare(&bench, tenant, operation).await.unwrap();
        let own = bench.superuser_of(tenant).await;
        own.batch_execute("UPDATE rowhouse.homes SET state = 'dropped', house_id = NULL")
            .await
            .unwrap();
        // Nobody drops a database that a superuser is in.
        drop(own);
        until(|| async { superusers_in(&main, tenant).await == 0 }).await;
        if died != "after the home went" {
            unsay(&main, "leaving").await;
        }
        if died == "after it" {
            remove(&main, tenant).await;
        }
        // Nothing brings it back.
        let thawed = bench.provisioner.thaw(tenant, &server(), OperationId::generate()).await;
        assert!(matches!(thawed, Err(ProvisionError::HomeAbsent)), "{died}: {thawed:?}");
        assert!(bench.provisioner.drop(tenant, &server()).await.unwrap(), "{died}");
        assert!(!exists(&main, tenant).await, "{died}");
        let late = prepare(&bench, tenant, operation).await;
        assert!(matches!(late, Err(ProvisionError::HomeDropped)), "{died}: {late:?}");
    }
}

//! The master key is replaced: what the older one has sealed is opened, sealed anew by the newer one, then opened by that alone.

use std::collections::BTreeMap;

use rowhouse_context::ServiceName;
use rowhouse_db::testing::{master_keys, own_login, reseal_logins_by};
use rowhouse_db::{MasterKeys, Provisioner, Resealed};
use rowhouse_devkit::log::{Entry, Log};
use tracing::Level;

use super::logins::{list, serving, verifier};
use super::*;
use crate::bench::provisioner_with;
use crate::notes::NEWEST;

async fn provisioning(bench: &Bench, keys: &MasterKeys) -> Provisioner {
    provisioner_with(&bench.databases, NEWEST, keys).await
}

/// The password of the tenant's login, where this key has sealed it.
async fn opened_by(bench: &Bench, key: u8, tenant: TenantId) -> Option<String> {
    let main = Secret::new(bench.databases.data_url(Login::Owner));
    let login = own_login(&main, &master_keys(key, b"").present, tenant).await.ok()?;
    let (_, password) = login.expect("the database has a login of its own");
    Some(password.expose().to_owned())
}

async fn sealed(main: &Client, tenant: TenantId) -> Vec<u8> {
    let sql = "SELECT sealed_password FROM rowhouse.databases WHERE tenant_id = $1";
    main.query_one(sql, &[&tenant.uuid()]).await.unwrap().get(0)
}

async fn put_sealed(main: &Client, tenant: TenantId, sealed: &[u8]) {
    let sql = "UPDATE rowhouse.databases SET sealed_password = $2 WHERE tenant_id = $1";
    assert_eq!(main.execute(sql, &[&tenant.uuid(), &sealed]).await.unwrap(), 1);
}

/// By a connection that is opened for it: who serves by `keys` has none yet.
async fn enters(bench: &Bench, keys: MasterKeys, tenant: TenantId) -> Result<bool, Error> {
    let db = serving(bench, keys).await;
    let listed = list(&db, tenant).await;
    db.shutdown().await;
    match listed {
        Ok(_) => Ok(true),
        Err(Error::Unavailable(why)) if why.contains("master key") => Ok(false),
        Err(error) => Err(error),
    }
}

#[tokio::test]
async fn whoever_has_both_keys_enters_all_the_while() {
    let bench = Bench::start("key_replaced", 1).await;
    let main = bench.superuser().await;
    let (one, two) = (bench.tenant_in(DATABASE).await, bench.tenant_in(DATABASE).await);
    let known = (verifier(&main, one).await, verifier(&main, two).await);
    let password = opened_by(&bench, b'A', one).await;
    assert!(password.is_some());

    let both = serving(&bench, master_keys(b'B', b"CA")).await;
    assert_eq!(list(&both, one).await, Ok(0));
    assert_eq!(enters(&bench, master_keys(b'B', b""), one).await, Ok(false));

    let migrator = provisioning(&bench, &master_keys(b'B', b"CA")).await;
    let done = migrator.reseal_logins().await.unwrap();
    assert_eq!((done.logins, done.resealed), (2, 2));
    // No password has changed, so connections that are open stay open, and PgBouncer has nothing to learn.
    assert_eq!((verifier(&main, one).await, verifier(&main, two).await), known);
    assert_eq!(opened_by(&bench, b'B', one).await, password);
    assert_eq!(opened_by(&bench, b'A', one).await, None);
    // It has no connection to this one yet.
    assert_eq!(list(&both, two).await, Ok(0));
    both.shutdown().await;

    assert_eq!(enters(&bench, master_keys(b'B', b""), one).await, Ok(true));
    assert_eq!(enters(&bench, master_keys(b'B', b""), two).await, Ok(true));
    assert_eq!(enters(&bench, master_keys(b'A', b""), one).await, Ok(false));
    let (before, newer) = (
        sealed(&main, one).await,
        provisioning(&bench, &master_keys(b'B', b"")).await,
    );
    let nothing = Resealed { logins: 2, resealed: 0 };
    assert_eq!(newer.reseal_logins().await.unwrap(), nothing);
    assert_eq!(sealed(&main, one).await, before);
    // Whoever thinks better of it goes back the same way.
    let back = provisioning(&bench, &master_keys(b'A', b"B")).await;
    assert_eq!(back.reseal_logins().await.unwrap(), done);
    assert_eq!(enters(&bench, master_keys(b'A', b""), one).await, Ok(true));
}

#[tokio::test]
async fn logins_on_a_later_page_are_sealed_anew_too() {
    let bench = Bench::start("key_pages", 1).await;
    let mut tenants = Vec::new();
    for _ in 0..3 {
        tenants.push(bench.tenant_in(DATABASE).await);
    }
    let migrator = provisioning(&bench, &master_keys(b'B', b"A")).await;
    let done = reseal_logins_by(&migrator, 2).await.unwrap();
    assert_eq!((done.logins, done.resealed), (3, 3));
    for tenant in tenants {
        assert!(opened_by(&bench, b'B', tenant).await.is_some());
    }
}

#[tokio::test]
async fn a_login_that_is_made_while_keys_are_replaced_is_sealed_by_the_present_one() {
    let bench = Bench::start("key_made", 1).await;
    let provisioner = provisioning(&bench, &master_keys(b'B', b"A")).await;
    let tenant = TenantId::generate();
    let made = provisioner
        .prepare(tenant, &server(), DATABASE, OperationId::generate())
        .await;
    made.unwrap();
    assert!(opened_by(&bench, b'B', tenant).await.is_some());
    assert_eq!(opened_by(&bench, b'A', tenant).await, None);
    let nothing = Resealed { logins: 1, resealed: 0 };
    assert_eq!(provisioner.reseal_logins().await.unwrap(), nothing);
}

#[tokio::test]
async fn what_no_key_opens_is_named_and_keeps_no_other_from_being_sealed_anew() {
    let bench = Bench::start("key_unknown", 1).await;
    let main = bench.superuser().await;
    let mut tenants = Vec::new();
    for _ in 0..3 {
        tenants.push(bench.tenant_in(DATABASE).await);
    }
    // They are worked on in the order of their ids: one comes before the one that is damaged, and one after it.
    tenants.sort_by_key(|tenant| tenant.uuid());
    let [first, damaged, last]: [TenantId; 3] = tenants.try_into().unwrap();
    let all = async || {
        let mut all = Vec::new();
        for tenant in [first, damaged, last] {
            all.push(sealed(&main, tenant).await);
        }
        all
    };

    let before = all().await;
    let stranger = provisioning(&bench, &master_keys(b'C', b"B")).await;
    let refused = stranger.reseal_logins().await;
    assert!(
        matches!(&refused, Err(ProvisionError::Unopened { count: 3, first: name }) if *name == schema(first)),
        "{refused:?}"
    );
    assert_eq!(all().await, before, "what it cannot open it leaves");

    // What was sealed for another is opened by no key.
    put_sealed(&main, damaged, &before[0]).await;
    let migrator = provisioning(&bench, &master_keys(b'B', b"A")).await;
    let refused = migrator.reseal_logins().await;
    assert!(
        matches!(&refused, Err(ProvisionError::Unopened { count: 1, first: name }) if *name == schema(damaged)),
        "{refused:?}"
    );
    assert_eq!(sealed(&main, damaged).await, before[0]);
    for tenant in [first, last] {
        assert!(opened_by(&bench, b'B', tenant).await.is_some());
    }
}

/// The bench's server after one that cannot be asked.
fn with_one_that_fails(bench: &Bench) -> BTreeMap<String, Secret> {
    let nowhere = bench.databases.servers().login_url(Login::Owner, "no_such_database");
    BTreeMap::from([
        ("data0".to_owned(), Secret::new(nowhere)),
        ("data1".to_owned(), Secret::new(bench.databases.data_url(Login::Owner))),
    ])
}

/// A server that cannot be asked, and a line that cannot be changed, each before one that can.
#[tokio::test]
async fn what_fails_keeps_no_other_from_being_sealed_anew() {
    let bench = Bench::start("key_fault", 1).await;
    let main = bench.superuser().await;
    let mut tenants = [bench.tenant_in(DATABASE).await, bench.tenant_in(DATABASE).await];
    tenants.sort_by_key(|tenant| tenant.uuid());
    let [first, last] = tenants;
    let refuse = format!(
        "CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql
             AS $$ BEGIN RAISE EXCEPTION 'not this one'; END $$;
         CREATE TRIGGER refuse BEFORE UPDATE ON rowhouse.databases FOR EACH ROW
             WHEN (new.tenant_id = '{}') EXECUTE FUNCTION public.refuse()",
        first.uuid()
    );
    main.batch_execute(&refuse).await.unwrap();
    let urls = with_one_that_fails(&bench);
    let migrator = Provisioner::connect(ServiceName::Crm, &urls, NEWEST, &master_keys(b'B', b"A")).await;
    let refused = migrator.unwrap().reseal_logins().await;
    assert!(matches!(&refused, Err(ProvisionError::Database(_))), "{refused:?}");
    assert!(opened_by(&bench, b'A', first).await.is_some());
    assert!(opened_by(&bench, b'B', last).await.is_some());
}

/// It is not left for the next run to find.
#[tokio::test]
async fn a_missing_key_is_told_of_also_where_a_server_fails() {
    let bench = Bench::start("key_both", 1).await;
    let tenant = bench.tenant_in(DATABASE).await;
    let urls = with_one_that_fails(&bench);
    let log = Log::listen("rowhouse_db", Level::ERROR);
    for (keys, is_told) in [(master_keys(b'B', b""), true), (master_keys(b'B', b"A"), false)] {
        let migrator = Provisioner::connect(ServiceName::Crm, &urls, NEWEST, &keys).await;
        let refused = migrator.unwrap().reseal_logins().await;
        assert!(matches!(&refused, Err(ProvisionError::Database(_))), "{refused:?}");
        let told = log.take();
        assert_eq!(told.len(), usize::from(is_told), "{told:?}");
        let names = |entry: &Entry| entry.field("error").unwrap().contains(&schema(tenant));
        assert!(told.iter().all(names), "{told:?}");
    }
}

/// Whoever drops it needs no password, and may never come by: what no key opens there must not fail every run.
#[tokio::test]
async fn what_opens_a_database_that_is_leaving_is_not_looked_at() {
    let bench = Bench::start("key_leaving", 1).await;
    let main = bench.superuser().await;
    let (stays, leaving) = (bench.tenant_in(DATABASE).await, bench.tenant_in(DATABASE).await);
    let of_another = sealed(&main, stays).await;
    put_sealed(&main, leaving, &of_another).await;
    let leave = format!(
        "UPDATE rowhouse.databases SET state = 'leaving', house_id = NULL WHERE tenant_id = '{}'",
        leaving.uuid()
    );
    main.batch_execute(&leave).await.unwrap();
    let migrator = provisioning(&bench, &master_keys(b'B', b"A")).await;
    let done = migrator.reseal_logins().await.unwrap();
    assert_eq!((done.logins, done.resealed), (1, 1));
    assert_eq!(sealed(&main, leaving).await, of_another);
    assert!(opened_by(&bench, b'B', stays).await.is_some());
}

/// A provisioner gives the login another password after the old one was read, and before it is sealed anew: the old one in its
/// place would lock the tenant out.
#[tokio::test]
async fn a_password_that_was_replaced_meanwhile_does_not_come_back() {
    let bench = Bench::start("key_meanwhile", 1).await;
    let main = bench.superuser().await;
    let (tenant, operation) = (TenantId::generate(), OperationId::generate());
    bench.directory.put(prepare(&bench, tenant, operation).await.unwrap());
    let old = sealed(&main, tenant).await;
    crashes::unsay(&main, "building").await;
    prepare(&bench, tenant, operation).await.unwrap();
    let (new, password) = (sealed(&main, tenant).await, opened_by(&bench, b'A', tenant).await);
    // The provisioner has made the new one and has not committed.
    put_sealed(&main, tenant, &old).await;
    let replacing = bench.superuser().await;
    replacing.batch_execute("BEGIN").await.unwrap();
    put_sealed(&replacing, tenant, &new).await;

    let migrator = provisioning(&bench, &master_keys(b'B', b"A")).await;
    let resealing = tokio::spawn(async move { migrator.reseal_logins().await });
    let waiting = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND usename = 'rowhouse_owner' AND wait_event_type = 'Lock'";
    until(|| async { count(&main, waiting).await == 1 }).await;
    replacing.batch_execute("COMMIT").await.unwrap();
    let done = resealing.await.unwrap().unwrap();
    assert_eq!((done.logins, done.resealed), (1, 1));
    assert_ne!(opened_by(&bench, b'B', tenant).await, None);
    assert_eq!(opened_by(&bench, b'B', tenant).await, password);
    assert_eq!(enters(&bench, master_keys(b'B', b""), tenant).await, Ok(true));
}

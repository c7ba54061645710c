//! TLS between `TenantDb`, PgBouncer and what stands behind it, with the settings and the probe of `deploy/`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rowhouse_db::{Error, Lanes, Mode, TenantDb};
use rowhouse_devkit::authority::Authority;
use rowhouse_devkit::checkout::Checkout;
use rowhouse_devkit::cluster;
use rowhouse_devkit::pooler::{Particulars, Pooler};
use rowhouse_devkit::servers::LanePools;
use rowhouse_devkit::volume::Volume;
use rowhouse_types::{Placement, TenantId};
use uuid::Uuid;

use crate::bench::{Bench, LONG, config, ctx, until};
use crate::lanes::list;
use crate::notes::INSERT;

/// What crm calls the pooler, and its certificate.
const POOLER: &str = "pgbouncer";

/// How long one call waits for what never comes.
const REFUSAL: Duration = Duration::from_secs(2);

const POOLS: LanePools = LanePools { count: 2, pool_size: 2 };

fn kubernetes(file: &str) -> PathBuf {
    Checkout::find().unwrap().root().join("deploy/kubernetes").join(file)
}

/// The two files that `pgbouncer.ini` includes, each of the base or of the component that replaces it.
fn settings(client_tls: &str, server_tls: &str) -> [String; 2] {
    let files = [
        format!("{client_tls}/client-tls.ini"),
        format!("{server_tls}/server-tls.ini"),
    ];
    files.map(|file| fs::read_to_string(kubernetes(&file)).unwrap())
}

const BASE: &str = "base/pgbouncer";

fn between_crm_and_pooler() -> [String; 2] {
    settings("components/pooler-tls", BASE)
}

fn between_pooler_and_postgresql() -> [String; 2] {
    settings(BASE, "components/postgres-tls")
}

/// A pooler in front of the bench's database.
async fn pooler(bench: &Bench, included: &[String], volumes: &[Volume], before: Option<&Pooler>) -> Pooler {
    let particulars = Particulars {
        included,
        volumes,
        before,
    };
    Pooler::start_with(&bench.databases, POOLS, 2, &particulars)
        .await
        .unwrap()
}

/// One that crm reaches as it does in a cluster, with a certificate of that authority.
async fn with_tls(bench: &Bench, authority: &Authority) -> Pooler {
    let certificate = certificate(authority, &[POOLER]);
    pooler(bench, &between_crm_and_pooler(), &[certificate], None).await
}

fn certificate(authority: &Authority, names: &[&str]) -> Volume {
    Volume::certificate("tls", &authority.issue(names).unwrap(), authority)
}

/// The file of an authority that a client trusts.
fn trusted(pooler: &Pooler, folder: &'static str, authority: &Authority) -> PathBuf {
    let folder = pooler.mount(&Volume::authority(folder, authority)).unwrap();
    folder.join("ca.crt")
}

/// The pooler's URL by a name, with what crm's says of TLS. The address is given, since no resolver knows the name.
fn url(pooler: &Pooler, name: &str, mode: &str, trusted: &Path) -> String {
    let url = pooler.url().replace("@127.0.0.1:", &format!("@{name}:"));
    let trusted = trusted.display();
    format!("{url}?hostaddr=127.0.0.1&sslmode={mode}&sslrootcert={trusted}")
}

/// The certificate's authority is read here, once.
async fn connect(bench: &Bench, url: String) -> TenantDb {
    let lanes = Lanes {
        count: POOLS.count,
        connections_per_lane_max: 2,
        server_connections_per_lane: POOLS.pool_size,
        slots_per_tenant: 1,
        are_aliases: true,
    };
    TenantDb::connect(config(url, lanes), bench.directory.clone())
        .await
        .unwrap()
}

/// Nothing comes through, for that reason. The first calls may end before there is one, on a busy machine.
async fn refused(db: &TenantDb, tenant: TenantId, reason: &str) {
    until(|| async {
        let refused = list(db, tenant, REFUSAL).await.unwrap_err();
        matches!(refused, Error::Unavailable(why) if why.contains(reason))
    })
    .await;
}

#[tokio::test]
async fn tenants_are_served_by_tls_and_nobody_without_it() {
    let (bench, authority) = (Bench::start("tls", 1).await, Authority::new("ours").unwrap());
    let (tenant, apart) = (bench.tenant().await, bench.tenant_in(Placement::Database).await);
    let required = with_tls(&bench, &authority).await;
    let ca = trusted(&required, "ours", &authority);
    let db = connect(&bench, url(&required, POOLER, "verify-full", &ca)).await;
    // It has been read.
    fs::remove_file(&ca).unwrap();
    let mut tx = db.begin(&ctx(tenant, LONG), Mode::Write).await.unwrap();
    tx.fetch_one(&INSERT, &[&Uuid::now_v7(), &"by TLS"]).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(list(&db, tenant, LONG).await, Ok(1));
    assert_eq!(list(&db.bulk(), tenant, LONG).await, Ok(1));
    assert_eq!(list(&db, apart, LONG).await, Ok(0));
    // And of those without: libs/db, and any other client.
    let plain = connect(&bench, url(&required, POOLER, "disable", &ca)).await;
    refused(&plain, tenant, "SQLSTATE 08P01").await;
    let told = cluster::connect(required.url()).await.unwrap_err();
    let told = told.downcast::<tokio_postgres::Error>().unwrap();
    let told = told.as_db_error().unwrap().message();
    assert!(told.contains("SSL required"), "{told}");
    // The control: it is that one word which refuses them. Whoever changes over has it so meanwhile.
    let permissive = settings("components/pooler-tls-permissive", BASE);
    let allowed = pooler(&bench, &permissive, &[certificate(&authority, &[POOLER])], None).await;
    let plain = connect(&bench, url(&allowed, POOLER, "disable", &ca)).await;
    assert_eq!(list(&plain, tenant, LONG).await, Ok(1));
}

#[tokio::test]
async fn a_pooler_with_a_certificate_of_others_is_not_spoken_to() {
    let bench = Bench::start("tls_others", 1).await;
    let (ours, others) = (Authority::new("ours").unwrap(), Authority::new("others").unwrap());
    let tenant = bench.tenant().await;
    let pooler = with_tls(&bench, &others).await;
    let ours = trusted(&pooler, "ours", &ours);
    let others = trusted(&pooler, "others", &others);
    let not_spoken_to = async |name: &str, mode: &str, trusted: &Path, reason: &str| {
        let db = connect(&bench, url(&pooler, name, mode, trusted)).await;
        refused(&db, tenant, reason).await;
    };
    // No mode of TLS goes without: a password is proved to nobody whom the authority does not know.
    tokio::join!(
        not_spoken_to(POOLER, "verify-full", &ours, "UnknownIssuer"),
        not_spoken_to(POOLER, "require", &ours, "UnknownIssuer"),
        // Of an authority that is trusted, and for another name.
        not_spoken_to("postgres", "verify-full", &others, "not valid for name"),
    );
    // The control: it is served by that pooler who trusts its authority and calls it by its name.
    let db = connect(&bench, url(&pooler, POOLER, "verify-full", &others)).await;
    assert_eq!(list(&db, tenant, LONG).await, Ok(0));
}

/// Runs the probe of the manifests. `process`: PgBouncer's, where it may have to be told.
fn probe(pooler: &Pooler, process: &str) -> bool {
    let probed = Command::new("sh")
        .arg(kubernetes("components/pooler-tls/reload-renewed.sh"))
        .args([pooler.folder().join("tls"), pooler.folder().join("seen")])
        .arg(process)
        .stderr(Stdio::null())
        .status();
    probed.unwrap().success()
}

/// That is no process: a probe that would tell PgBouncer something fails.
const NOBODY: &str = "nobody";

#[tokio::test]
async fn a_renewed_certificate_is_met_once_the_probe_has_come_by() {
    let bench = Bench::start("tls_renewed", 1).await;
    let (first, second) = (Authority::new("first").unwrap(), Authority::new("second").unwrap());
    let tenant = bench.tenant().await;
    let pooler = with_tls(&bench, &first).await;
    let process = pooler.process().to_string();
    let by_first = url(&pooler, POOLER, "verify-full", &trusted(&pooler, "first", &first));
    let by_second = url(&pooler, POOLER, "verify-full", &trusted(&pooler, "second", &second));
    // One connection, which stays.
    let without_lanes = config(by_first.clone(), Lanes::OFF);
    let held = TenantDb::connect(without_lanes, bench.directory.clone()).await.unwrap();
    assert_eq!(list(&held, tenant, LONG).await, Ok(0));

    pooler.mount(&certificate(&second, &[POOLER])).unwrap();
    // The control: PgBouncer does not look by itself.
    let new = connect(&bench, by_second).await;
    refused(&new, tenant, "UnknownIssuer").await;
    assert_eq!(
        list(&connect(&bench, by_first.clone()).await, tenant, LONG).await,
        Ok(0)
    );

    assert!(
        !probe(&pooler, NOBODY),
        "something is new, and there is nobody to be told"
    );
    assert!(
        probe(&pooler, &process),
        "who could not be told is told at the next look"
    );
    until(|| async { list(&new, tenant, REFUSAL).await == Ok(0) }).await;
    // New connections meet no other certificate, and those that are open go on.
    refused(&connect(&bench, by_first).await, tenant, "UnknownIssuer").await;
    assert_eq!(list(&held, tenant, LONG).await, Ok(0));

    assert!(probe(&pooler, NOBODY), "nothing is new, so nobody is told");
    pooler.mount(&certificate(&second, &[POOLER])).unwrap();
    assert!(!probe(&pooler, NOBODY), "something is new again");
}

/// Another PgBouncer stands for PostgreSQL: it speaks TLS with the same protocol, and asks for the same proof.
#[tokio::test]
async fn the_pooler_takes_no_other_server_for_postgresql() {
    let bench = Bench::start("tls_behind", 1).await;
    let (ours, others) = (Authority::new("ours").unwrap(), Authority::new("others").unwrap());
    let tenant = bench.tenant().await;
    let verified = between_pooler_and_postgresql();
    // In a test's `pgbouncer.ini` stands an address and not a name.
    let certificates = [("127.0.0.1", &ours), (POOLER, &ours), ("127.0.0.1", &others)];
    let mut servers = Vec::new();
    for (name, authority) in certificates {
        servers.push(
            pooler(
                &bench,
                &between_crm_and_pooler(),
                &[certificate(authority, &[name])],
                None,
            )
            .await,
        );
    }
    let trusted = [Volume::authority("postgres-ca", &ours)];
    let served = async |server: Option<&Pooler>, included: &[String]| {
        let front = pooler(&bench, included, &trusted, server).await;
        let db = connect(&bench, front.url().to_owned()).await;
        assert_eq!(list(&db, tenant, LONG).await, Ok(0));
    };
    served(Some(&servers[0]), &verified).await;
    // PgBouncer tells its client in its own time, if at all, and never why: that stands in its log.
    let mut telling = verified.to_vec();
    telling.push("log_disconnections = 1\n".to_owned());
    let refuses = async |server: Option<&Pooler>, reason: &str| {
        let front = pooler(&bench, &telling, &trusted, server).await;
        let db = connect(&bench, front.url().to_owned()).await;
        until(|| async {
            list(&db, tenant, REFUSAL).await.unwrap_err();
            fs::read_to_string(front.log()).unwrap().contains(reason)
        })
        .await;
    };
    tokio::join!(
        refuses(Some(&servers[1]), "not present in server certificate"),
        refuses(Some(&servers[2]), "certificate verify failed"),
        // One without TLS.
        refuses(None, "server refused SSL"),
    );
    // The controls: the same servers, where their certificates are not looked at, and where TLS is only preferred.
    let weakened = |mode: &str| verified.clone().map(|file| file.replace("verify-full", mode));
    let unverified = weakened("require");
    served(Some(&servers[1]), &unverified).await;
    served(Some(&servers[2]), &unverified).await;
    served(None, &weakened("prefer")).await;
}

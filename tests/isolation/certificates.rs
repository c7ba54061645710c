//! Services who know each other by certificates alone: the suite works, nobody else is let in at any internal listener, and
//! certificates and their authority are replaced under load without a call that fails.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use rowhouse_auth_kit::ServiceSigner;
use rowhouse_config::secret::SecretKey;
use rowhouse_context::ServiceName;
use rowhouse_devkit::authority::{Authority, Issued};
use rowhouse_devkit::caller::Caller;
use rowhouse_devkit::suite::{Listener, Options, Process, Suite};
use rowhouse_devkit::{http, journey, wait};
use rowhouse_proto::auth::v1::ListAuditEntriesRequest;
use rowhouse_proto::policy;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tonic::Status;
use tonic::metadata::MetadataMap;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic_types::StatusExt as _;

use crate::support::raw;
use crate::support::world::World;

/// One RPC of each process's internal listener. An empty message is refused by all of them, once the caller is let in.
const DOORS: [(Process, &str); 5] = [
    (Process::Tenant, "/rowhouse.tenant.v1.DirectoryService/Resolve"),
    (Process::Auth, "/rowhouse.auth.v1.ProvisioningService/SetTenantState"),
    (Process::Crm, "/rowhouse.crm.v1.ExportService/StreamContacts"),
    (
        Process::CrmProvision,
        "/rowhouse.common.v1.TenantParticipantService/Describe",
    ),
    (Process::Worker, "/rowhouse.common.v1.TenantRecordsService/PurgeRecords"),
];

/// How long new files may take to be in use everywhere, on a busy machine.
const REPLACED_MAX: Duration = Duration::from_secs(30);

/// Callers at once while certificates are replaced; each call goes to three other services.
const CALLERS: usize = 4;

/// What a caller got.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// No service spoke to them.
    Nothing,
    /// A status of ours, with this reason.
    Reason(String),
}

/// The folders of all services.
struct Folders {
    root: TempDir,
}

impl Folders {
    fn new(authority: &Authority) -> Result<Self> {
        let folders = Self {
            root: tempfile::tempdir()?,
        };
        folders.write(authority, &[authority])?;
        Ok(folders)
    }

    fn path(&self) -> &Path {
        self.root.path()
    }

    /// Gives every service a new certificate.
    fn write(&self, issuer: &Authority, trusted: &[&Authority]) -> Result<()> {
        for service in ServiceName::ALL {
            let issued = issuer.issue(&[&name(service)])?;
            issued.write(&self.path().join(service.as_str()), trusted)?;
        }
        Ok(())
    }

    async fn start(&self, test: &str) -> Result<World> {
        let options = Options {
            certificates: Some(self.path().to_owned()),
            ..Options::default()
        };
        World::start_with(test, options).await
    }
}

fn name(service: ServiceName) -> String {
    format!("{service}.rowhouse.internal")
}

/// The service that a process belongs to.
fn service(process: Process) -> ServiceName {
    process.service().parse().expect("a service")
}

/// A caller who may call the RPC, and one who may not.
fn callers(path: &str) -> (ServiceName, ServiceName) {
    let meant = policy::find(path).expect("a policy").callers;
    let is_meant = |service: &&ServiceName| meant.contains(&service.as_str());
    let good = ServiceName::ALL.iter().find(is_meant).expect("somebody calls it");
    let other = ServiceName::ALL.iter().find(|service| !is_meant(service));
    (*good, *other.expect("somebody does not"))
}

/// A channel of whoever shows `shown`, to a listener that shows a certificate of `authority`.
fn channel(suite: &Suite, process: Process, authority: &Authority, shown: Option<&Issued>) -> Result<Endpoint> {
    let mut tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(authority.certificate()))
        .domain_name(name(service(process)));
    if let Some(issued) = shown {
        tls = tls.identity(Identity::from_pem(&issued.certificate, &issued.key));
    }
    let url = format!("https://{}", suite.address(process, Listener::Internal));
    Ok(Endpoint::from_shared(url)?.tls_config(tls)?)
}

async fn call(channel: &Channel, path: &str, metadata: MetadataMap) -> Answer {
    match raw::call(channel, path, metadata, &[]).await {
        Ok(_) => Answer::Reason("OK".to_owned()),
        Err(status) => answer(&status),
    }
}

fn answer(status: &Status) -> Answer {
    match status.get_error_details().error_info() {
        Some(info) => Answer::Reason(info.reason.clone()),
        None => Answer::Nothing,
    }
}

fn let_in(answer: &Answer) -> bool {
    match answer {
        Answer::Nothing => false,
        Answer::Reason(reason) => !matches!(reason.as_str(), "SERVICE_IDENTITY_INVALID" | "AUDIENCE_MISMATCH"),
    }
}

fn mismatch() -> Answer {
    Answer::Reason("AUDIENCE_MISMATCH".to_owned())
}

fn invalid() -> Answer {
    Answer::Reason("SERVICE_IDENTITY_INVALID".to_owned())
}

/// The token that a service would show where there are no certificates.
fn token(suite: &Suite, caller: Process, called: Process) -> Result<MetadataMap> {
    let seed = SecretKey::from_base64(&suite.settings().service_key(caller)).context("a key")?;
    let token = ServiceSigner::new(service(caller), seed.expose())?.token(service(called))?;
    let mut metadata = MetadataMap::new();
    metadata.insert("x-service-authorization", token.parse()?);
    Ok(metadata)
}

#[tokio::test]
async fn the_suite_works_by_certificates_and_nobody_else_is_let_in() -> Result<()> {
    let (ours, other) = (Authority::new("ours")?, Authority::new("other")?);
    let folders = Folders::new(&ours)?;
    let world = folders.start("certificates").await?;
    // Provisioning, rights, the directory, limits, a report, its mail and the merged log: every service calls every other.
    let house = world.house("acme").await?;
    let contacts = journey::contacts(&house.administrator.caller).await?;
    let report = journey::run_report(&house.administrator.caller).await?;
    let done = journey::finished_report(&house.administrator.caller, &report.id, journey::BACKGROUND_MAX).await?;
    let file = journey::download(&house.administrator.caller, &report.id).await?;
    journey::check_report(&done, &file, &contacts)?;
    read_log(&house.administrator.caller).await?;

    let (now, hour) = (SystemTime::now(), Duration::from_secs(3_600));
    for (process, path) in DOORS {
        let (good, stranger) = callers(path);
        let good = name(good);
        let at = |shown: Option<Issued>| channel(&world.suite, process, &ours, shown.as_ref());
        let empty = MetadataMap::new;
        let hostile = [
            ("no certificate", None),
            ("another authority", Some(other.issue(&[&good])?)),
            (
                "one that has ended",
                Some(ours.issue_for(&[&good], now - hour, now - hour / 60)?),
            ),
            (
                "one of the future",
                Some(ours.issue_for(&[&good], now + hour, now + 2 * hour)?),
            ),
            ("no service's name", Some(ours.issue(&["crm", "crm.rowhouse.svc"])?)),
            (
                "two services' names",
                Some(ours.issue(&["crm.rowhouse.internal", "tenant.rowhouse.internal"])?),
            ),
            (
                "a name that is no service's",
                Some(ours.issue(&["mallory.rowhouse.internal"])?),
            ),
            (
                "a name that only begins so",
                Some(ours.issue(&[&format!("{good}.example")])?),
            ),
            ("a wildcard", Some(ours.issue(&["*.rowhouse.internal"])?)),
        ];
        for (what, shown) in hostile {
            let answer = call(&at(shown)?.connect_lazy(), path, empty()).await;
            assert_eq!(answer, Answer::Nothing, "{process:?} let in who shows {what}");
        }
        let plain = Endpoint::from_shared(world.suite.url(process, Listener::Internal))?.connect_lazy();
        let signed = token(&world.suite, Process::Tenant, process)?;
        assert_eq!(
            call(&plain, path, signed.clone()).await,
            Answer::Nothing,
            "{process:?} without TLS"
        );

        let wrong = at(Some(ours.issue(&[&name(stranger)])?))?.connect_lazy();
        assert_eq!(call(&wrong, path, empty()).await, mismatch(), "{process:?}: {stranger}");
        let right = at(Some(ours.issue(&[&good])?))?.connect_lazy();
        assert_eq!(
            call(&right, path, signed).await,
            invalid(),
            "{process:?}: a token where nobody sends one"
        );
        // The control: all of them fail for what they show and not for how they ask.
        let answer = call(&right, path, empty()).await;
        assert!(let_in(&answer), "{process:?} refused {good}: {answer:?}");
    }
    Ok(())
}

/// Asks tenant, crm and worker by way of auth.
async fn read_log(caller: &Caller) -> Result<()> {
    let read = caller
        .audit()
        .list_audit_entries(ListAuditEntriesRequest::default())
        .await?;
    let unreachable = read.into_inner().unreachable;
    ensure!(unreachable.is_empty(), "not reached: {unreachable:?}");
    Ok(())
}

/// How often each process has taken new certificates: waits until it is `times`.
async fn taken(suite: &Suite, times: usize) -> Result<()> {
    let line = format!("rowhouse_certificate_reads_total{{outcome=\"taken\"}} {times}");
    for process in Process::ALL {
        let url = format!("{}/metrics", suite.url(process, Listener::Admin));
        let what = format!("{} takes its certificates", process.name());
        wait::until(&what, REPLACED_MAX, || async {
            Ok(http::request("GET", &url).await?.1.contains(&line))
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn certificates_and_their_authority_are_replaced_under_load() -> Result<()> {
    let (old, new) = (Authority::new("old")?, Authority::new("new")?);
    let folders = Folders::new(&old)?;
    let world = folders.start("certificate-rotation").await?;
    let house = world.house("acme").await?;
    let (process, path) = DOORS[0];
    let kept = old.issue(&[&name(callers(path).0)])?;
    let mut connected = None;

    let stop = Arc::new(AtomicBool::new(false));
    let mut load = JoinSet::new();
    for _ in 0..CALLERS {
        let (caller, stop) = (house.administrator.caller.clone(), stop.clone());
        load.spawn(async move {
            let (mut calls, mut faults) = (0, Vec::new());
            while !stop.load(Ordering::Relaxed) {
                faults.extend(read_log(&caller).await.err().map(|error| format!("{error:#}")));
                calls += 1;
            }
            (calls, faults)
        });
    }
    // Certificates alone, twice; then the authority: both are trusted, the new one signs, the old one goes.
    let steps: [(&Authority, &[&Authority]); 5] = [
        (&old, &[&old]),
        (&old, &[&old]),
        (&old, &[&old, &new]),
        (&new, &[&old, &new]),
        (&new, &[&new]),
    ];
    for (number, (issuer, trusted)) in steps.into_iter().enumerate() {
        if number + 1 == steps.len() {
            // Of the authority that goes: somebody who is connected, and goes on trusting the suite.
            let channel = channel(&world.suite, process, &new, Some(&kept))?.connect().await?;
            let answer = call(&channel, path, MetadataMap::new()).await;
            assert!(
                let_in(&answer),
                "the control: its authority is still trusted: {answer:?}"
            );
            connected = Some(channel);
        }
        folders.write(issuer, trusted)?;
        taken(&world.suite, number + 1).await?;
    }
    stop.store(true, Ordering::Relaxed);
    let mut calls = 0;
    let mut faults = Vec::new();
    while let Some(done) = load.join_next().await {
        let (some, failed) = done?;
        calls += some;
        faults.extend(failed);
    }
    ensure!(
        faults.is_empty(),
        "{} of {calls} calls failed: {faults:#?}",
        faults.len()
    );
    ensure!(calls > CALLERS, "there was no load");

    let later = channel(&world.suite, process, &new, Some(&kept))?.connect_lazy();
    assert_eq!(call(&later, path, MetadataMap::new()).await, Answer::Nothing);
    // Who was connected before is not trusted any longer either: the connection ends once its calls are answered.
    let connected = connected.context("somebody was connected")?;
    wait::until("the old connection ends", REPLACED_MAX, || async {
        Ok(call(&connected, path, MetadataMap::new()).await == Answer::Nothing)
    })
    .await
}

#[tokio::test]
async fn who_calls_does_not_go_on_with_a_service_that_it_no_longer_trusts() -> Result<()> {
    let (ours, other) = (Authority::new("ours")?, Authority::new("other")?);
    let folders = Folders::new(&ours)?;
    let world = folders.start("certificate-caller").await?;
    let house = world.house("acme").await?;
    let caller = &house.administrator.caller;
    read_log(caller).await?;
    // Auth alone is told that the others' authority is gone. They, who have connections of auth's, are not.
    let auth = ours.issue(&[&name(ServiceName::Auth)])?;
    auth.write(&folders.path().join("auth"), &[&other])?;
    wait::until("auth asks nobody", REPLACED_MAX, || async {
        let read = caller
            .audit()
            .list_audit_entries(ListAuditEntriesRequest::default())
            .await?;
        Ok(read.into_inner().unreachable.len() == 3)
    })
    .await
}

#[tokio::test]
async fn while_a_deployment_changes_over_both_ways_are_taken() -> Result<()> {
    let ours = Authority::new("ours")?;
    let folders = Folders::new(&ours)?;
    let mut environment = vec![(None, "ROWHOUSE_TLS_MODE".to_owned(), "permissive".to_owned())];
    for process in Process::ALL {
        let folder = folders.path().join(process.service()).display().to_string();
        environment.push((Some(process), "ROWHOUSE_TLS_DIR".to_owned(), folder));
    }
    let options = Options {
        environment,
        ..Options::default()
    };
    // The services call each other as before.
    let world = World::start_with("permissive", options).await?;
    read_log(&world.house("acme").await?.administrator.caller).await?;
    let (process, path) = (Process::Auth, DOORS[1].1);
    let tenant = ours.issue(&[&name(ServiceName::Tenant)])?;
    let secure = channel(&world.suite, process, &ours, Some(&tenant))?.connect_lazy();
    assert!(let_in(&call(&secure, path, MetadataMap::new()).await));
    let same = token(&world.suite, Process::Tenant, process)?;
    assert!(let_in(&call(&secure, path, same.clone()).await));
    let foreign = token(&world.suite, Process::Worker, process)?;
    assert_eq!(
        call(&secure, path, foreign).await,
        invalid(),
        "a certificate and another's token"
    );
    let plain = Endpoint::from_shared(world.suite.url(process, Listener::Internal))?.connect_lazy();
    assert!(let_in(&call(&plain, path, same).await));
    assert_eq!(call(&plain, path, MetadataMap::new()).await, invalid(), "neither");
    // Who shows a certificate is asked for a good one.
    let nobody = channel(&world.suite, process, &ours, Some(&ours.issue(&["crm"])?))?.connect_lazy();
    assert_eq!(call(&nobody, path, MetadataMap::new()).await, Answer::Nothing);
    Ok(())
}

#[tokio::test]
async fn a_service_does_not_begin_with_anothers_certificate() -> Result<()> {
    let ours = Authority::new("ours")?;
    let folders = Folders::new(&ours)?;
    let world = folders.start("foreign-certificate").await?;
    world.suite.stop(Process::Worker).await?;
    ours.issue(&[&name(ServiceName::Crm)])?
        .write(&folders.path().join("worker"), &[&ours])?;
    ensure!(
        world.suite.restart(Process::Worker).await.is_err(),
        "the worker began as crm"
    );
    let log = world.suite.log(Process::Worker)?;
    ensure!(log.contains("the certificate is of service crm"), "{log}");
    Ok(())
}

//! `cargo xtask bench login`: how many log-ins a second the running suite's auth takes, beside what Argon2id alone allows on these
//! cores in the same run; what the flood does to auth's memory; and how long others' calls take meanwhile.

mod hashing;
mod memory;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;
use rowhouse_devkit::caller::Caller;
use rowhouse_devkit::checkout::Checkout;
use rowhouse_devkit::journey;
use rowhouse_devkit::resident::Resident;
use rowhouse_devkit::settings::Process;
use rowhouse_proto::auth::v1::LoginRequest;
use rowhouse_proto::crm::v1::GetContactRequest;
use rowhouse_status::{Reason, wire};
use serde::Serialize;

use super::house::House;
use super::load::{self, Measured};
use super::output::{self, text, verdict};
use super::pace::paced;
use super::{CONNECTIONS, members, optimised};
use crate::run::command;
use crate::{demo, seed};

/// How often the other caller calls. A hundredth of a few hundred calls is a figure; more would take cores from the hashes.
const OTHERS_PER_SECOND: f64 = 50.0;
/// Share of what Argon2id allows that is wanted at least.
const SHARE_WANTED: f64 = 0.9;
/// How many times longer others' 99th percentile may be during the flood.
const SLOWER_WANTED: f64 = 2.0;
/// What auth may have resident beside what its hashes need, in MiB.
const MEMORY_WANTED_MIB: f64 = 64.0;
/// How long somebody waits who was refused for want of room, as the refusal advises.
const PAUSE: Duration = Duration::from_millis(500);
/// By how much the flood begins before others are measured, and ends after.
const MARGIN: Duration = Duration::from_secs(1);

/// Arguments of `bench login`.
#[derive(Args, Debug)]
pub(super) struct Login {
    /// Callers at once, each with an account of their own; auth lets 24 wait for each of its cores
    #[arg(long, default_value_t = 32)]
    callers: usize,
}

/// Somebody who logs in again and again.
#[derive(Clone)]
struct Account {
    anyone: Caller,
    request: LoginRequest,
    refused: Arc<AtomicUsize>,
}

/// What was measured.
#[derive(Debug, Serialize)]
struct Figures {
    callers: usize,
    log_ins_per_second: f64,
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    /// Log-ins that found no room and came again.
    refused: usize,
    /// Hashes at once, in auth and in the reference.
    hashes_at_once: usize,
    /// Argon2id with auth's parameters, alone: the mean of before and after.
    hashes_per_second: f64,
    share: f64,
    memory_before_mib: f64,
    memory_peak_mib: f64,
    memory_bound_mib: f64,
    /// Whether the kernel shares cores out by session first (sched(7)): then auth's hashes, however nice, are one of many sessions'
    /// work with an equal right, and not the work that gives way to all other.
    is_shared_by_session: bool,
    others_alone_p50_ms: Option<f64>,
    others_alone_p99_ms: Option<f64>,
    others_during_p50_ms: Option<f64>,
    others_during_p99_ms: Option<f64>,
}

/// Measures and prints; also writes `target/bench/login.json`.
pub(super) async fn run(login: Login, seconds: u64) -> Result<()> {
    let checkout = Checkout::find()?;
    if cfg!(debug_assertions) {
        let mut optimised = optimised::build(&checkout, None).await?;
        optimised.args(["bench", "--seconds", &seconds.to_string(), "login"]);
        optimised.args(["--callers", &login.callers.to_string()]);
        return command(optimised).await;
    }
    let resident = Resident::open(checkout.clone())?;
    let auth = resident.pid(Process::Auth)?;
    let duration = Duration::from_secs(seconds);
    let house = House::open(&resident).await?;
    let refused = Arc::default();
    let accounts = accounts(&house, login.callers, &refused).await?;

    let before = hashing::measure(duration).await?;
    let alone = others(&house, duration).await?;
    let memory_before_mib = memory::resident_mib(auth)?;
    memory::forget_peak(auth)?;
    let flood = load::repeat(&accounts, login.callers, duration, log_in).await?;
    let (_, during) = tokio::try_join!(
        load::repeat(&accounts, login.callers, duration + 2 * MARGIN, log_in),
        async {
            tokio::time::sleep(MARGIN).await;
            others(&house, duration).await
        }
    )?;
    let memory_peak_mib = memory::peak_mib(auth)?;
    let after = hashing::measure(duration).await?;

    let hashes = Measured::sum(vec![before, after]);
    let hashes_at_once = hashing::at_once();
    let figures = Figures {
        callers: login.callers,
        log_ins_per_second: flood.per_second(),
        p50_ms: flood.percentile_ms(0.50),
        p99_ms: flood.percentile_ms(0.99),
        refused: refused.load(Ordering::Relaxed),
        hashes_at_once,
        hashes_per_second: hashes.per_second(),
        share: flood.per_second() / hashes.per_second(),
        memory_before_mib,
        memory_peak_mib,
        memory_bound_mib: hashes_at_once as f64 * hashing::memory_mib() + MEMORY_WANTED_MIB,
        is_shared_by_session: is_shared_by_session(),
        others_alone_p50_ms: alone.percentile_ms(0.50),
        others_alone_p99_ms: alone.percentile_ms(0.99),
        others_during_p50_ms: during.percentile_ms(0.50),
        others_during_p99_ms: during.percentile_ms(0.99),
    };
    print(&figures);
    output::write(&checkout, "login", &figures)
}

/// Members who have logged in once each: from an address that is known nobody's attempts but their own count.
async fn accounts(house: &House<'_>, count: usize, refused: &Arc<AtomicUsize>) -> Result<Vec<Account>> {
    let connections = (0..CONNECTIONS).map(|_| Ok(Caller::anonymous(demo::endpoints(house.resident)?)));
    let connections = connections.collect::<Result<Vec<Caller>>>()?;
    let emails = house.join(count, "user").await?;
    let mut accounts = Vec::new();
    for (email, anyone) in emails.into_iter().zip(connections.iter().cycle()) {
        let account = Account {
            anyone: anyone.clone(),
            request: LoginRequest {
                email,
                password: seed::PASSWORD.to_owned(),
                tenant_id: house.tenant.id.clone(),
                second_factor: String::new(),
                device_secret: String::new(),
            },
            refused: Arc::clone(refused),
        };
        log_in(account.clone(), 0).await?;
        accounts.push(account);
    }
    Ok(accounts)
}

/// One log-in, however often it has to be tried.
async fn log_in(account: Account, _: usize) -> Result<()> {
    loop {
        match account.anyone.auth().login(account.request.clone()).await {
            Ok(_) => return Ok(()),
            Err(status) if wire::reason(&status) == Some(Reason::Overloaded) => {
                account.refused.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(PAUSE).await;
            }
            Err(status) => return Err(status).context("Login"),
        }
    }
}

/// Somebody who has long been logged in and reads a contact now and then.
async fn others(house: &House<'_>, duration: Duration) -> Result<Measured> {
    let token = house.log_in(&house.administrator).await?.access_token;
    let ada = members(house.resident, &token)?;
    let caller = ada.first().context("a caller")?;
    let id = journey::create_contact(caller, "Ada Lovelace", "ada@example.com")
        .await?
        .id;
    paced(&ada, OTHERS_PER_SECOND, duration, move |caller, _| {
        let id = id.clone();
        async move {
            let read = caller.contacts().get_contact(GetContactRequest { id }).await;
            read.map(drop).context("GetContact")
        }
    })
    .await
}

/// Whether `kernel.sched_autogroup_enabled` is on. Kernels without it have no such file.
fn is_shared_by_session() -> bool {
    let setting = fs::read_to_string("/proc/sys/kernel/sched_autogroup_enabled");
    setting.is_ok_and(|setting| setting.trim() == "1")
}

fn print(figures: &Figures) {
    println!(
        "\n{} callers: {:.1} log-ins a second, p50 {} ms, p99 {} ms, {} refused for want of room",
        figures.callers,
        figures.log_ins_per_second,
        text(figures.p50_ms, 0),
        text(figures.p99_ms, 0),
        figures.refused
    );
    println!(
        "Argon2id alone, {} at once: {:.1} a second; share {:.2} ({SHARE_WANTED} wanted: {})",
        figures.hashes_at_once,
        figures.hashes_per_second,
        figures.share,
        verdict(figures.share >= SHARE_WANTED)
    );
    println!(
        "auth's resident memory: {:.1} MiB before, {:.1} MiB at most ({:.1} wanted: {})",
        figures.memory_before_mib,
        figures.memory_peak_mib,
        figures.memory_bound_mib,
        verdict(figures.memory_peak_mib <= figures.memory_bound_mib)
    );
    let (alone, during) = (figures.others_alone_p99_ms, figures.others_during_p99_ms);
    let slower = alone.zip(during).map(|(alone, during)| during / alone);
    println!("\n{:<34} {:>9} {:>9}", "GetContact, 50 a second", "p50 ms", "p99 ms");
    for (name, p50, p99) in [
        ("alone", figures.others_alone_p50_ms, alone),
        ("during the flood", figures.others_during_p50_ms, during),
    ] {
        println!("{name:<34} {:>9} {:>9}", text(p50, 2), text(p99, 2));
    }
    println!(
        "p99 is {} times as long ({SLOWER_WANTED} wanted: {})",
        text(slower, 2),
        verdict(slower.is_some_and(|slower| slower <= SLOWER_WANTED))
    );
    if figures.is_shared_by_session {
        println!(
            "cores are shared out by session here (kernel.sched_autogroup_enabled), which takes hashes' niceness its effect"
        );
    }
}

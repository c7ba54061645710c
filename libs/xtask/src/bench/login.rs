//! `cargo xtask bench login`: how many log-ins a second the running suite's auth takes, beside what Argon2id alone allows on these
//! cores in the same run; what floods of right passwords, and of wrong ones, do to auth's memory; and how long others' calls take
//! meanwhile.

mod figures;
mod guesses;
mod hashing;
mod people;

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;
use rowhouse_devkit::caller::Caller;
use rowhouse_devkit::checkout::Checkout;
use rowhouse_devkit::resident::Resident;
use rowhouse_devkit::settings::Process;
use rowhouse_devkit::{cluster, journey};
use rowhouse_proto::crm::v1::GetContactRequest;

use super::house::House;
use super::load::Measured;
use super::pace::paced;
use super::{members, optimised};
use super::{memory, output};
use crate::run::command;
use figures::{Figures, Flood, Guesses, Round, Rows};
use guesses::Strangers;
use people::{People, Way};

/// Hashes and log-ins take turns: they meet the machine's good and bad moments alike.
const ROUNDS: u32 = 3;
/// Until connections are open, statements are planned for good and caches hold what they hold.
const WARM_UP: Duration = Duration::from_secs(3);
/// Tenants that the accounts belong to.
const TENANTS: usize = 4;
/// How often the other caller calls. A hundredth of a few hundred calls is a figure; more would take cores from the hashes.
const OTHERS_PER_SECOND: f64 = 50.0;
/// What auth may have resident beside what its hashes need, in MiB.
const MEMORY_WANTED_MIB: f64 = 64.0;
/// By how much a flood begins before others are measured, and ends after.
const MARGIN: Duration = Duration::from_secs(1);

/// What there is of auth's.
const ROWS: &str = "SELECT (SELECT count(*) FROM auth.sessions), (SELECT count(*) FROM auth.refresh_tokens)";

/// Arguments of `bench login`.
#[derive(Args, Debug)]
pub(super) struct Login {
    /// Callers at once, each with accounts of their own; auth lets 24 wait for each of its cores
    #[arg(long, default_value_t = 32)]
    callers: usize,
}

/// The same work several times, in turns.
#[derive(Default)]
struct Turns {
    hashes: Vec<Measured>,
    log_ins: Vec<Measured>,
    log_ins_with_a_device: Vec<Measured>,
}

/// Somebody who has been logged in and reads a contact now and then.
struct Reader {
    callers: Vec<Caller>,
    contact: String,
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
    let mut houses = Vec::new();
    for _ in 0..TENANTS {
        houses.push(House::open(&resident).await?);
    }
    let people = gather(&resident, &houses, login.callers, duration).await?;
    let house = houses.first().context("a tenant")?;

    let rows_before = rows(&resident).await?;
    let alone = Reader::open(house).await?.read(duration).await?;
    let memory_before_mib = memory::resident_mib(auth)?;
    memory::forget_peak(auth)?;
    let turns = in_turns(&people, duration).await?;
    let right = people.flood(duration + 2 * MARGIN, Way::Password);
    let (_, during) = others_during(house, duration, right).await?;
    let memory_peak_mib = memory::peak_mib(auth)?;

    let rounds = turns.rounds();
    let hashes = Measured::sum(turns.hashes);
    let guesses = guess(house, &people, &hashes, duration).await?;
    let flood = |name, measured| Flood::new(name, &Measured::sum(measured), &hashes);
    let hashes_at_once = hashing::at_once();
    let figures = Figures {
        callers: people.callers(),
        accounts: people.accounts(),
        tenants: houses.len(),
        floods: [
            flood("with the password alone", turns.log_ins),
            flood("with a known device", turns.log_ins_with_a_device),
        ],
        guesses,
        refused: people.refused(),
        hashes_at_once,
        hashes_per_second: hashes.per_second(),
        rounds,
        rows_before,
        rows_after: rows(&resident).await?,
        memory_before_mib,
        memory_peak_mib,
        memory_bound_mib: hashes_at_once as f64 * hashing::memory_mib() + MEMORY_WANTED_MIB,
        is_shared_by_session: is_shared_by_session(),
        others_alone_p50_ms: alone.percentile_ms(0.50),
        others_alone_p99_ms: alone.percentile_ms(0.99),
        others_during_p50_ms: during.percentile_ms(0.50),
        others_during_p99_ms: during.percentile_ms(0.99),
    };
    figures.print();
    output::write(&checkout, "login", &figures)
}

/// As many as the log-ins of this run need, which are no more than hashes.
async fn gather(resident: &Resident, houses: &[House<'_>], callers: usize, duration: Duration) -> Result<People> {
    let hashes_per_second = hashing::measure(WARM_UP).await?.per_second();
    let floods = 2 * WARM_UP + 2 * duration * ROUNDS + (duration + 2 * MARGIN);
    let accounts_each = people::accounts_each(callers, hashes_per_second * floods.as_secs_f64())?;
    People::join(resident, houses, callers, accounts_each).await
}

async fn in_turns(people: &People, duration: Duration) -> Result<Turns> {
    for way in [Way::Password, Way::Device] {
        people.flood(WARM_UP, way).await?;
    }
    let mut turns = Turns::default();
    for _ in 0..ROUNDS {
        turns.hashes.push(hashing::measure(duration).await?);
        turns.log_ins.push(people.flood(duration, Way::Password).await?);
        let with_a_device = people.flood(duration, Way::Device).await?;
        turns.log_ins_with_a_device.push(with_a_device);
    }
    Ok(turns)
}

/// Strangers guess everybody's passwords. `hashes`: Argon2id alone.
async fn guess(house: &House<'_>, people: &People, hashes: &Measured, duration: Duration) -> Result<Guesses> {
    let auth = house.resident.pid(Process::Auth)?;
    memory::forget_peak(auth)?;
    let all = duration + 2 * MARGIN;
    let strangers = Strangers::new(house.resident, &people.guesses(), hashes.per_second(), all)?;
    let (flood, others) = others_during(house, duration, strangers.flood(all)).await?;
    let told = strangers.told();
    Ok(Guesses {
        addresses: strangers.count(),
        per_second: flood.per_second(),
        p50_ms: flood.percentile_ms(0.50),
        p99_ms: flood.percentile_ms(0.99),
        share: flood.per_second() * told.wrong as f64 / flood.count() as f64 / hashes.per_second(),
        told,
        memory_peak_mib: memory::peak_mib(auth)?,
        others_p50_ms: others.percentile_ms(0.50),
        others_p99_ms: others.percentile_ms(0.99),
    })
}

// === impl Turns ===

impl Turns {
    fn rounds(&self) -> Vec<Round> {
        let log_ins = self.log_ins.iter().zip(&self.log_ins_with_a_device);
        let all = self.hashes.iter().zip(log_ins);
        all.map(|(hashes, (log_ins, with_a_device))| Round {
            hashes: hashes.per_second(),
            log_ins: log_ins.per_second(),
            log_ins_with_a_device: with_a_device.per_second(),
        })
        .collect()
    }
}

// === impl Reader ===

impl Reader {
    async fn open(house: &House<'_>) -> Result<Self> {
        let token = house.log_in(&house.administrator).await?.access_token;
        let callers = members(house.resident, &token)?;
        let ada = callers.first().context("a caller")?;
        let contact = journey::create_contact(ada, "Ada Lovelace", "ada@example.com").await?;
        Ok(Self {
            callers,
            contact: contact.id,
        })
    }

    async fn read(&self, duration: Duration) -> Result<Measured> {
        let contact = self.contact.clone();
        paced(&self.callers, OTHERS_PER_SECOND, duration, move |caller, _| {
            let id = contact.clone();
            async move {
                let read = caller.contacts().get_contact(GetContactRequest { id }).await;
                read.map(drop).context("GetContact")
            }
        })
        .await
    }
}

/// How many rows log-ins have left until now.
async fn rows(resident: &Resident) -> Result<Rows> {
    let control = cluster::connect(&resident.settings().servers.superuser_url(cluster::CONTROL)).await?;
    let row = control.query_one(ROWS, &[]).await.context("auth's rows")?;
    Ok(Rows {
        sessions: row.get(0),
        refresh_tokens: row.get(1),
    })
}

/// What a flood answers, and how long others' calls take during it.
async fn others_during(
    house: &House<'_>,
    duration: Duration,
    flood: impl Future<Output = Result<Measured>>,
) -> Result<(Measured, Measured)> {
    let reader = Reader::open(house).await?;
    tokio::try_join!(flood, async {
        tokio::time::sleep(MARGIN).await;
        reader.read(duration).await
    })
}

/// Whether `kernel.sched_autogroup_enabled` is on. Kernels without it have no such file.
fn is_shared_by_session() -> bool {
    let setting = fs::read_to_string("/proc/sys/kernel/sched_autogroup_enabled");
    setting.is_ok_and(|setting| setting.trim() == "1")
}

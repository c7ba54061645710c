//! `cargo xtask bench revoke`: what it takes to take rights away, and whether they are gone: sessions end while callers hammer
//! every service with them, and no call may be let in that began after the end was acknowledged. Beside it the same revocations
//! of sessions that nobody uses, in the same run.

mod hammer;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rowhouse_devkit::caller::Caller;
use rowhouse_devkit::checkout::Checkout;
use rowhouse_devkit::journey;
use rowhouse_devkit::resident::{ADMIN_EMAIL, Resident};
use rowhouse_proto::auth::v1::{LogoutRequest, RevokeSessionRequest, TokenPair};
use serde::Serialize;

use super::house::House;
use super::load::Measured;
use super::output::{self, text};
use super::{members, optimised};
use crate::demo;
use crate::run::command;
use hammer::{Hammer, Service, Tally};

/// Revocations of each way, with callers and without.
const REVOCATIONS: usize = 30;
/// How long callers hammer before the session ends.
const BEFORE: Duration = Duration::from_millis(200);

/// How a session ends, and whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// A member logs out.
    LogOut,
    /// An operator ends one of their sessions from another.
    Elsewhere,
}

/// How long the revocations of one kind took.
#[derive(Debug, Serialize)]
struct Took {
    name: &'static str,
    hammered: bool,
    count: usize,
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
}

/// What callers of one service saw.
#[derive(Debug, Serialize)]
struct Seen {
    service: &'static str,
    revocations: usize,
    let_in: usize,
    refused: usize,
    /// Neither let in nor refused for the session: time-outs, overload.
    failed: usize,
    /// Let in although they began after the acknowledgement.
    late: usize,
    /// When the last answer of those let in came after the acknowledgement, in milliseconds; most came before it.
    last_p50_ms: Option<f64>,
    last_max_ms: Option<f64>,
    /// The same for when the last of them began. Above 0 it is late.
    last_begun_max_ms: Option<f64>,
}

/// What was measured.
#[derive(Debug, Serialize)]
struct Figures {
    revocations: Vec<Took>,
    services: Vec<Seen>,
}

/// Measures and prints; also writes `target/bench/revoke.json`. An error where anybody was let in too late.
pub(super) async fn run() -> Result<()> {
    let checkout = Checkout::find()?;
    if cfg!(debug_assertions) {
        let mut optimised = optimised::build(&checkout, None).await?;
        optimised.args(["bench", "revoke"]);
        return command(optimised).await;
    }
    let resident = Resident::open(checkout.clone())?;
    let house = House::open(&resident).await?;
    let manager = house.join(1, "manager").await?;
    let manager = manager.first().context("a manager")?;
    let mut revocations = Vec::new();
    let mut tallies = Vec::new();
    for way in [Way::LogOut, Way::Elsewhere] {
        let (mut quiet, mut busy) = (Vec::new(), Vec::new());
        // In turns, so that both meet the machine's good and bad moments.
        for _ in 0..REVOCATIONS {
            let session = way.log_in(&house, manager).await?;
            quiet.push(way.revoke(&house, &session).await?.0);
            let session = way.log_in(&house, manager).await?;
            let (took, seen) = hammered(&house, way, &session).await?;
            busy.push(took);
            tallies.extend(seen);
        }
        revocations.push(took(way, false, quiet));
        revocations.push(took(way, true, busy));
    }
    let figures = Figures {
        revocations,
        services: Service::ALL.map(|service| seen(service, &tallies)).into(),
    };
    print(&figures);
    output::write(&checkout, "revoke", &figures)?;
    let late: usize = figures.services.iter().map(|seen| seen.late).sum();
    ensure!(
        late == 0,
        "{late} calls were let in that began after the acknowledgement"
    );
    Ok(())
}

/// Ends a session that callers use on every service that it reaches.
async fn hammered(house: &House<'_>, way: Way, session: &TokenPair) -> Result<(Duration, Vec<Tally>)> {
    let callers = members(house.resident, &session.access_token)?;
    let tenant_id = (way == Way::Elsewhere).then_some(house.tenant.id.as_str());
    let hammer = Hammer::start(&callers, way.services(), tenant_id).await?;
    tokio::time::sleep(BEFORE).await;
    let (took, acknowledged) = way.revoke(house, session).await?;
    Ok((took, hammer.finish(acknowledged).await?))
}

// === impl Way ===

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::LogOut => "a member logs out",
            Self::Elsewhere => "an operator's session, from another",
        }
    }

    /// The services that let such a session in: the directory is for operators alone.
    fn services(self) -> &'static [Service] {
        match self {
            Self::LogOut => &[Service::Auth, Service::Crm, Service::Worker],
            Self::Elsewhere => &Service::ALL,
        }
    }

    /// Opens a session of this kind.
    async fn log_in(self, house: &House<'_>, member: &str) -> Result<TokenPair> {
        match self {
            Self::LogOut => house.log_in(member).await,
            Self::Elsewhere => operator(house).await,
        }
    }

    /// Ends it, over a connection of its own; how long that took, and when it was acknowledged.
    async fn revoke(self, house: &House<'_>, session: &TokenPair) -> Result<(Duration, Instant)> {
        let anyone = Caller::anonymous(demo::endpoints(house.resident)?);
        let revoker = match self {
            Self::LogOut => anyone.with_token(&session.access_token)?,
            Self::Elsewhere => {
                let other = operator(house).await?;
                anyone.with_token(&other.access_token)?
            }
        };
        // So that it is the revocation that is timed, and not the connection.
        Service::Auth.call(&revoker).await.context("the revoker's first call")?;
        let begun = Instant::now();
        match self {
            Self::LogOut => drop(revoker.auth().logout(LogoutRequest {}).await.context("Logout")?),
            Self::Elsewhere => {
                let session_id = session.session_id.clone();
                let mut account = revoker.account();
                let revoked = account.revoke_session(RevokeSessionRequest { session_id }).await;
                drop(revoked.context("RevokeSession")?);
            }
        }
        let acknowledged = Instant::now();
        Ok((acknowledged.duration_since(begun), acknowledged))
    }
}

async fn operator(house: &House<'_>) -> Result<TokenPair> {
    let password = house.resident.admin_password()?;
    journey::log_in(&house.anyone, ADMIN_EMAIL, &password, "").await
}

fn took(way: Way, hammered: bool, times: Vec<Duration>) -> Took {
    let all = times.iter().sum();
    let measured = Measured::new(times, all);
    Took {
        name: way.name(),
        hammered,
        count: measured.count(),
        p50_ms: measured.percentile_ms(0.50),
        p99_ms: measured.percentile_ms(0.99),
    }
}

fn seen(service: Service, tallies: &[Tally]) -> Seen {
    let of_service: Vec<&Tally> = tallies.iter().filter(|tally| tally.service == service).collect();
    let sum = |count: fn(&Tally) -> usize| of_service.iter().copied().map(count).sum();
    let mut last: Vec<f64> = of_service.iter().filter_map(|tally| tally.last_ended_ms).collect();
    last.sort_by(f64::total_cmp);
    let begun = of_service.iter().filter_map(|tally| tally.last_begun_ms);
    Seen {
        service: service.name(),
        revocations: of_service.len(),
        let_in: sum(|tally| tally.let_in),
        refused: sum(|tally| tally.refused),
        failed: sum(|tally| tally.failed),
        late: sum(|tally| tally.late),
        last_p50_ms: last.get(last.len() / 2).copied(),
        last_max_ms: last.last().copied(),
        last_begun_max_ms: begun.reduce(f64::max),
    }
}

fn print(figures: &Figures) {
    println!(
        "\n{:<38} {:<10} {:>7} {:>9} {:>9}",
        "revocations", "session", "count", "p50 ms", "p99 ms"
    );
    for took in &figures.revocations {
        println!(
            "{:<38} {:<10} {:>7} {:>9} {:>9}",
            took.name,
            if took.hammered { "in use" } else { "unused" },
            took.count,
            text(took.p50_ms, 1),
            text(took.p99_ms, 1),
        );
    }
    println!(
        "\n{:<10} {:>11} {:>9} {:>9} {:>8} {:>6} {:>17} {:>17} {:>18}",
        "service",
        "revocations",
        "let in",
        "refused",
        "failed",
        "LATE",
        "last answer p50",
        "last answer max",
        "last begun max"
    );
    for seen in &figures.services {
        println!(
            "{:<10} {:>11} {:>9} {:>9} {:>8} {:>6} {:>17} {:>17} {:>18}",
            seen.service,
            seen.revocations,
            seen.let_in,
            seen.refused,
            seen.failed,
            seen.late,
            text(seen.last_p50_ms, 2),
            text(seen.last_max_ms, 2),
            text(seen.last_begun_max_ms, 2),
        );
    }
    println!(
        "last answer, last begun: of the calls that were let in, in ms after the acknowledgement (before it: negative)"
    );
}

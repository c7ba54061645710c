//! `cargo xtask bench provision`: what signing up costs, with spare homes and without them, beside the bare DDL of the same
//! home in the same run. Only the ratios and the order of size mean something: machines are noisy.
//!
//! On servers of its own and suites of its own (optimised binaries), which are stopped and deleted afterwards.

mod ddl;

use std::env;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rowhouse_devkit::caller::Caller;
use rowhouse_devkit::checkout::Checkout;
use rowhouse_devkit::suite::{Listener, Options, Process, Suite};
use rowhouse_devkit::{cluster, fixture, http, journey, wait};
use rowhouse_types::TenantId;
use serde::Serialize;
use uuid::Uuid;

use super::load::{self, Measured};
use super::orders::Orders;
use super::output::verdict;
use super::{optimised, output};
use ddl::Ddl;

/// What is compared takes turns: both meet the machine's good and bad moments.
const ROUNDS: usize = 10;
/// Sign-ups one after the other in a round.
const SIGN_UPS: usize = 10;
/// Homes in a round, of the bare DDL and of Prepare.
const HOMES: usize = 10;
/// Sign-ups in a run in which nothing is built meanwhile: three are slower than the 99th percentile.
const CALM: usize = 300;
/// Sign-ups before it, so that every connection of the pools has met every statement once.
const WARM_UP: usize = 100;
/// Spares in a full stock. The filler builds none while half of them are there.
const SPARES: usize = 2 * CALM;
/// Homes that a filler builds at once: as many connections has the DDL that it is compared with.
const FILLER_BUILDS: usize = 2;
/// Longer than the filler takes on any machine.
const FILL_MAX: Duration = Duration::from_secs(120);
const OPERATOR: &str = "operator@rowhouse.example";

/// What is wanted of a line.
#[derive(Clone, Copy, Debug, Serialize)]
enum Wanted {
    /// A 99th percentile of so many milliseconds at most.
    P99Ms(f64),
    /// This share of the bare DDL's homes a second at least.
    ShareOfDdl(f64),
}

/// One line of the table.
#[derive(Debug, Serialize)]
struct Figure {
    name: &'static str,
    count: usize,
    per_second: f64,
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    /// Homes or tenants a second, in shares of the bare DDL's.
    share_of_ddl: Option<f64>,
    wanted: Option<Wanted>,
}

/// Measures and prints; also writes `target/bench/provision.json`.
pub(super) async fn run() -> Result<()> {
    let checkout = Checkout::find()?;
    if env::var_os(fixture::TEST_STACK).is_some() {
        return measure(&checkout).await;
    }
    optimised::with_suites(&["bench", "provision"].map(str::to_owned)).await
}

async fn measure(checkout: &Checkout) -> Result<()> {
    let ddl = Ddl::read(checkout)?;
    let mut figures = without_spares(&ddl).await?;
    figures.extend(with_spares(&ddl).await?);
    print(&figures);
    output::write(checkout, "provision", &figures)
}

async fn without_spares(ddl: &Ddl) -> Result<Vec<Figure>> {
    let suite = Suite::start_with("bench_without", options(0, Vec::new())).await?;
    let operator = operator(&suite).await?;
    let orders = Orders::of(&suite)?;
    // A warm-up, so that connections are open and catalogues are in memory.
    load::create_tenants(&operator, SIGN_UPS).await?;
    ddl.build(&suite, HOMES, 1).await?;
    let (mut bare, mut built, mut created) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        bare.push(ddl.build(&suite, HOMES, 1).await?);
        built.push(orders.prepare_each(&ids(HOMES)).await?);
        created.push(load::create_tenants(&operator, SIGN_UPS).await?);
    }
    let (bare, built, created) = (Measured::sum(bare), Measured::sum(built), Measured::sum(created));
    print_steps(&suite, "CreateTenant without spares").await?;
    Ok(vec![
        figure("bare DDL, one connection", &bare, None),
        // They are built one after the other: that is 1.5 times the bare DDL's time at most.
        figure("Prepare without a spare", &built, Some(&bare)).wanting(Wanted::ShareOfDdl(1.0 / 1.5)),
        figure("CreateTenant without spares", &created, Some(&bare)),
    ])
}

async fn with_spares(ddl: &Ddl) -> Result<Vec<Figure>> {
    let options = options(SPARES, vec![Process::Tenant]);
    let suite = Suite::start_with("bench_with", options).await?;
    ddl.build(&suite, HOMES, FILLER_BUILDS).await?;
    let before = ddl.build(&suite, ROUNDS * HOMES, FILLER_BUILDS).await?;
    let alone = ddl.build(&suite, ROUNDS * HOMES, 1).await?;
    let filled = fill(&suite).await?;
    let after = ddl.build(&suite, ROUNDS * HOMES, FILLER_BUILDS).await?;
    let bare = Measured::sum(vec![before, after]);
    let operator = operator(&suite).await?;
    load::create_tenants(&operator, WARM_UP).await?;
    until_full(&suite).await?;
    let calm = load::create_tenants(&operator, CALM).await?;
    print_steps(&suite, "CreateTenant with spares").await?;
    until_full(&suite).await?;
    let rush = load::create_tenants(&operator, SPARES).await?;
    found_spares(&suite, WARM_UP + CALM + SPARES).await?;
    // Nobody else takes or builds spares from here on.
    until_full(&suite).await?;
    suite.kill9(Process::Tenant).await?;
    let claims = Orders::of(&suite)?.prepare_each(&spares(&suite).await?).await?;
    Ok(vec![
        figure("bare DDL, one connection", &alone, None),
        figure("bare DDL, two connections", &bare, None),
        figure("refill of spares", &filled, Some(faster(&alone, &bare))).wanting(Wanted::ShareOfDdl(0.8)),
        figure("Prepare of a spare", &claims, None).wanting(Wanted::P99Ms(10.0)),
        figure("CreateTenant with spares", &calm, None).wanting(Wanted::P99Ms(25.0)),
        figure("CreateTenant while refilling", &rush, None),
    ])
}

/// Whether each of so many sign-ups claimed a home that stood.
async fn found_spares(suite: &Suite, sign_ups: usize) -> Result<()> {
    let data = cluster::connect(&suite.databases().data_superuser_url()).await?;
    let claimed = "SELECT count(*) FROM rowhouse.homes WHERE state = 'active' AND updated_at > created_at";
    let claimed: i64 = data.query_one(claimed, &[]).await?.get(0);
    ensure!(
        usize::try_from(claimed)? == sign_ups,
        "{claimed} of {sign_ups} found a spare"
    );
    Ok(())
}

fn options(spares: usize, without: Vec<Process>) -> Options {
    let variable = (
        Some(Process::Tenant),
        "ROWHOUSE_TENANT_SPARES".to_owned(),
        spares.to_string(),
    );
    Options {
        without,
        environment: vec![variable],
        release: true,
        ..Options::default()
    }
}

async fn operator(suite: &Suite) -> Result<Caller> {
    let anyone = Caller::anonymous(suite.endpoints()?);
    let password = suite.bootstrap_admin(OPERATOR).await?;
    let tokens = journey::log_in(&anyone, OPERATOR, &password, "").await?;
    anyone.with_token(&tokens.access_token)
}

fn ids(count: usize) -> Vec<TenantId> {
    (0..count).map(|_| TenantId::generate()).collect()
}

/// Starts the process with the filler; how long it takes from the first spare to the last.
async fn fill(suite: &Suite) -> Result<Measured> {
    let control = cluster::connect(&suite.databases().control_superuser_url()).await?;
    let ready =
        async || -> Result<usize> { Ok(usize::try_from(control.query_one(READY, &[]).await?.get::<_, i64>(0))?) };
    let watch = async {
        let begun = Instant::now();
        let (mut first, mut last) = (None, 0);
        while last < SPARES {
            ensure!(begun.elapsed() < FILL_MAX, "{last} spares are ready");
            tokio::time::sleep(Duration::from_millis(5)).await;
            last = ready().await?;
            if last > 0 && first.is_none() {
                first = Some((Instant::now(), last));
            }
        }
        let (since, seen) = first.context("the filler built none")?;
        Ok(Measured::together(last - seen, since.elapsed()))
    };
    let (started, filled) = tokio::join!(suite.restart(Process::Tenant), watch);
    started?;
    filled
}

/// On two cores two connections are not always faster than one.
fn faster<'a>(one: &'a Measured, other: &'a Measured) -> &'a Measured {
    if one.per_second() > other.per_second() {
        one
    } else {
        other
    }
}

/// Where the time of the sign-ups went: the mean of each step, as the service itself counts.
async fn print_steps(suite: &Suite, what: &str) -> Result<()> {
    let url = format!("{}/metrics", suite.url(Process::Tenant, Listener::Admin));
    let (_, text) = http::request("GET", &url).await?;
    let value = |name: &str, step: &str| -> Option<f64> {
        let prefix = format!("tenant_operation_step_seconds_{name}{{");
        let step = format!("step=\"{step}\"");
        let line = text
            .lines()
            .find(|line| line.starts_with(&prefix) && line.contains(&step))?;
        line.rsplit(' ').next()?.parse().ok()
    };
    let steps = ["prepare", "invite", "allow"].map(|step| {
        let mean_ms = value("sum", step)
            .zip(value("count", step))
            .map(|(sum, count)| sum / count * 1e3);
        format!("{step} {:.1}", mean_ms.unwrap_or_default())
    });
    println!("{what}, mean of each step in ms: {}", steps.join(", "));
    Ok(())
}

const READY: &str = "SELECT count(*) FROM tenant.spares WHERE state = 'ready'";

async fn until_full(suite: &Suite) -> Result<()> {
    let control = cluster::connect(&suite.databases().control_superuser_url()).await?;
    let wanted = i64::try_from(SPARES)?;
    wait::until("the spares", FILL_MAX, || async {
        Ok(control.query_one(READY, &[]).await?.get::<_, i64>(0) == wanted)
    })
    .await
}

async fn spares(suite: &Suite) -> Result<Vec<TenantId>> {
    let control = cluster::connect(&suite.databases().control_superuser_url()).await?;
    let rows = control.query("SELECT tenant_id FROM tenant.spares", &[]).await?;
    let ids = rows.iter().map(|row| TenantId::from_uuid(row.get::<_, Uuid>(0)));
    Ok(ids.collect())
}

fn figure(name: &'static str, measured: &Measured, bare: Option<&Measured>) -> Figure {
    Figure {
        name,
        count: measured.count(),
        per_second: measured.per_second(),
        p50_ms: measured.percentile_ms(0.50),
        p99_ms: measured.percentile_ms(0.99),
        share_of_ddl: bare.map(|bare| measured.per_second() / bare.per_second()),
        wanted: None,
    }
}

// === impl Figure ===

impl Figure {
    fn wanting(mut self, wanted: Wanted) -> Self {
        self.wanted = Some(wanted);
        self
    }

    /// What is wanted of it, and whether it holds; empty where nothing is.
    fn verdict(&self) -> String {
        match self.wanted {
            Some(Wanted::P99Ms(most)) => {
                let holds = self.p99_ms.is_some_and(|p99| p99 <= most);
                format!("p99 {most:.0} ms at most: {}", verdict(holds))
            }
            Some(Wanted::ShareOfDdl(least)) => {
                let holds = self.share_of_ddl.is_some_and(|share| share >= least);
                format!("{least:.2} at least: {}", verdict(holds))
            }
            None => String::new(),
        }
    }
}

fn print(figures: &[Figure]) {
    println!(
        "\n{:<30} {:>7} {:>9} {:>9} {:>9} {:>16}  wanted",
        "", "count", "1/s", "p50 ms", "p99 ms", "of the bare DDL"
    );
    for figure in figures {
        let text = |number: Option<f64>, digits: usize| number.map(|n| format!("{n:.digits$}")).unwrap_or_default();
        println!(
            "{:<30} {:>7} {:>9.1} {:>9} {:>9} {:>16}  {}",
            figure.name,
            figure.count,
            figure.per_second,
            text(figure.p50_ms, 1),
            text(figure.p99_ms, 1),
            text(figure.share_of_ddl, 2),
            figure.verdict(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_as_wanted_up_to_its_bound() {
        let said = |share, p99_ms, wanted| {
            let line = Figure {
                name: "a line",
                count: 1,
                per_second: 1.0,
                p50_ms: None,
                p99_ms,
                share_of_ddl: share,
                wanted,
            };
            line.verdict()
        };
        let (ms, share) = (Some(Wanted::P99Ms(10.0)), Some(Wanted::ShareOfDdl(0.8)));
        assert_eq!(said(None, Some(10.0), ms), "p99 10 ms at most: as wanted");
        assert_eq!(said(None, Some(10.1), ms), "p99 10 ms at most: NOT as wanted");
        assert_eq!(said(Some(0.8), None, share), "0.80 at least: as wanted");
        assert_eq!(said(Some(0.79), None, share), "0.80 at least: NOT as wanted");
        assert_eq!(said(Some(0.1), Some(99.0), None), "");
    }
}

//! `cargo xtask bench`: how fast the running suite is, beside pgbench doing the same transaction through the same
//! PgBouncer in the same minute. Only the ratio means something: machines are noisy.

mod authn;
mod check;
mod echo;
mod fleet;
mod homes;
mod house;
mod kept;
mod load;
mod login;
mod memory;
mod optimised;
mod orders;
mod output;
mod pace;
mod provision;
mod reference;
mod revoke;
mod scale;
mod tenants;

use std::time::Duration;

use anyhow::{Result, ensure};
use clap::{Args, Subcommand};
use rowhouse_devkit::caller::Caller;
use rowhouse_devkit::checkout::Checkout;
use rowhouse_devkit::resident::Resident;
use rowhouse_proto::common::v1::Placement;
use serde::Serialize;
use uuid::Uuid;

use crate::{build, demo, run};
use load::Measured;
use reference::Reference;
use tenants::Tenants;

/// Callers at once, spread over a few connections as a few client processes would.
const CALLERS: usize = 32;
/// Connections between them.
const CONNECTIONS: usize = 4;
/// Tenants created one after the other, to time it.
const TENANTS: usize = 30;
/// Long enough for every caller to have met every tenant.
const WARM_UP: Duration = Duration::from_secs(3);

/// Rows of a page.
const PAGE_SIZE: i32 = 50;
/// Every placement, and what its lines are called.
const PLACEMENTS: [(Placement, [&str; 3]); 3] = [
    (
        Placement::Schema,
        [
            "GetContact, schema",
            "ListContacts of 50, schema",
            "CreateContact, schema",
        ],
    ),
    (
        Placement::Shared,
        [
            "GetContact, shared",
            "ListContacts of 50, shared",
            "CreateContact, shared",
        ],
    ),
    (
        Placement::Database,
        [
            "GetContact, database",
            "ListContacts of 50, database",
            "CreateContact, database",
        ],
    ),
];

/// What is wanted of a call, in shares of pgbench: statements one by one, and all in one message.
const WANTED: [(&str, f64, f64); 3] = [
    ("GetContact,", 1.0, 0.5),
    ("ListContacts of 50,", 1.0, 0.5),
    ("CreateContact,", 1.0, 0.7),
];

/// Arguments of `bench`.
#[derive(Args, Debug)]
pub(crate) struct Bench {
    /// How long each run lasts, in seconds
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    #[command(subcommand)]
    what: Option<What>,
}

/// What else there is to measure than the running suite.
#[derive(Debug, Subcommand)]
enum What {
    /// Measure what signing up costs, with spare homes and without them, on servers of its own
    Provision,
    /// Measure what many homes cost, without lanes and with them, on servers of its own
    Scale(scale::Scale),
    /// Measure what it takes to migrate many homes, and to see that none is behind, on servers of its own
    Fleet,
    /// Measure what it costs the running suite that a caller is known and may, beside tonic alone
    Authn,
    /// Measure the running suite's answers to "may they?" beside tonic alone, and its decisions beside Casbin and Cedar
    Check,
    /// Measure log-ins at the running suite beside Argon2id alone, and what they do to memory and to others' calls
    Login(login::Login),
    /// Measure what it takes the running suite to end sessions that are in use, and that nobody is let in afterwards
    Revoke,
    /// A server that answers constants, for the benches above
    #[command(hide = true)]
    Echo(echo::Serve),
}

/// One line of the table.
#[derive(Debug, Serialize)]
struct Figure {
    name: &'static str,
    per_second: f64,
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    /// pgbench with a round trip for each of the transaction's statements.
    reference_one_by_one: Option<f64>,
    /// pgbench with all statements in one message.
    reference_one_message: Option<f64>,
}

/// Measures and prints; also writes `target/bench/contacts.json`, or the file with the subcommand's name.
pub(crate) async fn run(bench: Bench) -> Result<()> {
    match bench.what {
        None => contacts(&bench).await,
        Some(What::Provision) => provision::run().await,
        Some(What::Scale(scale)) => scale::run(&scale, bench.seconds).await,
        Some(What::Fleet) => fleet::run().await,
        Some(What::Authn) => authn::run(bench.seconds).await,
        Some(What::Check) => check::run(bench.seconds).await,
        Some(What::Login(login)) => login::run(login, bench.seconds).await,
        Some(What::Revoke) => revoke::run().await,
        Some(What::Echo(serve)) => echo::serve(serve).await,
    }
}

async fn contacts(bench: &Bench) -> Result<()> {
    let checkout = Checkout::find()?;
    if cfg!(debug_assertions) {
        build::services(&checkout, true).await?;
        let mut optimised = optimised::build(&checkout, None).await?;
        optimised.args(["bench", "--seconds", &bench.seconds.to_string()]);
        return run::command(optimised).await;
    }
    let resident = Resident::open(checkout.clone())?;
    ensure!(
        resident.is_release(),
        "the suite is no release: `cargo xtask up --release`"
    );
    let duration = Duration::from_secs(bench.seconds);
    let anyone = Caller::anonymous(demo::endpoints(&resident)?);
    let operator = demo::operator_log_in(&resident, &anyone).await?;
    let mut figures = vec![
        load::create_tenants(&operator, TENANTS)
            .await?
            .figure("CreateTenant, one at a time", None),
    ];
    for (placement, names) in PLACEMENTS {
        let tenants = Tenants::sign_up(&resident, &operator, placement).await?;
        figures.extend(placed(&resident, &tenants, duration, names).await?);
        if placement == Placement::Database {
            figures.extend(kept::figures(&resident, &tenants, duration).await?);
        }
    }
    print(&figures);
    if let Some(ratio) = kept::ratio(&figures) {
        println!("\nstatements that are kept, beside those that are not: {ratio:.2}");
    }
    output::write(&checkout, "contacts", &figures)
}

/// What the tenants' contacts cost, beside pgbench in the same homes.
async fn placed(
    resident: &Resident,
    tenants: &Tenants,
    duration: Duration,
    [get, list, create]: [&'static str; 3],
) -> Result<Vec<Figure>> {
    let members = &tenants.members;
    let reference = Reference::new(resident, tenants, duration).await?;
    // A warm-up, so that connections are open and the caches hold the tenants' homes and rights.
    load::get(members, CALLERS, WARM_UP).await?;
    let read = load::get(members, CALLERS, duration).await?;
    let read = read.figure(get, Some(reference.read().await?));
    let page = load::list(members, CALLERS, PAGE_SIZE, duration).await?;
    let page = page.figure(list, Some(reference.list(PAGE_SIZE).await?));
    let write = load::create(members, CALLERS, duration).await?;
    let write = write.figure(create, Some(reference.write().await?));
    Ok(vec![read, page, write])
}

/// The same member over several connections.
fn members(resident: &Resident, token: &str) -> Result<Vec<Caller>> {
    let caller = |_| Caller::anonymous(demo::endpoints(resident)?).with_token(token);
    (0..CONNECTIONS).map(caller).collect()
}

fn print(figures: &[Figure]) {
    println!(
        "\n{:<30} {:>9} {:>9} {:>9} {:>22} {:>22}  ratios wanted",
        "", "1/s", "p50 ms", "p99 ms", "pgbench one by one", "pgbench one message"
    );
    for figure in figures {
        let time = |ms: Option<f64>| ms.map(|ms| format!("{ms:.1}")).unwrap_or_default();
        let ratio = |reference: Option<f64>| {
            reference
                .map(|r| format!("{r:.0} (ratio {:.2})", figure.per_second / r))
                .unwrap_or_default()
        };
        println!(
            "{:<30} {:>9.0} {:>9} {:>9} {:>22} {:>22}  {}",
            figure.name,
            figure.per_second,
            time(figure.p50_ms),
            time(figure.p99_ms),
            ratio(figure.reference_one_by_one),
            ratio(figure.reference_one_message),
            figure.wanted().unwrap_or_default(),
        );
    }
}

// === impl Figure ===

impl Figure {
    /// What is wanted of it, and whether it holds.
    fn wanted(&self) -> Option<String> {
        let (_, one_by_one, one_message) = WANTED.iter().find(|(call, ..)| self.name.starts_with(call))?;
        let holds = |reference: Option<f64>, share: f64| reference.is_some_and(|r| self.per_second / r >= share);
        let both = holds(self.reference_one_by_one, *one_by_one) && holds(self.reference_one_message, *one_message);
        Some(format!("{one_by_one:.1}, {one_message:.1}: {}", output::verdict(both)))
    }
}

// === impl Measured ===

impl Measured {
    fn figure(&self, name: &'static str, reference: Option<(f64, f64)>) -> Figure {
        Figure {
            name,
            per_second: self.per_second(),
            p50_ms: self.percentile_ms(0.50),
            p99_ms: self.percentile_ms(0.99),
            reference_one_by_one: reference.map(|(one_by_one, _)| one_by_one),
            reference_one_message: reference.map(|(_, one_message)| one_message),
        }
    }
}

/// A name that no other run uses.
fn unique(prefix: &str) -> String {
    format!("{prefix}-{}", &Uuid::new_v4().simple().to_string()[..10])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_as_wanted_where_both_its_ratios_are() {
        let figure = |name, one_by_one, one_message| Figure {
            name,
            per_second: 600.0,
            p50_ms: None,
            p99_ms: None,
            reference_one_by_one: Some(one_by_one),
            reference_one_message: Some(one_message),
        };
        for (name, one_by_one, one_message, wanted) in [
            ("GetContact, schema", 600.0, 1_200.0, "1.0, 0.5: as wanted"),
            ("GetContact, schema", 601.0, 1_200.0, "1.0, 0.5: NOT as wanted"),
            ("ListContacts of 50, shared", 600.0, 1_201.0, "1.0, 0.5: NOT as wanted"),
            ("CreateContact, database", 600.0, 1_200.0, "1.0, 0.7: NOT as wanted"),
            ("CreateContact, database", 600.0, 850.0, "1.0, 0.7: as wanted"),
        ] {
            let said = figure(name, one_by_one, one_message).wanted();
            assert_eq!(said.as_deref(), Some(wanted), "{name}");
        }
        assert_eq!(figure("CreateTenant, one at a time", 1.0, 1.0).wanted(), None);
    }
}

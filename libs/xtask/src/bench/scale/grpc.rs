//! GetContact over gRPC: a member of each tenant calls crm, which is to know who they are, what they may, what their tenant's
//! plan allows and where its home is.
//!
//! By a suite of its own, without the worker, which has no part in it. In each run crm is new, as PgBouncer and the back ends
//! are. The warm-up is calls like those that are measured, until crm has verified every token and has asked for every
//! tenant's rights, limits and home. What it then asks again, as homes after ten seconds, is a part of what many tenants cost.
//! When that is measured, a contact is created in each tenant and its audit entry sealed, for what back ends then remember.

mod tenants;
mod writes;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rowhouse_devkit::checkout::Checkout;
use rowhouse_devkit::pooler::Pooler;
use rowhouse_devkit::suite::{Options, Process, Suite};
use rowhouse_proto::crm::v1::GetContactRequest;

use super::division::Division;
use super::figure::{Figure, Table};
use super::run::{Bound, Ran, at_random, beside_few, private_memory};
use super::{FEW, most};
use crate::bench::output::verdict;
use tenants::{Member, Tenants};

/// How connections are divided: no lanes, with as many back ends as the lanes have that follow; the lanes of `deploy/` and of
/// `cargo xtask up`; twice and three times as many of them, so that half and a third as many homes meet in a back end.
const DIVISIONS: [Division; 4] = [
    Division::off(24),
    Division::on(8, 3, 2),
    Division::on(16, 3, 2),
    Division::on(24, 3, 2),
];
/// What is wanted of so many homes with lanes, in shares of what [`FEW`] have.
const SHARES_WANTED: [(usize, f64); 2] = [(5_000, 0.85), (10_000, 0.8)];
/// And what a back end may have for itself then.
const PRIVATE_WANTED_MIB: f64 = 64.0;

/// Measures on the servers that `ROWHOUSE_TEST_STACK` names.
///
/// `counts`: tenants in each of the runs.
pub(super) async fn measure(checkout: &Checkout, counts: &[usize], duration: Duration) -> Result<()> {
    let options = Options {
        without: vec![Process::Crm, Process::Worker],
        // Services as optimised as this program.
        release: !cfg!(debug_assertions),
        ..Options::default()
    };
    let mut suite = Suite::start_with("bench_scale", options).await?;
    let tenants = Tenants::plant(&suite, most(counts)).await?;
    let mut table = Table::begin(checkout, "scale-grpc");
    let reads = async |count, division| spread(&mut suite, &tenants, count, division, duration).await;
    beside_few(&mut table, "GetContact", counts, &DIVISIONS, reads).await?;
    print_verdicts(table.figures());
    Ok(())
}

/// Calls by members of the first `count` tenants at random, and then a write in each of those tenants.
async fn spread(
    suite: &mut Suite,
    tenants: &Tenants,
    count: usize,
    division: Division,
    duration: Duration,
) -> Result<Ran> {
    let pooler = Pooler::start(suite.databases(), division.pools, division.pool_size).await?;
    suite.restart_with(Process::Crm, division.variables(&pooler)).await?;
    let members: Arc<[Member]> = tenants.members(suite, count)?.into();
    let readers = Arc::clone(&members);
    let call = move |index: usize| {
        let members = Arc::clone(&readers);
        async move { get(members.get(index).context("a member")?).await }
    };
    at_random(count, Bound::warm_up(division, count), call.clone()).await?;
    let measured = at_random(count, Bound::time(duration), call).await?;
    let private = private_memory(&suite.databases().data_superuser_url()).await?;
    let private_written = Some(writes::settle(suite, members).await?);
    Ok(Ran {
        measured,
        private,
        private_written,
    })
}

async fn get(member: &Member) -> Result<()> {
    let request = GetContactRequest {
        id: member.contact.clone(),
    };
    let got = member
        .caller
        .contacts()
        .get_contact(request)
        .await
        .context("GetContact")?;
    ensure!(got.get_ref().id == member.contact, "another contact was answered");
    Ok(())
}

fn print_verdicts(figures: &[Figure]) {
    for figure in figures.iter().filter(|figure| figure.lanes > 0) {
        let wanted = SHARES_WANTED.iter().find(|(homes, _)| *homes == figure.homes);
        let Some((share, (homes, wanted))) = figure.of_few.zip(wanted) else {
            continue;
        };
        println!(
            "{homes} homes, {} lanes of {}: {share:.2} of {FEW} homes ({wanted} wanted: {}); {:.1} MiB in a back end, after \
             writes too ({PRIVATE_WANTED_MIB} at most wanted: {})",
            figure.lanes,
            figure.server_connections_per_lane,
            verdict(share >= *wanted),
            figure.largest_mib(),
            verdict(figure.largest_mib() <= PRIVATE_WANTED_MIB)
        );
    }
}

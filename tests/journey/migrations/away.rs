//! A data server goes away in the middle of a run: the run goes on on the other, whose members notice nothing, and ends when it
//! is back. [`tenants`]: those that come to it and leave it wait for it as well, and no others do.

mod tenants;

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rowhouse_devkit::settings::{DATA_SERVER, DataServer, SECOND_DATA_SERVER};
use rowhouse_devkit::suite::Options;
use rowhouse_devkit::{cluster, journey, wait};
use rowhouse_proto::common::v1::Placement;
use rowhouse_proto::crm::v1::ListContactsRequest;
use rowhouse_proto::tenant::v1::{
    GetMigrationRequest, Migration, MigrationProgress, MigrationState, PauseMigrationRequest, ResumeMigrationRequest,
};
use tokio_postgres::Client;
use tonic::{Code, Request};
use tonic_types::StatusExt as _;

use super::start;
use super::wave::{NEWEST, Placed, Work, connected, set_back};
use crate::journey::{kill, servers};
use crate::support::world::World;

/// Longest wait for what follows when a server goes or comes: crm's `provision` gives a connection up after 10 s, and PgBouncer
/// opens none for 15 s after one that failed.
const BOUND: Duration = Duration::from_secs(90);

/// Deadline of a member's call to a server that may be away: longer than the 5 s after which crm gives a connection up and says
/// why. On a connection that was open when the server went, a call waits at the pooler, and for longer.
const CALL_MAX: Duration = Duration::from_secs(8);

/// Where each house is: with room everywhere, servers take new tenants in turn.
const HOUSES: [(Placement, &str, &str); 4] = [
    (Placement::Schema, "here-schema", DATA_SERVER),
    (Placement::Schema, "there-schema", SECOND_DATA_SERVER),
    (Placement::Shared, "here-shared", DATA_SERVER),
    (Placement::Database, "there-database", SECOND_DATA_SERVER),
];

/// Keeps every run from the houses of a data server, as one that has them in hand, until the transaction ends.
async fn hold(server: &DataServer) -> Result<Client> {
    let client = cluster::connect(&server.superuser_url()).await?;
    let hold = "BEGIN; SELECT house_id FROM rowhouse.houses FOR NO KEY UPDATE";
    client.batch_execute(hold).await?;
    Ok(client)
}

/// Houses of a data server that are behind, as its ledger says.
pub(super) async fn behind(server: &DataServer) -> Result<i64> {
    let client = cluster::connect(&server.superuser_url()).await?;
    let sql = "SELECT count(*) FROM rowhouse.houses WHERE version < $1";
    Ok(client.query_one(sql, &[&NEWEST]).await?.get(0))
}

pub(super) async fn get(world: &World, id: &str) -> Result<Migration> {
    let request = GetMigrationRequest { id: id.to_owned() };
    Ok(world.operator.migrations().get_migration(request).await?.into_inner())
}

/// How far a run is on a data server.
fn on<'a>(run: &'a Migration, server: &str) -> Result<&'a MigrationProgress> {
    let found = run.progress.iter().find(|progress| progress.server == server);
    found.with_context(|| format!("nothing of {server} in {run:?}"))
}

/// What a member's call comes to; the reason of its refusal where it is UNAVAILABLE, nothing where the deadline came first.
async fn listed(world: &World, of: &Placed) -> Result<Option<Result<(), String>>> {
    let member = connected(world, &of.1.administrator)?;
    let mut request = Request::new(ListContactsRequest::default());
    request.set_timeout(CALL_MAX);
    let Err(refused) = member.contacts().list_contacts(request).await else {
        return Ok(Some(Ok(())));
    };
    match refused.code() {
        Code::Unavailable => {
            let details = refused.get_error_details();
            let reason = details.error_info().map(|info| info.reason.clone());
            Ok(Some(Err(reason.unwrap_or_default())))
        }
        // The service's clock, or the caller's own.
        Code::DeadlineExceeded | Code::Cancelled => Ok(None),
        _ => bail!("{refused:?}"),
    }
}

/// A member whose data server is away is told so, and not served.
async fn is_told(world: &World, of: &Placed) -> Result<()> {
    let told = async {
        loop {
            if let Some(answer) = listed(world, of).await? {
                let is_told = answer.as_ref().is_err_and(|reason| reason == "DEPENDENCY_UNAVAILABLE");
                ensure!(is_told, "{}: {answer:?}", of.1.tenant.slug);
                return anyhow::Ok(());
            }
        }
    };
    let told = tokio::time::timeout(BOUND, told).await;
    told.with_context(|| format!("{} hears nothing", of.1.tenant.slug))?
}

/// Waits until members are served again, and sees that their contacts are what they were.
async fn are_served(world: &World, houses: &[Placed]) -> Result<()> {
    for of in houses {
        let member = connected(world, &of.1.administrator)?;
        wait::until("both contacts of a tenant whose server is back", BOUND, async || {
            let is_served = matches!(listed(world, of).await?, Some(Ok(())));
            Ok(is_served && kill::all_contacts(&member).await?.len() == 2)
        })
        .await?;
    }
    Ok(())
}

/// Begins a run that finds every house in other hands, pauses it, and stops the second server before it lets go.
async fn paused_without_second(world: &World, work: &Work) -> Result<String> {
    let databases = world.suite.databases();
    let (first, second) = (
        databases.data_server(DATA_SERVER)?,
        databases.data_server(SECOND_DATA_SERVER)?,
    );
    let (here, there) = (hold(&first).await?, hold(&second).await?);
    let mut operator = world.operator.migrations();
    let begun = operator.start_migration(start(0)).await?.into_inner();
    ensure!((begun.planned, begun.target_version) == (4, NEWEST), "{begun:?}");
    let (id, reason) = (begun.id.clone(), "a test".to_owned());
    let paused = operator.pause_migration(PauseMigrationRequest { id, reason }).await?;
    ensure!(paused.get_ref().state() == MigrationState::Paused, "{paused:?}");
    ensure!(behind(&second).await? == 2, "its houses were in other hands");
    databases.second_server()?.stop().await?;
    drop(there);
    // What was asked of crm before ends meanwhile, and finds the houses in other hands.
    work.goes_on().await?;
    here.batch_execute("COMMIT").await?;
    ensure!(behind(&first).await? == 2, "nobody goes on with a paused run");
    Ok(begun.id)
}

/// Resumes the run: it comes to its end on the first server, and waits for the second.
async fn goes_on_elsewhere(world: &World, id: &str, work: &Work) -> Result<()> {
    let (request, reason) = (id.to_owned(), "a test".to_owned());
    let resume = ResumeMigrationRequest { id: request, reason };
    world.operator.migrations().resume_migration(resume).await?;
    wait::until("the run goes on elsewhere", BOUND, async || {
        let run = get(world, id).await?;
        let (first, second) = (on(&run, DATA_SERVER)?, on(&run, SECOND_DATA_SERVER)?);
        Ok(first.behind_in_all == 0 && second.away.is_some())
    })
    .await?;
    work.goes_on().await?;
    let run = get(world, id).await?;
    let (first, second) = (on(&run, DATA_SERVER)?, on(&run, SECOND_DATA_SERVER)?);
    ensure!(first.away.is_none(), "{run:?}");
    ensure!(
        second.away.is_some() && second.behind_in_all == 2 && !run.last_error.is_empty(),
        "{run:?}"
    );
    ensure!(
        (run.state(), run.wave, run.migrated, run.failed) == (MigrationState::Running, 0, 2, 0),
        "a server that is away is no failure, and the wave waits for it: {run:?}"
    );
    let first = world.suite.databases().data_server(DATA_SERVER)?;
    ensure!(behind(&first).await? == 0);
    Ok(())
}

#[tokio::test]
async fn a_run_goes_on_elsewhere_while_a_data_server_is_away_and_ends_when_it_is_back() -> Result<()> {
    let options = Options {
        second_data_server: true,
        ..Options::default()
    };
    let world = World::start_with("away", options).await?;
    servers::register_second(&world).await?;
    let mut houses = Vec::new();
    for (placement, slug, server) in HOUSES {
        let house = world.house_in(placement, slug).await?;
        ensure!(house.tenant.server == server, "{:?}", house.tenant);
        journey::contacts(&house.administrator.caller).await?;
        houses.push((placement, house));
    }
    houses.sort_by(|(_, one), (_, other)| one.tenant.server.cmp(&other.tenant.server));
    set_back(&world, &houses).await?;
    let (here, there) = houses.split_at(2);
    // The control: what they are refused later is the server's absence.
    are_served(&world, there).await?;

    let work = Work::begin(&world, here)?;
    work.goes_on().await?;
    let leaver = tenants::leaver(&world).await?;
    let id = paused_without_second(&world, &work).await?;
    let (waiting, ..) = tokio::try_join!(
        tenants::wait(&world, leaver),
        goes_on_elsewhere(&world, &id, &work),
        is_told(&world, &there[0]),
        is_told(&world, &there[1]),
    )?;

    let databases = world.suite.databases();
    databases.second_server()?.start().await?;
    wait::until("the end of the run", BOUND, async || {
        Ok(get(&world, &id).await?.state() == MigrationState::Done)
    })
    .await?;
    let done = get(&world, &id).await?;
    ensure!((done.planned, done.migrated, done.failed) == (4, 4, 0), "{done:?}");
    ensure!(
        done.last_error.is_empty() && done.progress.iter().all(|progress| progress.away.is_none()),
        "{done:?}"
    );
    for server in [DATA_SERVER, SECOND_DATA_SERVER] {
        ensure!(behind(&databases.data_server(server)?).await? == 0, "{server}");
    }
    are_served(&world, there).await?;
    waiting.end(&world).await?;
    // No call of theirs has failed, from before the server went until after it was back.
    work.end().await?;
    Ok(())
}

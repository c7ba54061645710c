//! T01 on the running suite: tenants of every placement call at once, calls are given up at random, connections are cut in the
//! middle of them, the callers' and those from crm to the pooler, back ends are terminated. No answer holds another tenant's text,
//! no row stands in another tenant's house, and what was acknowledged is there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rowhouse_devkit::caller::Caller;
use rowhouse_devkit::cluster;
use rowhouse_devkit::gate::Gate;
use rowhouse_devkit::settings::DATA_SERVER;
use rowhouse_devkit::suite::Process;
use rowhouse_devkit::torture::{Dice, Torture};
use rowhouse_proto::common::v1::Placement;
use rowhouse_proto::crm::v1::{
    Contact, CreateContactRequest, GetContactRequest, ListContactsRequest, UpdateContactRequest,
};
use rowhouse_types::TenantId;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio_postgres::Client;
use tonic::{Code, Status};
use uuid::Uuid;

use crate::support::database;
use crate::support::world::{PLACEMENTS, World};

/// In the short form and in the long one.
const TENANTS: [usize; 2] = [6, 50];
const CALLS_OF_A_TASK: [usize; 2] = [40, 400];
const TASKS: usize = 24;
/// Of a hundred calls, those that are given up while they run.
const GIVEN_UP: usize = 20;
/// Of a hundred calls that are given up, those whose connection is cut too, while the service still works for them.
const CUT: usize = 30;
/// Longest patience of a caller who gives up.
const PATIENCE_MAX_US: usize = 20_000;

struct House {
    id: TenantId,
    placement: Placement,
    token: String,
    /// Contacts that were acknowledged: their ids and names.
    acknowledged: Mutex<BTreeMap<String, String>>,
}

#[derive(Default)]
struct Counts {
    answered: AtomicUsize,
    given_up: AtomicUsize,
    cut: AtomicUsize,
    lost: AtomicUsize,
    foreign: AtomicUsize,
    stop: AtomicBool,
}

/// Text that says whose it is: `tenant|row|nonce`.
fn canary(tenant: TenantId) -> String {
    format!("{tenant}|{}|{}", Uuid::new_v4().simple(), Uuid::new_v4().simple())
}

/// How many of these are not the tenant's.
fn foreign(tenant: TenantId, contacts: &[Contact]) -> usize {
    let prefix = format!("{tenant}|");
    let strange = |contact: &&Contact| !contact.display_name.starts_with(&prefix);
    contacts.iter().filter(strange).count()
}

/// One call; answers the contacts that came back.
async fn call(caller: &Caller, house: &House, mut dice: Dice) -> Result<Vec<Contact>, Status> {
    let known = {
        let known = house.acknowledged.lock().await;
        let at = dice.below(known.len());
        known.keys().nth(at).cloned()
    };
    let contact = |id: &str| Contact {
        id: id.to_owned(),
        display_name: canary(house.id),
        ..Contact::default()
    };
    let mut contacts = caller.contacts();
    match (dice.below(10), known) {
        (0..=2, _) | (_, None) => {
            let request = CreateContactRequest {
                contact: Some(contact("")),
                request_id: Uuid::new_v4().to_string(),
            };
            let created = contacts.create_contact(request).await?.into_inner();
            let mut acknowledged = house.acknowledged.lock().await;
            acknowledged.insert(created.id.clone(), created.display_name.clone());
            Ok(vec![created])
        }
        (3..=5, Some(id)) => Ok(vec![contacts.get_contact(GetContactRequest { id }).await?.into_inner()]),
        (6, Some(id)) => {
            let request = UpdateContactRequest {
                contact: Some(contact(&id)),
                ..UpdateContactRequest::default()
            };
            let updated = contacts.update_contact(request).await?.into_inner();
            Ok(vec![updated])
        }
        (_, Some(_)) => {
            let request = ListContactsRequest {
                page_size: 50,
                ..ListContactsRequest::default()
            };
            Ok(contacts.list_contacts(request).await?.into_inner().contacts)
        }
    }
}

/// A caller with connections of its own.
fn connect(world: &World, token: &str) -> Result<Caller> {
    Caller::anonymous(world.suite.endpoints()?).with_token(token)
}

async fn work(
    world: Arc<World>,
    houses: Arc<[House]>,
    mut dice: Dice,
    calls: usize,
    counts: Arc<Counts>,
) -> Result<()> {
    let mut callers = BTreeMap::new();
    for number in 0..calls {
        let at = dice.below(houses.len());
        let house = &houses[at];
        let caller = match callers.get(&at) {
            Some(caller) => caller,
            None => callers.entry(at).or_insert(connect(&world, &house.token)?),
        };
        let patience = if dice.percent(GIVEN_UP) {
            Duration::from_micros(dice.below(PATIENCE_MAX_US) as u64)
        } else {
            Duration::from_secs(60)
        };
        let answer = tokio::time::timeout(patience, call(caller, house, dice.of_task(number))).await;
        let counter = match answer {
            Err(_) => {
                if dice.percent(CUT) {
                    callers.remove(&at);
                    counts.cut.fetch_add(1, Ordering::Relaxed);
                }
                &counts.given_up
            }
            Ok(Ok(contacts)) => {
                counts
                    .foreign
                    .fetch_add(foreign(house.id, &contacts), Ordering::Relaxed);
                &counts.answered
            }
            Ok(Err(status)) => {
                let expected = match status.code() {
                    Code::Unavailable | Code::ResourceExhausted | Code::Aborted => true,
                    // The client's own word, without details: the connection ended before the call was sent. A server that
                    // gets no time to read an answer to its probe within 10 s ends it (`KEEP_ALIVE_MAX` of libs/server).
                    Code::Cancelled => status.details().is_empty(),
                    _ => false,
                };
                ensure!(expected, "{status:?}");
                &counts.lost
            }
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// Terminates back ends of the application, and cuts connections from crm to the pooler, until it is told to stop; how many of
/// each.
async fn disturb(
    superuser: Client,
    databases: Vec<String>,
    pooler: Arc<Gate>,
    mut dice: Dice,
    counts: Arc<Counts>,
) -> Result<(usize, usize)> {
    let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE usename IN ('rowhouse_app', datname) AND datname = ANY ($1) ORDER BY random() LIMIT 1";
    let (mut killed, mut cut) = (0, 0);
    let mut ticks = tokio::time::interval(Duration::from_millis(50));
    while !counts.stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        killed += usize::try_from(superuser.execute(kill, &[&databases]).await?)?;
        cut += usize::from(pooler.cut(dice.below(usize::MAX)));
    }
    Ok((killed, cut))
}

/// Where the tenant's rows are: a connection, and the table.
async fn table(world: &World, house: &House) -> Result<(Client, String)> {
    let (client, schema) = database::home(world.suite.databases(), house.placement, house.id).await?;
    Ok((client, format!("{schema}.contacts")))
}

/// Rows of the tenant's table that are not where they belong: a foreign name under its number, or, where the table is its
/// own, a foreign number.
async fn misplaced(world: &World, house: &House) -> Result<usize> {
    let (superuser, table) = table(world, house).await?;
    let sql = format!(
        "SELECT count(*) FROM {table}
         WHERE (tenant_id = $1 AND display_name NOT LIKE $2) OR (NOT $3 AND tenant_id <> $1)"
    );
    let shared = house.placement == Placement::Shared;
    let prefix = format!("{}|%", house.id);
    let row = superuser.query_one(&sql, &[&house.id.uuid(), &prefix, &shared]).await?;
    Ok(usize::try_from(row.get::<_, i64>(0))?)
}

/// Acknowledged contacts that are not there.
async fn missing(world: &World, house: &House) -> Result<usize> {
    let (superuser, table) = table(world, house).await?;
    let acknowledged = house.acknowledged.lock().await;
    let mut ids = Vec::new();
    for id in acknowledged.keys() {
        ids.push(id.parse::<rowhouse_types::ContactId>()?.uuid());
    }
    let sql = format!("SELECT count(*) FROM {table} WHERE tenant_id = $1 AND id = ANY ($2)");
    let row = superuser.query_one(&sql, &[&house.id.uuid(), &ids]).await?;
    Ok(ids.len() - usize::try_from(row.get::<_, i64>(0))?)
}

/// A suite whose crm goes to the pooler by a way on which connections can be cut, and that way.
async fn start() -> Result<(Arc<World>, Arc<Gate>)> {
    let mut world = World::start("interleaved").await?;
    let server = world.suite.databases().data_server(DATA_SERVER)?;
    let pooler = Gate::before(&server.pooled_url()).await?;
    let by_way = vec![("ROWHOUSE_DATA_URLS", format!("{DATA_SERVER}={}", pooler.url()))];
    world.suite.restart_with(Process::Crm, by_way).await?;
    Ok((Arc::new(world), Arc::new(pooler)))
}

async fn move_in(world: &World, count: usize) -> Result<Arc<[House]>> {
    let mut houses = Vec::new();
    for number in 0..count {
        let placement = PLACEMENTS[number % PLACEMENTS.len()];
        let (tenant, member) = world.tenant_in(placement, &format!("house-{number}")).await?;
        houses.push(House {
            id: tenant.id.parse()?,
            placement,
            token: member.tokens.access_token,
            acknowledged: Mutex::default(),
        });
    }
    Ok(houses.into())
}

async fn round(torture: &mut Torture, dice: Dice) -> Result<()> {
    let size = |[short, long]: [usize; 2]| torture.size(short, long);
    let (tenants, calls) = (size(TENANTS), size(CALLS_OF_A_TASK));
    let (world, pooler) = start().await?;
    let houses = move_in(&world, tenants).await?;
    let counts = Arc::new(Counts::default());
    let own = houses.iter().filter(|house| house.placement == Placement::Database);
    let mut databases: Vec<String> = own.map(|house| format!("t_{}", house.id.uuid().simple())).collect();
    databases.push(world.suite.databases().data_name().to_owned());
    let superuser = cluster::connect(&world.suite.databases().data_superuser_url()).await?;
    let disturbing = disturb(
        superuser,
        databases,
        pooler.clone(),
        dice.of_task(TASKS),
        counts.clone(),
    );
    let disturbing = tokio::spawn(disturbing);
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        tasks.spawn(work(
            world.clone(),
            houses.clone(),
            dice.of_task(task),
            calls,
            counts.clone(),
        ));
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    counts.stop.store(true, Ordering::Relaxed);
    let (killed, cut_within) = disturbing.await??;
    let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
    torture.trials(count(&counts.answered));
    torture.count("given up", count(&counts.given_up));
    torture.count("cut", count(&counts.cut));
    torture.count("lost", count(&counts.lost));
    torture.count("back ends killed", killed);
    torture.count("cut from the pooler", cut_within);
    ensure!(
        count(&counts.foreign) == 0,
        "{} foreign contacts",
        count(&counts.foreign)
    );
    ensure!(
        count(&counts.answered) > TASKS * calls / 3,
        "{}",
        count(&counts.answered)
    );
    ensure!(count(&counts.given_up) > 0 && count(&counts.cut) > 0 && killed > 0 && cut_within > 0);
    for house in houses.iter() {
        ensure!(misplaced(&world, house).await? == 0, "{} is not alone", house.id);
        ensure!(missing(&world, house).await? == 0, "{} has lost contacts", house.id);
    }
    control(&world, &houses).await
}

/// The control: one row with a neighbour's name, and the caller and the audit both see it.
async fn control(world: &World, houses: &[House]) -> Result<()> {
    for house in houses.iter().take(PLACEMENTS.len()) {
        let neighbour = houses
            .iter()
            .find(|other| other.id != house.id)
            .context("a neighbour")?;
        let (superuser, table) = table(world, house).await?;
        let sql = format!(
            "UPDATE {table} SET display_name = $2
             WHERE tenant_id = $1 AND id = (SELECT id FROM {table} WHERE tenant_id = $1 ORDER BY id LIMIT 1)"
        );
        let planted = superuser
            .execute(&sql, &[&house.id.uuid(), &canary(neighbour.id)])
            .await?;
        ensure!(planted == 1, "{} has no contact", house.id);
        ensure!(misplaced(world, house).await? == 1);
        let caller = connect(world, &house.token)?;
        let (mut seen, mut page_token) = (0, String::new());
        loop {
            let request = ListContactsRequest {
                page_size: 1_000,
                page_token,
                ..ListContactsRequest::default()
            };
            let page = caller.contacts().list_contacts(request).await?.into_inner();
            seen += foreign(house.id, &page.contacts);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        ensure!(seen == 1, "the caller saw {seen}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tenants_never_meet_on_the_running_suite() -> Result<()> {
    let mut torture = Torture::begin("T01", "suite");
    while let Some(dice) = torture.round() {
        round(&mut torture, dice).await?;
    }
    Ok(())
}

//! A run of migrations over homes of the version before the newest, in every placement, while their members work: no call
//! fails, and nothing that was acknowledged is missing afterwards.
//!
//! No code can be told to withhold its newest migration, so it is taken back in homes that have it (`undo/`).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rowhouse_devkit::caller::Caller;
use rowhouse_devkit::suite::Process;
use rowhouse_devkit::{cluster, journey, wait};
use rowhouse_proto::auth::v1::AuditFilter;
use rowhouse_proto::common::v1::{HouseFault, Placement};
use rowhouse_proto::crm::v1::{Contact, GetContactRequest, ListContactsRequest, UpdateContactRequest};
use rowhouse_proto::tenant::v1::{
    Migration, MigrationState, MigrationWave, PauseMigrationRequest, ResumeMigrationRequest, ResumeTenantRequest,
    SetTenantReadOnlyRequest, StartMigrationRequest,
};
use rowhouse_proto::well_known::FieldMask;
use tokio::task::JoinSet;
use tonic::{Code, Status};

use super::{check_drift, plan, start, watch, watch_until};
use crate::journey::{audit, kill};
use crate::support::database;
use crate::support::redis::Keys;
use crate::support::world::{House, Member, PLACEMENTS, World, slug_in};

/// crm's newest migration of a home, and what takes it back.
pub(super) const NEWEST: i32 = 3;
const UNDO: &str = include_str!("undo/0003.sql");

/// What a run says of a house whose locks it did not get in time: the SQLSTATE.
const LOCK_NOT_AVAILABLE: &str = "55P03";

/// Members of each tenant who work at once.
const MEMBERS: usize = 2;

/// What each member does at least between one step of the run and the next.
const TURNS: usize = 3;

/// Longest time for that, on a machine that runs other tests beside it.
const TURNS_TIME_MAX: Duration = Duration::from_secs(60);

/// A tenant, and where it lives.
pub(super) type Placed = (Placement, House);

/// Members who work until they are told to stop, or are refused.
pub(super) struct Work {
    tasks: JoinSet<()>,
    told: Arc<Told>,
}

#[derive(Default)]
struct Told {
    stop: AtomicBool,
    /// The tenant service is away, so that a call may end UNAVAILABLE.
    is_away: AtomicBool,
    /// By member: contacts as they were told of them last.
    done: Mutex<Vec<Vec<Contact>>>,
    failed: Mutex<Vec<String>>,
}

// === impl Work ===

impl Work {
    pub(super) fn begin(world: &World, houses: &[Placed]) -> Result<Self> {
        let (mut tasks, told) = (JoinSet::new(), Arc::new(Told::default()));
        told.done().resize(houses.len() * MEMBERS, Vec::new());
        let mut places = 0..;
        for (_, house) in houses {
            let administrator = connected(world, &house.administrator)?;
            let members: [_; MEMBERS] = [&house.manager, &house.user];
            for (member, place) in members.into_iter().zip(&mut places) {
                let member = connected(world, member)?;
                tasks.spawn(go_on_working(member, administrator.clone(), place, told.clone()));
            }
        }
        Ok(Self { tasks, told })
    }

    /// Waits until every member has done some more, none of it in vain.
    pub(super) async fn goes_on(&self) -> Result<()> {
        let before: Vec<usize> = self.told.done().iter().map(Vec::len).collect();
        wait::until("the members' work", TURNS_TIME_MAX, || {
            let done = self.told.done();
            let mut pairs = done.iter().zip(&before);
            let is_enough = pairs.all(|(done, before)| done.len() >= before + TURNS);
            let is_over = is_enough || !self.told.failed().is_empty();
            async move { Ok(is_over) }
        })
        .await?;
        self.none_failed()
    }

    /// The tenant service is about to go, or is back: what ends UNAVAILABLE in between is begun anew.
    pub(super) fn excuse(&self, is_away: bool) {
        self.told.is_away.store(is_away, Ordering::SeqCst);
    }

    /// What was acknowledged, by tenant.
    pub(super) async fn end(mut self) -> Result<Vec<Vec<Contact>>> {
        self.told.stop.store(true, Ordering::SeqCst);
        while let Some(ended) = self.tasks.join_next().await {
            ended?;
        }
        self.none_failed()?;
        let done = self.told.done();
        Ok(done.chunks(MEMBERS).map(|members| members.concat()).collect())
    }

    fn none_failed(&self) -> Result<()> {
        let failed = self.told.failed();
        ensure!(failed.is_empty(), "{failed:#?}");
        Ok(())
    }
}

// === impl Told ===

impl Told {
    fn done(&self) -> MutexGuard<'_, Vec<Vec<Contact>>> {
        self.done.lock().expect("nobody panics with it")
    }

    fn failed(&self) -> MutexGuard<'_, Vec<String>> {
        self.failed.lock().expect("nobody panics with it")
    }

    fn is_away(&self) -> bool {
        self.is_away.load(Ordering::SeqCst)
    }
}

/// A member on new connections: that to crm has ended when crm was stopped.
pub(super) fn connected(world: &World, member: &Member) -> Result<Caller> {
    Caller::anonymous(world.suite.endpoints()?).with_token(&member.tokens.access_token)
}

async fn go_on_working(member: Caller, administrator: Caller, place: usize, told: Arc<Told>) {
    for turn in 0.. {
        if told.stop.load(Ordering::SeqCst) {
            return;
        }
        let email = format!("{place}-{turn}@contacts.example");
        let was_away = told.is_away();
        match turn_of(&member, &administrator, &email).await {
            Ok(contact) => told.done()[place].push(contact),
            Err(fault) if is_unavailable(&fault) && (was_away || told.is_away()) => {}
            Err(fault) => return told.failed().push(format!("{email}: {fault:?}")),
        }
    }
}

fn is_unavailable(fault: &anyhow::Error) -> bool {
    let status = fault.downcast_ref::<Status>();
    status.is_some_and(|status| status.code() == Code::Unavailable)
}

/// A contact is created, read, found and changed, and all of that stands in the log at once.
async fn turn_of(member: &Caller, administrator: &Caller, email: &str) -> Result<Contact> {
    let created = journey::create_contact(member, "A Contact", email).await?;
    let mut contacts = member.contacts();
    let read = contacts.get_contact(GetContactRequest { id: created.id.clone() });
    let read = read.await.context("GetContact")?.into_inner();
    let list = ListContactsRequest {
        filter: format!("email = \"{email}\""),
        ..ListContactsRequest::default()
    };
    let listed = contacts.list_contacts(list).await.context("ListContacts")?.into_inner();
    ensure!(
        read == created && listed.contacts == [created.clone()],
        "{created:?}, {read:?}, {listed:?}"
    );
    let contact = Contact {
        id: created.id.clone(),
        etag: created.etag,
        company: "Analytical Engines".to_owned(),
        ..Contact::default()
    };
    let paths = vec!["company".to_owned()];
    let update = UpdateContactRequest {
        contact: Some(contact),
        update_mask: Some(FieldMask { paths }),
    };
    let changed = contacts
        .update_contact(update)
        .await
        .context("UpdateContact")?
        .into_inner();
    let entries = audit::list(administrator, of_crm(&created.id))
        .await
        .context("the log")?;
    let actions: Vec<&str> = entries.iter().map(|entry| entry.action.as_str()).collect();
    ensure!(actions == ["contacts:update", "contacts:create"], "{entries:?}");
    Ok(changed)
}

/// Entries of crm; about this one where it is not empty.
fn of_crm(target: &str) -> AuditFilter {
    audit::filter(|filter| {
        filter.service = "crm".to_owned();
        filter.target = target.to_owned();
    })
}

/// Says of a house that it has the version: in the registry beside it, and in the ledger, which has a copy where that is another.
async fn set_version(world: &World, (placement, house): &Placed, version: i32) -> Result<()> {
    let server = world.suite.databases().data_server(&house.tenant.server)?;
    let (registry, schema) = database::home_on(&server, *placement, house.tenant.id.parse()?).await?;
    let ledger = cluster::connect(&server.superuser_url()).await?;
    let sql = format!(
        "UPDATE rowhouse.houses SET version = {version}, deferred_version = least(deferred_version, {})
         WHERE schema_name = '{schema}'",
        NEWEST - 1
    );
    for client in [registry, ledger] {
        client.batch_execute(&sql).await?;
    }
    Ok(())
}

/// Leaves homes and directory as they are when code with one more migration comes.
pub(super) async fn set_back(world: &World, houses: &[Placed]) -> Result<()> {
    let databases = world.suite.databases();
    world.suite.stop(Process::Crm).await?;
    for of in houses {
        let server = databases.data_server(&of.1.tenant.server)?;
        let (client, schema) = database::home_on(&server, of.0, of.1.tenant.id.parse()?).await?;
        let as_owner = "SET ROLE rowhouse_owner; SET search_path =";
        client
            .batch_execute(&format!("{as_owner} {schema}, ext;\n{UNDO}"))
            .await?;
        set_version(world, of, NEWEST - 1).await?;
    }
    // With each change of a tenant's state the directory is told the version of its home.
    let (mut tenants, reason) = (world.operator.tenants(), "a test");
    for (_, house) in houses {
        let (id, reason) = (house.tenant.id.clone(), reason.to_owned());
        let restrict = SetTenantReadOnlyRequest {
            id: id.clone(),
            reason: reason.clone(),
        };
        tenants.set_tenant_read_only(restrict).await?;
        tenants.resume_tenant(ResumeTenantRequest { id, reason }).await?;
    }
    let control = cluster::connect(&databases.control_superuser_url()).await?;
    let directory = "SELECT array_agg(DISTINCT version) FROM tenant.homes WHERE participant = 'crm'";
    let versions: Vec<i32> = control.query_one(directory, &[]).await?.get(0);
    ensure!(versions == [NEWEST - 1], "the directory says {versions:?}");
    // A home never goes back elsewhere, so nothing tells the caches.
    Keys::of(&world.suite).await?.flush().await?;
    world.suite.restart(Process::Crm).await?;
    for (_, house) in houses {
        let log = "the log of a crm that was away";
        wait::until(log, journey::BACKGROUND_MAX, async || {
            Ok(!audit::list(&house.administrator.caller, of_crm("")).await?.is_empty())
        })
        .await?;
    }
    Ok(())
}

/// The control: a home that is older than what crm serves is refused, so what members are answered is not by chance.
async fn what_is_not_served_is_refused(world: &World, of: &Placed) -> Result<()> {
    set_version(world, of, NEWEST - 2).await?;
    let member = connected(world, &of.1.user)?;
    let refused = member.contacts().list_contacts(ListContactsRequest::default()).await;
    set_version(world, of, NEWEST - 1).await?;
    ensure!(
        refused.as_ref().is_err_and(|status| status.code() == Code::Unavailable),
        "{refused:?}"
    );
    Ok(())
}

/// How many houses there are of each version, as the plan says.
async fn houses_by_version(world: &World) -> Result<BTreeMap<i32, i64>> {
    let plan = plan(world).await?;
    ensure!(plan.servers.iter().all(|server| server.error.is_empty()), "{plan:?}");
    let lines = plan.servers.iter().flat_map(|server| &server.versions);
    Ok(lines.map(|line| (line.version, line.houses)).collect())
}

/// A run with a canary and two shares, paused in the middle and resumed, while the members work.
async fn run(world: &World, houses: &[Placed], work: &Work) -> Result<()> {
    // Another has the shared house in hand, so that the run is not over before it is paused.
    let other = cluster::connect(&world.suite.databases().data_superuser_url()).await?;
    let hold = "BEGIN; SELECT house_id FROM rowhouse.houses WHERE placement = 'shared' FOR NO KEY UPDATE";
    other.batch_execute(hold).await?;
    let percent = |percent| MigrationWave {
        percent,
        ..MigrationWave::default()
    };
    let canary = MigrationWave {
        tenant_ids: vec![houses[0].1.tenant.id.clone()],
        ..MigrationWave::default()
    };
    let ordered = StartMigrationRequest {
        waves: vec![canary, percent(50), percent(100)],
        ..start(0)
    };
    let mut operator = world.operator.migrations();
    let begun = operator.start_migration(ordered).await?.into_inner();
    ensure!((begun.planned, begun.target_version) == (3, NEWEST), "{begun:?}");
    watch_until(world, &begun.id, |run| run.wave > 0).await?;
    work.goes_on().await?;

    let (id, reason) = (begun.id.clone(), "a test".to_owned());
    let paused = operator.pause_migration(PauseMigrationRequest { id, reason }).await?;
    ensure!(paused.get_ref().state() == MigrationState::Paused, "{paused:?}");
    // What was asked of crm before ends meanwhile, and finds that house in other hands.
    work.goes_on().await?;
    other.batch_execute("COMMIT").await?;
    work.goes_on().await?;
    let versions = houses_by_version(world).await?;
    let of = |version: i32| versions.get(&version).copied().unwrap_or_default();
    ensure!(of(NEWEST) >= 1, "the canary is through: {versions:?}");
    ensure!(of(NEWEST - 1) >= 1, "nobody goes on with a paused run: {versions:?}");

    let (id, reason) = (begun.id.clone(), "a test".to_owned());
    operator.resume_migration(ResumeMigrationRequest { id, reason }).await?;
    let done = watch(world, &begun.id, MigrationState::Done).await?;
    brought_all(&done)
}

/// A run over the house of each placement has brought every one on.
pub(super) fn brought_all(done: &Migration) -> Result<()> {
    // On a slow machine the members may have had a lock for longer than a run waits for it: such a house is tried again.
    let was_tried_again = |fault: &HouseFault| fault.sqlstate == LOCK_NOT_AVAILABLE && !fault.given_up;
    ensure!(
        (done.planned, done.migrated, done.failed) == (3, 3, 0) && done.faults.iter().all(was_tried_again),
        "{done:?}"
    );
    Ok(())
}

/// A house of the version before the newest in each placement, with what its members have written.
pub(super) async fn older_houses(world: &World) -> Result<Vec<Placed>> {
    let mut houses = Vec::new();
    for placement in PLACEMENTS {
        let house = world.house_in(placement, &slug_in(placement, "wave")).await?;
        // What is written before the wave is sealed by it.
        journey::contacts(&house.administrator.caller).await?;
        houses.push((placement, house));
    }
    set_back(world, &houses).await?;
    Ok(houses)
}

/// All houses are at the newest version and look like new ones, and nothing that was done meanwhile is missing.
///
/// `done`: what was acknowledged, by tenant.
pub(super) async fn all_is_well(world: &World, houses: &[Placed], done: Vec<Vec<Contact>>) -> Result<()> {
    let newer = check_drift(world).await?;
    ensure!(newer.checked == 3 && newer.drifts.is_empty(), "{newer:?}");
    ensure!(houses_by_version(world).await? == BTreeMap::from([(NEWEST, 3)]));
    ensure!(super::behind(world).await?.is_empty());
    // crm may take the homes for older ones until its caches forget, and would show their logs as such.
    Keys::of(&world.suite).await?.flush().await?;
    for ((placement, house), done) in houses.iter().zip(&done) {
        let administrator = connected(world, &house.administrator)?;
        let looked = nothing_is_lost(&administrator, done).await;
        looked.with_context(|| format!("{placement:?}"))?;
    }
    Ok(())
}

/// Every contact is as it was acknowledged, and both that were done to it stand in the log, once and sealed.
async fn nothing_is_lost(administrator: &Caller, done: &[Contact]) -> Result<()> {
    let there = kill::all_contacts(administrator).await?;
    let entries = audit::list(administrator, of_crm("")).await?;
    for contact in done {
        ensure!(there.contains(contact), "{contact:?} is not there");
        for action in ["contacts:create", "contacts:update"] {
            let of_it = entries
                .iter()
                .filter(|entry| entry.target == contact.id && entry.action == action);
            let times = of_it.count();
            ensure!(times == 1, "{action} of {} stands {times} times in the log", contact.id);
        }
    }
    let chains = audit::sealed(administrator).await?;
    ensure!(audit::faults(&chains).is_empty(), "{chains:?}");
    Ok(())
}

/// The tenant that a list of houses names; nobody where many share the house.
fn named_after((placement, house): &Placed) -> String {
    match placement {
        Placement::Shared => String::new(),
        _ => house.tenant.id.clone(),
    }
}

#[tokio::test]
async fn members_work_in_homes_of_both_versions_while_a_run_brings_them_to_the_newest() -> Result<()> {
    let world = World::start("wave").await?;
    let newest = plan(&world).await?.newest_version;
    ensure!(
        newest == NEWEST,
        "crm's newest migration is {newest}: write what takes it back in undo/{newest:04}.sql, and name both in UNDO and NEWEST"
    );
    let houses = older_houses(&world).await?;
    let older = check_drift(&world).await?;
    ensure!(older.checked == 3 && older.drifts.is_empty(), "{older:?}");
    what_is_not_served_is_refused(&world, &houses[0]).await?;
    let behind = houses_by_version(&world).await?;
    ensure!(behind == BTreeMap::from([(NEWEST - 1, 3)]), "{behind:?}");
    let mut named: Vec<(String, i32)> = houses.iter().map(|of| (named_after(of), NEWEST - 1)).collect();
    named.sort();
    let mut listed = super::behind(&world).await?;
    listed.sort();
    ensure!(listed == named, "{listed:?}");

    let work = Work::begin(&world, &houses)?;
    work.goes_on().await?;
    run(&world, &houses, &work).await?;
    work.goes_on().await?;
    all_is_well(&world, &houses, work.end().await?).await
}

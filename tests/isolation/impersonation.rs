//! T17: operators act as members while services are killed with SIGKILL at any step. Whatever they did stands in the tenant's log
//! under their name, once, also where one call did it to more than a hundred contacts; so does every session that they have opened.
//!
//! That a kill falls into a step is not left to luck: its calls are held inside PostgreSQL, before their first statement has done
//! anything or while they commit, and let go when who makes them is gone.

mod account;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Context as _, Result, ensure};
use rowhouse_devkit::caller::Caller;
use rowhouse_devkit::suite::Process;
use rowhouse_devkit::torture::Torture;
use rowhouse_devkit::{cluster, journey};
use rowhouse_proto::auth::v1::{EndImpersonationRequest, WhoAmIRequest};
use rowhouse_proto::crm::v1::{
    Contact, DeleteContactRequest, ReassignContactsRequest, UndeleteContactRequest, UpdateContactRequest,
};
use rowhouse_proto::well_known::FieldMask;
use rowhouse_types::{ContactId, SessionId, TenantId, UserId};
use tokio::task::JoinSet;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use uuid::Uuid;

use self::account::{Account, Told};
use crate::support::cut::{CLOSE_GATE, Hold, gate, surely};
use crate::support::database;
use crate::support::world::{House, World};

/// Impersonations of a round, in the short form and in the long one: as many with a kill in each [`Step`] at each [`Moment`].
const IMPERSONATIONS: [usize; 2] = [10, 20];
/// Contacts that are created in each, at once, and then changed or deleted, at once: of four, three are left.
const WRITES: usize = 16;
/// What crm hands over in one statement. Contacts go to a colleague in one impersonation and all come back in the next, so they
/// are more with each, and in the last kill of a hand-over more than these.
const STATEMENT: usize = 100;

/// In the middle of what somebody is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Start,
    Create,
    /// Changing contacts, deleting others, and bringing some of those back.
    Change,
    /// Handing over all contacts that there are, in one call.
    Reassign,
    End,
}

impl Step {
    const ALL: [Self; 5] = [Self::Start, Self::Create, Self::Change, Self::Reassign, Self::End];

    /// Who does it.
    fn victim(self) -> Process {
        match self {
            Self::Start | Self::End => Process::Auth,
            Self::Create | Self::Change | Self::Reassign => Process::Crm,
        }
    }

    /// What its calls are counted as that a kill has cut off.
    fn cut(self) -> &'static str {
        match self {
            Self::Start => "starts cut off",
            Self::Create => "creates cut off",
            Self::Change => "changes cut off",
            Self::Reassign => "hand-overs cut off",
            Self::End => "ends cut off",
        }
    }
}

/// How far the step's calls are then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    /// They wait in the first statement that changes something.
    Begun,
    /// They commit: it has happened, and nobody is told.
    Commit,
}

const MOMENTS: [Moment; 2] = [Moment::Begun, Moment::Commit];

/// A tenant whose member the operator acts as: the administrator, who may give contacts to anybody.
struct Scene {
    world: World,
    house: House,
    tenant: TenantId,
    member: UserId,
    colleague: UserId,
    /// Tries without an answer: cut off, or while who answers was away.
    tries: Arc<AtomicUsize>,
}

/// What was acknowledged in an impersonation, contacts that were handed over in it, and how many calls were cut off.
struct Acted {
    told: Told,
    given: usize,
    cut: usize,
}

impl Scene {
    async fn start() -> Result<Self> {
        let world = World::start("impersonation-kills").await?;
        let house = world.house("acme").await?;
        let tenant: TenantId = house.tenant.id.parse()?;
        // Sessions are inserted by a start and updated by an end.
        let sessions = gate("auth", "sessions", "INSERT OR UPDATE");
        database::execute(world.suite.databases(), &sessions).await?;
        let data = cluster::connect(&world.suite.databases().data_superuser_url()).await?;
        let contacts = gate(&home(tenant), "contacts", "INSERT OR UPDATE");
        data.batch_execute(&contacts).await?;
        Ok(Self {
            member: house.administrator.tokens.user_id.parse()?,
            colleague: house.user.tokens.user_id.parse()?,
            world,
            house,
            tenant,
            tries: Arc::default(),
        })
    }

    /// One impersonation from its start to its end, while who does one of its steps is killed.
    ///
    /// `owners`: whose contacts are handed over, and to whom.
    async fn act(&self, step: Step, moment: Moment, owners: [UserId; 2]) -> Result<Acted> {
        let (world, member) = (&self.world, self.member.uuid());
        let kill = |now: Step, begun: String| {
            let lock = match moment {
                Moment::Begun => begun,
                Moment::Commit => CLOSE_GATE.to_owned(),
            };
            (now == step).then_some((step, lock))
        };
        let mut cut = 0;
        let starting = surely("start", &self.tries, || {
            world.as_member(&self.house, &self.house.administrator)
        });
        let lock = format!("SELECT FROM auth.identities WHERE id = '{member}' FOR UPDATE");
        let started = self.during(kill(Step::Start, lock), &mut cut, starting).await?;
        let inside = world.anyone.with_token(&started.access_token)?;

        // Whoever changes contacts waits, and nobody else who is in the home.
        let change = format!("LOCK TABLE {}.contacts IN SHARE MODE", home(self.tenant));
        let creating = create_all(&inside, &self.tries);
        let contacts = self
            .during(kill(Step::Create, change.clone()), &mut cut, creating)
            .await?;
        let changing = change_all(&inside, &contacts, &self.tries);
        let mut told = self
            .during(kill(Step::Change, change.clone()), &mut cut, changing)
            .await?;
        let giving = reassign_all(&inside, owners, &self.tries);
        let given = self.during(kill(Step::Reassign, change), &mut cut, giving).await?;
        told.created = contacts.len();
        told.changed += given;

        let session: SessionId = started.session_id.parse()?;
        let end = EndImpersonationRequest {
            session_id: started.session_id,
        };
        let ending = surely("end", &self.tries, || {
            let (mut impersonation, end) = (world.operator.impersonation(), end.clone());
            async move { Ok(impersonation.end_impersonation(end).await.map(drop)?) }
        });
        let lock = format!("SELECT FROM auth.sessions WHERE id = '{}' FOR UPDATE", session.uuid());
        self.during(kill(Step::End, lock), &mut cut, ending).await?;
        is_over(&inside).await?;
        Ok(Acted { told, given, cut })
    }

    /// Does a step. `kill`: what its calls shall wait for while who makes them is killed; how many these were is added to `cut`.
    async fn during<T>(
        &self,
        kill: Option<(Step, String)>,
        cut: &mut usize,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let Some((step, lock)) = kill else {
            return work.await;
        };
        let (suite, victim) = (&self.world.suite, step.victim());
        let databases = suite.databases();
        let url = match victim {
            Process::Crm => databases.data_superuser_url(),
            _ => databases.control_superuser_url(),
        };
        // Before the work begins, which it does when it is waited for.
        let hold = Hold::begin(&url, &lock).await?;
        let killing = async {
            hold.wait_for(1).await?;
            let cut = hold.kill(suite, victim).await?;
            suite.restart(victim).await?;
            anyhow::Ok(cut)
        };
        let (done, more) = tokio::try_join!(work, killing)?;
        *cut += more;
        Ok(done)
    }
}

/// The schema of a tenant.
fn home(tenant: TenantId) -> String {
    format!("t_{}", tenant.uuid().simple())
}

async fn create_all(inside: &Caller, tries: &Arc<AtomicUsize>) -> Result<Vec<Contact>> {
    let mut writers = JoinSet::new();
    for number in 0..WRITES {
        let (inside, tries) = (inside.clone(), tries.clone());
        writers.spawn(async move {
            let name = format!("As a member {number}");
            surely("create", &tries, || journey::create_contact(&inside, &name, "")).await
        });
    }
    let mut contacts = Vec::new();
    while let Some(created) = writers.join_next().await {
        contacts.push(created??);
    }
    Ok(contacts)
}

/// Changes every other contact, deletes the rest, and brings every other one of those back.
async fn change_all(inside: &Caller, contacts: &[Contact], tries: &Arc<AtomicUsize>) -> Result<Told> {
    let mut writers = JoinSet::new();
    for (number, contact) in contacts.iter().enumerate() {
        let (inside, id, tries) = (inside.clone(), contact.id.clone(), tries.clone());
        writers.spawn(async move {
            let mut told = Told::default();
            if number % 2 == 0 {
                surely("change", &tries, || change(&inside, &id)).await?;
                told.changed = 1;
                return anyhow::Ok(told);
            }
            let tried = AtomicBool::new(false);
            let delete = || delete(&inside, &id, tried.swap(true, Ordering::Relaxed));
            surely("delete", &tries, delete).await?;
            let contact = id.parse::<ContactId>()?.uuid();
            told.deleted.push(contact);
            if number % 4 == 1 {
                let tried = AtomicBool::new(false);
                let undelete = || undelete(&inside, &id, tried.swap(true, Ordering::Relaxed));
                surely("undelete", &tries, undelete).await?;
                told.undeleted.push(contact);
            }
            Ok(told)
        });
    }
    let mut told = Told::default();
    while let Some(written) = writers.join_next().await {
        told.add(written??);
    }
    Ok(told)
}

/// Hands all contacts of one owner over to the other. Answers how many there were.
async fn reassign_all(inside: &Caller, [from, to]: [UserId; 2], tries: &AtomicUsize) -> Result<usize> {
    // By its request id a call that had happened answers what it did.
    let request = ReassignContactsRequest {
        from_owner_id: from.to_string(),
        to_owner_id: to.to_string(),
        request_id: Uuid::new_v4().to_string(),
        ..ReassignContactsRequest::default()
    };
    let given = surely("hand-over", tries, || {
        let (mut contacts, request) = (inside.contacts(), request.clone());
        async move { Ok(contacts.reassign_contacts(request).await?.into_inner()) }
    })
    .await?;
    ensure!(given.remaining_count == 0, "one call is enough: {given:?}");
    Ok(usize::try_from(given.reassigned_count)?)
}

async fn change(inside: &Caller, id: &str) -> Result<()> {
    let contact = Contact {
        id: id.to_owned(),
        company: "Rowhouse".to_owned(),
        ..Contact::default()
    };
    let request = UpdateContactRequest {
        contact: Some(contact),
        update_mask: Some(FieldMask {
            paths: vec!["company".to_owned()],
        }),
    };
    inside.contacts().update_contact(request).await?;
    Ok(())
}

/// `again`: the try before had no answer, and may have deleted it.
async fn delete(inside: &Caller, id: &str, again: bool) -> Result<()> {
    let request = DeleteContactRequest {
        id: id.to_owned(),
        etag: String::new(),
    };
    match inside.contacts().delete_contact(request).await {
        Err(status) if again && status.code() == Code::NotFound => Ok(()),
        answer => Ok(answer.map(drop)?),
    }
}

/// `again`: the try before had no answer, and may have brought it back.
async fn undelete(inside: &Caller, id: &str, again: bool) -> Result<()> {
    let request = UndeleteContactRequest {
        id: id.to_owned(),
        etag: String::new(),
    };
    match inside.contacts().undelete_contact(request).await {
        Err(status) if again && status.code() == Code::AlreadyExists => Ok(()),
        answer => Ok(answer.map(drop)?),
    }
}

/// Checks that the impersonation has ended.
async fn is_over(inside: &Caller) -> Result<()> {
    let late = journey::create_contact(inside, "Too late", "")
        .await
        .expect_err("it was over");
    let late = late.downcast_ref::<Status>().context("a status")?;
    let details = late.get_error_details();
    let reason = details.error_info().map(|info| info.reason.as_str());
    ensure!(reason == Some("SESSION_REVOKED"), "{late:?}");
    Ok(())
}

async fn round(torture: &mut Torture) -> Result<()> {
    let scene = Scene::start().await?;
    let Scene {
        world, tenant, member, ..
    } = &scene;
    let me = world.operator.auth().who_am_i(WhoAmIRequest {}).await?;
    let operator = me.into_inner().user_id;
    let [short, long] = IMPERSONATIONS;
    let impersonations = torture.size(short, long);
    let (mut told, mut starts_unanswered, mut given_in_commit) = (Told::default(), 0, 0);
    let mut owners = [*member, scene.colleague];
    for number in 0..impersonations {
        let step = Step::ALL[number % Step::ALL.len()];
        let moment = MOMENTS[number / Step::ALL.len() % MOMENTS.len()];
        let acted = scene.act(step, moment, owners).await;
        let acted = acted.with_context(|| format!("{step:?}, {moment:?}"))?;
        ensure!(acted.cut > 0, "{step:?}, {moment:?}: nobody was killed at work");
        owners.reverse();
        told.add(acted.told);
        match (step, moment) {
            (Step::Start, Moment::Commit) => starts_unanswered += acted.cut,
            (Step::Reassign, Moment::Commit) => given_in_commit = acted.given,
            _ => {}
        }
        torture.count("kills", 1);
        torture.count(step.cut(), acted.cut);
        torture.count("contacts handed over", acted.given);
    }
    torture.count("tries without an answer", scene.tries.load(Ordering::Relaxed));
    ensure!(
        given_in_commit > STATEMENT,
        "{given_in_commit} contacts are handed over by one statement"
    );
    let account = Account::read(world, *tenant, *member, &operator, &told).await?;
    torture.trials(usize::try_from(account.effects + account.sessions)?);
    ensure!(
        account.has_all(&told)?,
        "acknowledged writes are gone: {account:?}, {told:?}"
    );
    ensure!(
        account.sessions >= i64::try_from(impersonations + starts_unanswered)?,
        "{starts_unanswered} starts were cut off in their commit, and their sessions are not there: {account:?}"
    );
    ensure!(account.unaudited() == 0, "{account:?}");

    // The control: effects of each kind without their entries, a hand-over too, and an entry that is there twice.
    let home = home(*tenant);
    let data = cluster::connect(&world.suite.databases().data_superuser_url()).await?;
    let forgotten = data
        .execute(
            &format!(
                "DELETE FROM {home}.audit_entries WHERE id IN (
                     SELECT DISTINCT ON (action, before ->> 'owner_id' <> after ->> 'owner_id') id
                     FROM {home}.audit_entries WHERE on_behalf_of IS NOT NULL AND outcome = 'succeeded')"
            ),
            &[],
        )
        .await?;
    ensure!(
        forgotten == 5,
        "a contact is created, changed, handed over, deleted or brought back: {forgotten}"
    );
    let control = cluster::connect(&world.suite.databases().control_superuser_url()).await?;
    control
        .batch_execute(
            "INSERT INTO auth.audit SELECT gen_random_uuid(), at, tenant_id, actor, on_behalf_of, action, target, before,
                 after, reason, address, request_id, outcome FROM auth.audit WHERE action = 'impersonation.start' LIMIT 1",
        )
        .await?;
    let account = Account::read(world, *tenant, *member, &operator, &told).await?;
    ensure!(
        account.unaudited() == 6,
        "the account misses what was done to it: {account:?}"
    );
    Ok(())
}

#[tokio::test]
async fn whatever_an_operator_did_as_a_member_is_in_the_log() -> Result<()> {
    let mut torture = Torture::begin("T17", "impersonation");
    while torture.round().is_some() {
        round(&mut torture).await?;
    }
    Ok(())
}

//! T17: operators act as members while services are killed with SIGKILL at any step. Whatever they did stands in the tenant's log
//! under their name, once; so does every session that they have opened.
//!
//! That a kill falls into a step is not left to luck: its calls are held inside PostgreSQL, before their first statement has done
//! anything or while they commit, and let go when who makes them is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Context as _, Result, ensure};
use rowhouse_devkit::caller::Caller;
use rowhouse_devkit::suite::Process;
use rowhouse_devkit::torture::Torture;
use rowhouse_devkit::{cluster, journey};
use rowhouse_proto::auth::v1::{EndImpersonationRequest, WhoAmIRequest};
use rowhouse_proto::crm::v1::{Contact, DeleteContactRequest, UpdateContactRequest};
use rowhouse_proto::well_known::FieldMask;
use rowhouse_types::{SessionId, TenantId, UserId};
use tokio::task::JoinSet;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::support::cut::{CLOSE_GATE, Hold, gate, surely};
use crate::support::database;
use crate::support::world::{House, World};

/// Impersonations of a round, in the short form and in the long one: as many with a kill in each [`Step`] at each [`Moment`].
const IMPERSONATIONS: [usize; 2] = [8, 16];
/// Contacts that are created in each, at once, and then changed or deleted, at once.
const WRITES: usize = 12;

/// What an operator did as a member, and what the log says of it.
#[derive(Debug, PartialEq, Eq)]
struct Account {
    /// What was done to the member's contacts, and what of it the log names once, with the operator as actor.
    effects: i64,
    logged_effects: i64,
    /// Contacts that were created, changes, and contacts that were deleted: the effects by their kinds.
    kinds: [i64; 3],
    /// Sessions that were opened, and those of them that the log names once.
    sessions: i64,
    logged_sessions: i64,
    /// Of these, those that were ended without an entry that says so.
    ended_unsaid: i64,
}

impl Account {
    async fn read(world: &World, tenant: TenantId, member: UserId, operator: &str) -> Result<Self> {
        let home = home(tenant);
        let data = cluster::connect(&world.suite.databases().data_superuser_url()).await?;
        // Whatever is done to a contact raises its revision by one.
        let logged = format!(
            "WITH effect AS (
                 SELECT contact.id, step.revision, CASE
                     WHEN step.revision = 1 THEN 'contacts:create'
                     WHEN step.revision = contact.revision AND contact.deleted_at IS NOT NULL THEN 'contacts:delete'
                     ELSE 'contacts:update' END AS action
                 FROM {home}.contacts AS contact
                 CROSS JOIN LATERAL generate_series(1::bigint, contact.revision) AS step (revision)
                 WHERE contact.owner_id = '{}'
             )
             SELECT count(*), count(*) FILTER (WHERE 1 = (SELECT count(*) FROM {home}.audit_entries AS entry
                     WHERE entry.target = effect.id AND (entry.after ->> 'revision')::bigint = effect.revision
                         AND entry.action = effect.action AND entry.actor = '{operator}'
                         AND entry.on_behalf_of = '{member}' AND entry.outcome = 'succeeded')),
                 count(*) FILTER (WHERE action = 'contacts:create'), count(*) FILTER (WHERE action = 'contacts:update'),
                 count(*) FILTER (WHERE action = 'contacts:delete')
             FROM effect",
            member.uuid()
        );
        let effects = data.query_one(&logged, &[]).await?;
        let control = cluster::connect(&world.suite.databases().control_superuser_url()).await?;
        // Ids in the log are as the API writes them: sessions are told apart by when they end.
        let sessions = format!(
            "SELECT count(*), count(*) FILTER (WHERE 1 = (SELECT count(*) FROM auth.audit AS entry
                 WHERE entry.action = 'impersonation.start' AND entry.actor = '{operator}' AND entry.target = '{member}'
                     AND (entry.after ->> 'ends')::timestamptz = session.expires_at)),
                 count(*) FILTER (WHERE revoked_at IS NOT NULL) - (SELECT count(*) FROM auth.audit
                     WHERE action = 'impersonation.end' AND actor = '{operator}' AND target = '{member}')
             FROM auth.sessions AS session WHERE session.impersonator_id IS NOT NULL AND session.identity_id = '{}'",
            member.uuid()
        );
        let sessions = control.query_one(&sessions, &[]).await?;
        Ok(Self {
            effects: effects.get(0),
            logged_effects: effects.get(1),
            kinds: [effects.get(2), effects.get(3), effects.get(4)],
            sessions: sessions.get(0),
            logged_sessions: sessions.get(1),
            ended_unsaid: sessions.get(2),
        })
    }

    fn unaudited(&self) -> i64 {
        self.effects - self.logged_effects + self.sessions - self.logged_sessions + self.ended_unsaid.abs()
    }
}

/// In the middle of what somebody is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Start,
    Create,
    /// Changing contacts, and deleting others.
    Change,
    End,
}

impl Step {
    const ALL: [Self; 4] = [Self::Start, Self::Create, Self::Change, Self::End];

    /// Who does it.
    fn victim(self) -> Process {
        match self {
            Self::Start | Self::End => Process::Auth,
            Self::Create | Self::Change => Process::Crm,
        }
    }

    /// What its calls are counted as that a kill has cut off.
    fn cut(self) -> &'static str {
        match self {
            Self::Start => "starts cut off",
            Self::Create => "creates cut off",
            Self::Change => "changes cut off",
            Self::End => "ends cut off",
        }
    }
}

/// How far the step's calls are then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    /// They wait in their first statement.
    Begun,
    /// They commit: it has happened, and nobody is told.
    Commit,
}

const MOMENTS: [Moment; 2] = [Moment::Begun, Moment::Commit];

/// A tenant whose member the operator acts as.
struct Scene {
    world: World,
    house: House,
    tenant: TenantId,
    member: UserId,
    /// Tries without an answer: cut off, or while who answers was away.
    tries: Arc<AtomicUsize>,
}

/// What was acknowledged in an impersonation, and how many calls were cut off in it.
struct Acted {
    created: usize,
    changed: usize,
    deleted: usize,
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
            member: house.manager.tokens.user_id.parse()?,
            world,
            house,
            tenant,
            tries: Arc::default(),
        })
    }

    /// One impersonation from its start to its end, while who does one of its steps is killed.
    async fn act(&self, step: Step, moment: Moment) -> Result<Acted> {
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
            world.as_member(&self.house, &self.house.manager)
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
        let (changed, deleted) = self.during(kill(Step::Change, change), &mut cut, changing).await?;

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
        Ok(Acted {
            created: contacts.len(),
            changed,
            deleted,
            cut,
        })
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

/// Changes every other contact, and deletes the rest. Answers how many of each.
async fn change_all(inside: &Caller, contacts: &[Contact], tries: &Arc<AtomicUsize>) -> Result<(usize, usize)> {
    let mut writers = JoinSet::new();
    for (number, contact) in contacts.iter().enumerate() {
        let (inside, id, tries) = (inside.clone(), contact.id.clone(), tries.clone());
        writers.spawn(async move {
            if number % 2 == 0 {
                surely("change", &tries, || change(&inside, &id)).await?;
                return anyhow::Ok((1, 0));
            }
            let tried = AtomicBool::new(false);
            let delete = || delete(&inside, &id, tried.swap(true, Ordering::Relaxed));
            surely("delete", &tries, delete).await?;
            Ok((0, 1))
        });
    }
    let mut done = (0, 0);
    while let Some(written) = writers.join_next().await {
        let (changed, deleted) = written??;
        done = (done.0 + changed, done.1 + deleted);
    }
    Ok(done)
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
    let (mut acknowledged, mut starts_unanswered) = ([0; 3], 0);
    for number in 0..impersonations {
        let step = Step::ALL[number % Step::ALL.len()];
        let moment = MOMENTS[number / Step::ALL.len() % MOMENTS.len()];
        let acted = scene.act(step, moment).await;
        let acted = acted.with_context(|| format!("{step:?}, {moment:?}"))?;
        ensure!(acted.cut > 0, "{step:?}, {moment:?}: nobody was killed at work");
        for (kind, more) in [acted.created, acted.changed, acted.deleted].into_iter().enumerate() {
            acknowledged[kind] += i64::try_from(more)?;
        }
        if (step, moment) == (Step::Start, Moment::Commit) {
            starts_unanswered += acted.cut;
        }
        torture.count("kills", 1);
        torture.count(step.cut(), acted.cut);
    }
    torture.count("tries without an answer", scene.tries.load(Ordering::Relaxed));
    let account = Account::read(world, *tenant, *member, &operator).await?;
    torture.trials(usize::try_from(account.effects + account.sessions)?);
    ensure!(
        account
            .kinds
            .iter()
            .zip(acknowledged)
            .all(|(done, acknowledged)| *done >= acknowledged),
        "acknowledged writes are gone: {account:?}, {acknowledged:?}"
    );
    ensure!(
        account.sessions >= i64::try_from(impersonations + starts_unanswered)?,
        "{starts_unanswered} starts were cut off in their commit, and their sessions are not there: {account:?}"
    );
    ensure!(account.unaudited() == 0, "{account:?}");

    // The control: effects of each kind without their entries, and an entry that is there twice.
    let home = home(*tenant);
    let data = cluster::connect(&world.suite.databases().data_superuser_url()).await?;
    let forgotten = data
        .execute(
            &format!(
                "DELETE FROM {home}.audit_entries WHERE id IN (SELECT DISTINCT ON (action) id FROM {home}.audit_entries
                     WHERE on_behalf_of IS NOT NULL AND outcome = 'succeeded')"
            ),
            &[],
        )
        .await?;
    ensure!(forgotten == 3, "a contact is created, changed or deleted: {forgotten}");
    let control = cluster::connect(&world.suite.databases().control_superuser_url()).await?;
    control
        .batch_execute(
            "INSERT INTO auth.audit SELECT gen_random_uuid(), at, tenant_id, actor, on_behalf_of, action, target, before,
                 after, reason, address, request_id, outcome FROM auth.audit WHERE action = 'impersonation.start' LIMIT 1",
        )
        .await?;
    let account = Account::read(world, *tenant, *member, &operator).await?;
    ensure!(
        account.unaudited() == 4,
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

//! T17: operators act as members while services are killed with SIGKILL at any step. Whatever they did stands in the tenant's log
//! under their name, once; so does every session that they have opened.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result, ensure};
use rowhouse_devkit::caller::Caller;
use rowhouse_devkit::suite::Process;
use rowhouse_devkit::torture::{Dice, Torture};
use rowhouse_devkit::{cluster, journey};
use rowhouse_proto::auth::v1::{EndImpersonationRequest, Impersonation, WhoAmIRequest};
use rowhouse_types::{TenantId, UserId};
use tokio::task::JoinSet;
use tonic::Status;
use tonic_types::StatusExt as _;

use crate::support::cut::surely;
use crate::support::world::{House, World};

/// Impersonations of a round, and what is written in each, at once.
const IMPERSONATIONS: [usize; 2] = [6, 12];
const WRITES: usize = 12;

/// What an operator did as a member, and what the log says of it.
#[derive(Debug, PartialEq, Eq)]
struct Account {
    /// Contacts that are the member's, and those of them that the log names once, with the operator as actor.
    contacts: i64,
    logged_contacts: i64,
    /// Sessions that were opened, and those of them that the log names once.
    sessions: i64,
    logged_sessions: i64,
    /// Of these, those that were ended without an entry that says so.
    ended_unsaid: i64,
}

impl Account {
    async fn read(world: &World, tenant: TenantId, member: UserId, operator: &str) -> Result<Self> {
        let home = format!("t_{}", tenant.uuid().simple());
        let data = cluster::connect(&world.suite.databases().data_superuser_url()).await?;
        let logged = format!(
            "SELECT count(*), count(*) FILTER (WHERE 1 = (SELECT count(*) FROM {home}.audit_entries AS entry
                 WHERE entry.target = contact.id AND entry.action = 'contacts:create' AND entry.actor = '{operator}'
                     AND entry.on_behalf_of = '{member}' AND entry.outcome = 'succeeded'))
             FROM {home}.contacts AS contact WHERE contact.owner_id = '{}'",
            member.uuid()
        );
        let contacts = data.query_one(&logged, &[]).await?;
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
            contacts: contacts.get(0),
            logged_contacts: contacts.get(1),
            sessions: sessions.get(0),
            logged_sessions: sessions.get(1),
            ended_unsaid: sessions.get(2),
        })
    }

    fn unaudited(&self) -> i64 {
        self.contacts - self.logged_contacts + self.sessions - self.logged_sessions + self.ended_unsaid.abs()
    }
}

/// In the middle of what somebody is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Start,
    Write,
    End,
}

impl Step {
    const ALL: [Self; 3] = [Self::Start, Self::Write, Self::End];

    /// Who does it.
    fn victim(self) -> Process {
        match self {
            Self::Start | Self::End => Process::Auth,
            Self::Write => Process::Crm,
        }
    }
}

/// One impersonation from its start to its end, while who does one of its steps is killed. Answers how many writes were
/// acknowledged.
async fn act(world: &World, house: &House, dice: &mut Dice, step: Step, cuts: &Arc<AtomicUsize>) -> Result<usize> {
    let victim = step.victim();
    let starting = surely("start", cuts, || world.as_member(house, &house.user));
    let started: Impersonation = if step == Step::Start {
        let (started, killed) = tokio::join!(starting, kill(world, victim));
        killed?;
        started?
    } else {
        starting.await?
    };
    let inside = world.anyone.with_token(&started.access_token)?;
    let mut writers = JoinSet::new();
    for number in 0..WRITES {
        let (inside, cuts): (Caller, _) = (inside.clone(), cuts.clone());
        writers.spawn(async move {
            let name = format!("As a member {number}");
            surely("write", &cuts, || journey::create_contact(&inside, &name, "")).await
        });
    }
    // While most of them are under way.
    let kill_after = dice.below(WRITES / 2);
    let mut written = 0;
    while written < WRITES {
        if step == Step::Write && written == kill_after {
            kill(world, victim).await?;
        }
        let done = writers.join_next().await.context("a writer")?;
        done??;
        written += 1;
    }
    let end = EndImpersonationRequest {
        session_id: started.session_id,
    };
    let ending = || {
        let (mut impersonation, end) = (world.operator.impersonation(), end.clone());
        async move { Ok(impersonation.end_impersonation(end).await.map(drop)?) }
    };
    let ending = surely("end", cuts, ending);
    if step == Step::End {
        let (ended, killed) = tokio::join!(ending, kill(world, victim));
        killed?;
        ended?;
    } else {
        ending.await?;
    }
    let late = journey::create_contact(&inside, "Too late", "")
        .await
        .expect_err("it was over");
    let late = late.downcast_ref::<Status>().context("a status")?;
    let details = late.get_error_details();
    let reason = details.error_info().map(|info| info.reason.as_str());
    ensure!(reason == Some("SESSION_REVOKED"), "{late:?}");
    Ok(written)
}

async fn kill(world: &World, victim: Process) -> Result<()> {
    world.suite.kill9(victim).await?;
    world.suite.restart(victim).await
}

async fn round(torture: &mut Torture, mut dice: Dice) -> Result<()> {
    let world = World::start("impersonation-kills").await?;
    let house = world.house("acme").await?;
    let tenant: TenantId = house.tenant.id.parse()?;
    let member: UserId = house.user.tokens.user_id.parse()?;
    let operator = world
        .operator
        .auth()
        .who_am_i(WhoAmIRequest {})
        .await?
        .into_inner()
        .user_id;
    let [short, long] = IMPERSONATIONS;
    let (mut written, cuts) = (0, Arc::new(AtomicUsize::new(0)));
    for number in 0..torture.size(short, long) {
        let step = Step::ALL[number % Step::ALL.len()];
        let acted = act(&world, &house, &mut dice, step, &cuts).await;
        written += acted.with_context(|| format!("{step:?}"))?;
        torture.count("kills", 1);
    }
    let account = Account::read(&world, tenant, member, &operator).await?;
    let cuts = cuts.load(Ordering::Relaxed);
    torture.count("calls cut off", cuts);
    ensure!(cuts > 0, "no call was cut off: nobody was killed at work");
    torture.trials(usize::try_from(account.contacts + account.sessions)?);
    ensure!(
        account.contacts >= i64::try_from(written)?,
        "acknowledged writes are gone: {account:?}"
    );
    ensure!(account.unaudited() == 0, "{account:?}");

    // The control: an effect without its entry, and an entry that is there twice.
    let home = format!("t_{}", tenant.uuid().simple());
    let data = cluster::connect(&world.suite.databases().data_superuser_url()).await?;
    data.batch_execute(&format!(
        "DELETE FROM {home}.audit_entries WHERE id = (SELECT min(id::text)::uuid FROM {home}.audit_entries
             WHERE on_behalf_of IS NOT NULL)"
    ))
    .await?;
    let control = cluster::connect(&world.suite.databases().control_superuser_url()).await?;
    control
        .batch_execute(
            "INSERT INTO auth.audit SELECT gen_random_uuid(), at, tenant_id, actor, on_behalf_of, action, target, before,
                 after, reason, address, request_id, outcome FROM auth.audit WHERE action = 'impersonation.start' LIMIT 1",
        )
        .await?;
    let account = Account::read(&world, tenant, member, &operator).await?;
    ensure!(
        account.unaudited() == 2,
        "the account misses what was done to it: {account:?}"
    );
    Ok(())
}

#[tokio::test]
async fn whatever_an_operator_did_as_a_member_is_in_the_log() -> Result<()> {
    let mut torture = Torture::begin("T17", "impersonation");
    while let Some(dice) = torture.round() {
        round(&mut torture, dice).await?;
    }
    Ok(())
}

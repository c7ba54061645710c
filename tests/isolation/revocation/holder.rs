//! T13, the other leg of the acknowledgement: a holder of a lease that confirms nothing is waited for until its lease has run out.
//! Crm hears nothing of auth, or stands still as well, while rights are taken that it knows and honours.
//!
//! What is tried right after the acknowledgement is tried while crm still hears nothing: it has its lease to go by, and no news.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use rowhouse_devkit::caller::Caller;
use rowhouse_devkit::gate::{Flow, Gate};
use rowhouse_devkit::journey::BACKGROUND_MAX;
use rowhouse_devkit::suite::{Listener, Process};
use rowhouse_devkit::torture::Torture;
use rowhouse_devkit::{cluster, http, wait};
use rowhouse_proto::auth::v1::{LogoutRequest, MemberState};
use tokio::task::JoinHandle;
use tokio_postgres::Client;
use tonic::Code;

use super::hammer::{Attempt, Hammer, Verdict};
use super::{ROUNDS, demote_behind, update};
use crate::support::services;
use crate::support::world::{House, Member, World};

/// Crm's lease as auth knows it, that of the newest process: whether it lasts, whether crm has confirmed the newest change, and
/// whether auth has answered the renewal that gave it. A renewal waits for news for 0.5 s, and gives 2 s.
const LEASE: &str = "SELECT expires_at > clock_timestamp(), confirmed_version >= version,
        expires_at < clock_timestamp() + interval '1.2 s'
    FROM auth.leases CROSS JOIN auth.rights_clock WHERE service = 'crm' ORDER BY expires_at DESC LIMIT 1";

/// What becomes of crm while rights are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// Nothing gets from it to auth or back.
    Cut,
    /// It does not run. It goes on after the acknowledgement with what it has known, and with an answer of auth from before.
    Stopped,
}

impl Trouble {
    const ALL: [Self; 2] = [Self::Cut, Self::Stopped];
}

#[derive(Clone, Copy, Debug)]
struct Lease {
    lasts: bool,
    is_confirmed: bool,
    is_answered: bool,
}

/// A tenant on a suite of its own, whose crm reaches auth by a gate.
struct Arena {
    world: World,
    house: House,
    gate: Gate,
    control: Client,
    /// Leases that lasted when rights were about to be taken.
    waited_for: AtomicUsize,
}

// === impl Arena ===

impl Arena {
    async fn start() -> Result<Self> {
        let mut world = World::start("t13-holder").await?;
        let gate = Gate::before(&world.suite.url(Process::Auth, Listener::Internal)).await?;
        let variables = vec![("ROWHOUSE_AUTH_ADDR", gate.url().to_owned())];
        world.suite.restart_with(Process::Crm, variables).await?;
        let house = world.house("acme").await?;
        let control = cluster::connect(&world.suite.databases().control_superuser_url()).await?;
        Ok(Self {
            world,
            house,
            gate,
            control,
            waited_for: AtomicUsize::new(0),
        })
    }

    /// Takes rights from a caller of crm who keeps using them, and lets nothing in that began after the acknowledgement, which
    /// comes when crm's lease has run out.
    async fn take(
        &self,
        trouble: Trouble,
        how: &str,
        (caller, attempts): (&Caller, &[Attempt]),
        revoke: impl AsyncFnOnce() -> Result<()>,
    ) -> Result<()> {
        let revoke = async || {
            if trouble == Trouble::Stopped {
                // Whoever counted the lease from when the answer is read would have one when it goes on.
                wait::until("an answer to crm's renewal", BACKGROUND_MAX, || async {
                    Ok(self.lease().await?.is_answered)
                })
                .await?;
            }
            let lasts = self.lease().await?.lasts;
            self.waited_for.fetch_add(usize::from(lasts), Ordering::Relaxed);
            revoke().await
        };
        let (late, lease) = self.let_in_after(trouble, (caller, attempts), revoke).await?;
        ensure!(
            !lease.lasts && !lease.is_confirmed,
            "crm {trouble:?}, {how}: acknowledged too early, or crm was not {trouble:?}: {lease:?}; let in then: {late:?}"
        );
        ensure!(
            late.is_empty(),
            "crm {trouble:?}, {how}: let in after the acknowledgement: {late:?}"
        );
        Ok(())
    }

    /// What was let in although it began after `revoke` had ended, and crm's lease then.
    async fn let_in_after(
        &self,
        trouble: Trouble,
        (caller, attempts): (&Caller, &[Attempt]),
        revoke: impl AsyncFnOnce() -> Result<()>,
    ) -> Result<(Vec<Attempt>, Lease)> {
        self.until_under_lease().await?;
        let asked = self.asked().await?;
        let hammer = Hammer::start(caller, attempts).await?;
        match trouble {
            Trouble::Cut => self.gate.set(Flow::Held),
            Trouble::Stopped => self.world.suite.signal(Process::Crm, Signal::SIGSTOP).await?,
        }
        revoke().await?;
        let acknowledged = Instant::now();
        let lease = self.lease().await?;
        if trouble == Trouble::Stopped {
            // It goes on without news.
            self.gate.set(Flow::Held);
            self.world.suite.signal(Process::Crm, Signal::SIGCONT).await?;
        }
        let mut late = self.let_in_without_news(caller, attempts, asked).await?;
        // It hears of auth again: from here on nothing but a refusal of rights will do.
        late.extend(hammer.finish(caller, attempts, acknowledged, BACKGROUND_MAX).await?);
        Ok((late, lease))
    }

    /// Tries each attempt while crm hears nothing of auth, until it has let them in or asks auth for want of a lease; then it may
    /// hear the answers.
    ///
    /// `asked`: before it heard nothing. Each attempt of the hammer asks too.
    async fn let_in_without_news(&self, caller: &Caller, attempts: &[Attempt], asked: usize) -> Result<Vec<Attempt>> {
        let mut tries = Vec::new();
        for attempt in attempts.iter().copied() {
            let caller = caller.clone();
            tries.push(tokio::spawn(async move {
                // Without a lease it asks, and where auth does not answer, or not in time, it honestly cannot tell: that is no
                // refusal, and right for as long as it hears nothing.
                let verdict = attempt.verdict(&caller).await?;
                anyhow::Ok((verdict == Verdict::LetIn).then_some(attempt))
            }));
        }
        let all_asked = asked + 2 * attempts.len();
        wait::until("crm's answers, or its questions", BACKGROUND_MAX, || async {
            Ok(tries.iter().all(JoinHandle::is_finished) || self.asked().await? >= all_asked)
        })
        .await?;
        self.gate.set(Flow::Open);
        let mut let_in = Vec::new();
        for tried in tries {
            let_in.extend(tried.await??);
        }
        Ok(let_in)
    }

    async fn lease(&self) -> Result<Lease> {
        let row = self.control.query_one(LEASE, &[]).await?;
        Ok(Lease {
            lasts: row.get(0),
            is_confirmed: row.get(1),
            is_answered: row.get(2),
        })
    }

    /// Waits until crm lets somebody in without asking auth: what it lets in from now on it remembers.
    async fn until_under_lease(&self) -> Result<()> {
        let administrator = &self.house.administrator.caller;
        wait::until("crm's lease", BACKGROUND_MAX, || async {
            let asked = self.asked().await?;
            let is_let_in = Attempt::ListContacts.is_let_in(administrator).await?;
            Ok(is_let_in && self.asked().await? == asked)
        })
        .await
    }

    /// How many calls crm has asked auth about because it had no lease.
    async fn asked(&self) -> Result<usize> {
        let url = format!("{}/metrics", self.world.suite.url(Process::Crm, Listener::Admin));
        let (status, text) = http::request("GET", &url).await?;
        ensure!(status == 200, "{status} {text}");
        let is_it = |line: &&str| line.contains("rights_asked_total{") && line.contains("why=\"no_lease\"");
        // There is no such line before the first one.
        let Some(line) = text.lines().find(is_it) else {
            return Ok(0);
        };
        let (_, count) = line.rsplit_once(' ').context("a count")?;
        Ok(count.parse()?)
    }

    async fn log_in(&self, member: &Member) -> Result<Caller> {
        let member = self.world.log_in(&self.house.tenant.id, &member.email).await?;
        Ok(member.caller)
    }

    async fn set_role(&self, member: &Member, role: &str) -> Result<()> {
        let administrator = &self.house.administrator.caller;
        update(administrator, member, role, MemberState::Unspecified).await
    }

    /// The worker at a job of a member's.
    async fn job(&self, member: &Member) -> Result<Caller> {
        services::job(&self.world, &self.house.tenant.id, member).await
    }

    /// A session that its owner ends, a member who is demoted, and one who is while a job of theirs goes on. Answers how many.
    async fn in_three_ways(&self, trouble: Trouble) -> Result<usize> {
        let manager = &self.house.manager;
        let session = self.log_in(manager).await?;
        let log_out = async || Ok(session.auth().logout(LogoutRequest {}).await.map(drop)?);
        self.take(trouble, "logged out", (&session, Attempt::AT_CRM), log_out)
            .await?;

        let session = self.log_in(manager).await?;
        let demote = async || self.set_role(manager, "user").await;
        self.take(trouble, "demoted", (&session, &[Attempt::DeleteContact]), demote)
            .await?;
        self.set_role(manager, "manager").await?;

        let job = self.job(manager).await?;
        let demote = async || self.set_role(manager, "user").await;
        self.take(trouble, "demoted, with a job", (&job, Attempt::FOR_A_JOB), demote)
            .await?;
        self.set_role(manager, "manager").await?;
        Ok(3)
    }

    /// The control: a role that is changed behind the protocol's back, so that nobody is waited for.
    async fn a_change_behind_the_protocols_back_is_noticed(&self, trouble: Trouble) -> Result<()> {
        let user = &self.house.user;
        self.set_role(user, "manager").await?;
        let session = self.log_in(user).await?;
        self.change_behind(trouble, (&session, &[Attempt::DeleteContact]))
            .await?;
        self.set_role(user, "manager").await?;
        let job = self.job(user).await?;
        self.change_behind(trouble, (&job, Attempt::FOR_A_JOB)).await
    }

    async fn change_behind(&self, trouble: Trouble, caller: (&Caller, &[Attempt])) -> Result<()> {
        let change = async || demote_behind(&self.world).await;
        let (late, _) = self.let_in_after(trouble, caller, change).await?;
        ensure!(
            !late.is_empty(),
            "crm {trouble:?}, {:?}: known rights are honoured while its lease lasts",
            caller.1
        );
        Ok(())
    }

    /// The control: who answers UNAVAILABLE is not taken for one who refuses. Auth is away, crm's lease has run out, and nobody
    /// has taken the caller's rights.
    async fn who_cannot_tell_has_not_refused(&self) -> Result<()> {
        let (caller, attempts) = (&self.house.administrator.caller, &[Attempt::ListContacts]);
        let hammer = Hammer::start(caller, attempts).await?;
        self.world.suite.kill9(Process::Auth).await?;
        wait::until("a crm that cannot tell", BACKGROUND_MAX, || async {
            Ok(Attempt::ListContacts.verdict(caller).await? == Verdict::Unsaid(Code::Unavailable))
        })
        .await?;
        let finished = hammer.finish(caller, attempts, Instant::now(), Duration::ZERO).await;
        ensure!(
            finished.is_err(),
            "UNAVAILABLE was taken for a refusal, or for none: {finished:?}"
        );
        self.world.suite.restart(Process::Auth).await?;
        let is_let_in = Attempt::ListContacts.is_let_in_finally(caller, BACKGROUND_MAX).await?;
        ensure!(is_let_in, "asked again until crm can tell, the caller has every right");
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_let_in_after_a_revocation_that_a_holder_does_not_confirm() -> Result<()> {
    let mut torture = Torture::begin("T13", "revocations that crm does not confirm");
    while torture.round().is_some() {
        let arena = Arena::start().await?;
        for _ in 0..torture.size(1, ROUNDS) {
            for trouble in Trouble::ALL {
                torture.trials(arena.in_three_ways(trouble).await?);
            }
        }
        for trouble in Trouble::ALL {
            arena.a_change_behind_the_protocols_back_is_noticed(trouble).await?;
        }
        arena.who_cannot_tell_has_not_refused().await?;
        let waited_for = arena.waited_for.into_inner();
        torture.count("leases waited for", waited_for);
        ensure!(waited_for > 0, "crm had no lease that could be waited for");
    }
    Ok(())
}

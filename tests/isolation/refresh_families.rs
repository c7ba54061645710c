//! T12 on the running suite: sessions go on by their refresh tokens while auth is killed with SIGKILL. Whoever asks again with the
//! token whose answer was cut off stays logged in, by one live token; an old token ends the session all the same. The steps
//! of a family, one by one, are in `services/auth`.
//!
//! That a kill falls into a call is not left to luck: refreshes are held inside PostgreSQL, before they have changed anything or
//! while they commit, and let go when auth is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Context as _, Result, ensure};
use rowhouse_devkit::caller::Caller;
use rowhouse_devkit::cluster;
use rowhouse_devkit::journey::BACKGROUND_MAX;
use rowhouse_devkit::suite::Process;
use rowhouse_devkit::torture::Torture;
use rowhouse_proto::auth::v1::{RefreshRequest, TokenPair, WhoAmIRequest};
use rowhouse_types::SessionId;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tonic::Code;

use crate::support::cut::{CLOSE_GATE, Hold, gate, surely};
use crate::support::database;
use crate::support::world::{House, World};

/// Sessions at once.
const FAMILIES: usize = 4;
/// Tokens that each of them uses at least: an old one is one whose successor was used too.
const USED_MIN: usize = 3;
/// Kills of a round, in the short form and in the long one: as many at each [`Moment`].
const KILLS: [usize; 2] = [3, 12];

/// When auth is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    /// Whenever.
    Any,
    /// While refreshes wait for their session: nothing has changed.
    Before,
    /// While refreshes commit: it has happened, and nobody is told.
    Commit,
}

const MOMENTS: [Moment; 3] = [Moment::Any, Moment::Before, Moment::Commit];

/// What a client holds, and what it has used up.
struct Family {
    pair: TokenPair,
    used: Vec<String>,
}

async fn refresh(anyone: &Caller, token: &str) -> Result<TokenPair> {
    let request = RefreshRequest {
        refresh_token: token.to_owned(),
    };
    Ok(anyone.auth().refresh(request).await?.into_inner())
}

/// What the clients share with who kills.
#[derive(Clone)]
struct Work {
    stop: Arc<AtomicBool>,
    /// Tries without an answer: cut off, or while auth was away.
    cuts: Arc<AtomicUsize>,
    /// Tokens that were used.
    used: watch::Sender<usize>,
}

/// Goes on until it is told to stop, and until it has used some.
async fn go_on(anyone: Caller, pair: TokenPair, work: Work) -> Result<Family> {
    let mut family = Family { pair, used: Vec::new() };
    while !work.stop.load(Ordering::Relaxed) || family.used.len() < USED_MIN {
        let token = family.pair.refresh_token.clone();
        family.pair = surely("refresh", &work.cuts, || refresh(&anyone, &token)).await?;
        family.used.push(token);
        work.used.send_modify(|used| *used += 1);
    }
    Ok(family)
}

/// Kills auth while refreshes wait for what `lock` takes. Returns how many calls it died in: one at least.
async fn kill_at_work(world: &World, lock: &str) -> Result<usize> {
    let hold = Hold::begin(&world.suite.databases().control_superuser_url(), lock).await?;
    hold.wait_for(1).await?;
    hold.kill(&world.suite, Process::Auth).await
}

/// Kills auth; in how many calls, where that is known.
async fn kill(world: &World, moment: Moment, sessions: &[String]) -> Result<usize> {
    match moment {
        Moment::Any => {
            world.suite.kill9(Process::Auth).await?;
            Ok(0)
        }
        Moment::Before => {
            let lock = format!(
                "SELECT FROM auth.sessions WHERE id IN ({}) FOR UPDATE",
                sessions.join(", ")
            );
            kill_at_work(world, &lock).await
        }
        Moment::Commit => kill_at_work(world, CLOSE_GATE).await,
    }
}

/// How many tokens of a session were made, and never came to its client.
async fn lost(world: &World, family: &Family) -> Result<usize> {
    let session: SessionId = family.pair.session_id.parse()?;
    let control = cluster::connect(&world.suite.databases().control_superuser_url()).await?;
    let sql = "SELECT count(*) FROM auth.refresh_tokens WHERE session_id = $1";
    let made: i64 = control.query_one(sql, &[&session.uuid()]).await?.get(0);
    // Those that it has used, and the one that it holds.
    let received = family.used.len() + 1;
    let lost = usize::try_from(made)?.checked_sub(received);
    lost.with_context(|| format!("{session}: a client holds tokens that were not made"))
}

/// How many tokens of a session could be used.
async fn live(world: &World, session: &str) -> Result<i64> {
    let session: SessionId = session.parse()?;
    let control = cluster::connect(&world.suite.databases().control_superuser_url()).await?;
    let sql = format!(
        "SELECT count(*) FROM auth.refresh_tokens AS token JOIN auth.sessions AS session ON session.id = token.session_id
         WHERE session.id = '{}' AND token.used_at IS NULL AND token.revoked_at IS NULL AND session.revoked_at IS NULL",
        session.uuid()
    );
    Ok(control.query_one(&sql, &[]).await?.get(0))
}

/// Whether a refresh token is refused for what it is.
async fn is_refused(anyone: &Caller, token: &str) -> bool {
    let answer = refresh(anyone, token).await;
    let status = answer.err().and_then(|fault| fault.downcast::<tonic::Status>().ok());
    status.is_some_and(|status| status.code() == Code::Unauthenticated)
}

async fn check(world: &World, family: &Family) -> Result<()> {
    let anyone = &world.anyone;
    let session = &family.pair.session_id;
    ensure!(
        live(world, session).await? == 1,
        "{session}: a fork, or nothing is left"
    );
    let member = anyone.with_token(&family.pair.access_token)?;
    member.auth().who_am_i(WhoAmIRequest {}).await?;
    // The control: a token that somebody else has found ends the family, the live one included.
    ensure!(
        is_refused(anyone, &family.used[0]).await,
        "{session}: an old token brought something"
    );
    ensure!(live(world, session).await? == 0, "{session}: lives on after a theft");
    ensure!(
        is_refused(anyone, &family.pair.refresh_token).await,
        "{session}: the live token outlives a theft"
    );
    Ok(())
}

async fn log_in(world: &World, house: &House) -> Result<Vec<TokenPair>> {
    let mut pairs = Vec::new();
    for _ in 0..FAMILIES {
        let member = world.log_in(&house.tenant.id, &house.manager.email).await?;
        pairs.push(member.tokens);
    }
    Ok(pairs)
}

async fn round(torture: &mut Torture) -> Result<()> {
    let world = World::start("t12").await?;
    let house = world.house("acme").await?;
    let work = Work {
        stop: Arc::default(),
        cuts: Arc::default(),
        used: watch::Sender::default(),
    };
    let mut used = work.used.subscribe();
    let (mut clients, mut sessions) = (JoinSet::new(), Vec::new());
    let gate = gate("auth", "refresh_tokens", "INSERT");
    database::execute(world.suite.databases(), &gate).await?;
    for pair in log_in(&world, &house).await? {
        let session: SessionId = pair.session_id.parse()?;
        sessions.push(format!("'{}'", session.uuid()));
        clients.spawn(go_on(world.anyone.clone(), pair, work.clone()));
    }
    let (mut cut_before, mut cut_after) = (0, 0);
    let [short, long] = KILLS;
    for moment in MOMENTS.into_iter().cycle().take(torture.size(short, long)) {
        // While all of them are at it.
        let before = *used.borrow_and_update();
        timeout(BACKGROUND_MAX, used.wait_for(|used| *used > before + FAMILIES)).await??;
        let cut = kill(&world, moment, &sessions).await?;
        match moment {
            Moment::Any => {}
            Moment::Before => cut_before += cut,
            Moment::Commit => cut_after += cut,
        }
        world.suite.restart(Process::Auth).await?;
        torture.count("kills", 1);
    }
    work.stop.store(true, Ordering::Relaxed);
    let mut answers_lost = 0;
    while let Some(family) = clients.join_next().await {
        let family = family??;
        answers_lost += lost(&world, &family).await?;
        check(&world, &family).await?;
        torture.trials(family.used.len());
        torture.count("families", 1);
    }
    torture.count("tries without an answer", work.cuts.load(Ordering::Relaxed));
    torture.count("calls cut off before their commit", cut_before);
    torture.count("calls cut off in their commit", cut_after);
    torture.count("answers lost", answers_lost);
    ensure!(
        answers_lost >= cut_after,
        "{cut_after} refreshes were cut off in their commit, and only {answers_lost} answers are missing"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_go_on_while_auth_is_killed() -> Result<()> {
    let mut torture = Torture::begin("T12", "families while auth is killed");
    while torture.round().is_some() {
        round(&mut torture).await?;
    }
    Ok(())
}

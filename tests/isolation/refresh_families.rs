//! T12 on the running suite: sessions go on by their refresh tokens while auth is killed with SIGKILL. Whoever asks again with the
//! token whose answer was cut off stays logged in, by one live token; an old token ends the session all the same. The steps
//! of a family, one by one, are in `services/auth`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Result, ensure};
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

use crate::support::cut::surely;
use crate::support::world::{House, World};

/// Sessions at once.
const FAMILIES: usize = 4;
/// Tokens that each of them uses at least: an old one is one whose successor was used too.
const USED_MIN: usize = 3;
/// Kills of a round, in the short form and in the long one.
const KILLS: [usize; 2] = [3, 12];

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
    /// Answers that a kill cut off.
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
    let mut clients = JoinSet::new();
    for pair in log_in(&world, &house).await? {
        clients.spawn(go_on(world.anyone.clone(), pair, work.clone()));
    }
    let [short, long] = KILLS;
    for _ in 0..torture.size(short, long) {
        // While all of them are at it.
        let before = *used.borrow_and_update();
        timeout(BACKGROUND_MAX, used.wait_for(|used| *used > before + FAMILIES)).await??;
        world.suite.kill9(Process::Auth).await?;
        world.suite.restart(Process::Auth).await?;
        torture.count("kills", 1);
    }
    work.stop.store(true, Ordering::Relaxed);
    while let Some(family) = clients.join_next().await {
        let family = family??;
        check(&world, &family).await?;
        torture.trials(family.used.len());
        torture.count("families", 1);
    }
    let cuts = work.cuts.load(Ordering::Relaxed);
    torture.count("calls cut off", cuts);
    ensure!(cuts > 0, "no call was cut off: nobody was killed at work");
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

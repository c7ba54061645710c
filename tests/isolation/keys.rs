//! T11 in short form: keys of access tokens are replaced twenty times and revoked twenty times under load, with and without
//! Redis. Nobody who may act is refused, and nothing that a revoked key signed is let in after the acknowledgement.

mod clocks;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use rowhouse_devkit::caller::Caller;
use rowhouse_devkit::suite::{Options, Process};
use rowhouse_devkit::torture::Torture;
use rowhouse_proto::auth::v1::{
    ListSigningKeysRequest, RefreshRequest, RevokeSigningKeyRequest, RotateSigningKeyRequest, SigningKeyState,
    WhoAmIRequest,
};
use rowhouse_proto::crm::v1::ListContactsRequest;
use rowhouse_proto::worker::v1::GetReportRequest;
use rowhouse_types::ReportId;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::{Code, Status};

use crate::support::database::execute;
use crate::support::world::{House, World};

/// Rotations, and revocations.
const ROUNDS: usize = 20;

/// What a caller keeps doing, on every service that members reach.
#[derive(Clone, Copy, Debug)]
enum Attempt {
    ListContacts,
    GetReport,
    WhoAmI,
}

const ALL: [Attempt; 3] = [Attempt::ListContacts, Attempt::GetReport, Attempt::WhoAmI];

impl Attempt {
    async fn run(self, caller: &Caller) -> Result<(), Status> {
        match self {
            Self::ListContacts => {
                let request = ListContactsRequest::default();
                caller.contacts().list_contacts(request).await.map(drop)
            }
            Self::GetReport => {
                let id = ReportId::generate().to_string();
                match caller.reports().get_report(GetReportRequest { id }).await {
                    // Let in: the id is random.
                    Err(status) if status.code() == Code::NotFound => Ok(()),
                    other => other.map(drop),
                }
            }
            Self::WhoAmI => caller.auth().who_am_i(WhoAmIRequest {}).await.map(drop),
        }
    }
}

/// A suite in which a new key signs at once: the services must ask for it. `environment`: in what else it differs.
async fn start(name: &str, mut environment: Vec<(Option<Process>, String, String)>) -> Result<(World, House)> {
    environment.push((Some(Process::Auth), "ROWHOUSE_KEY_PUBLISH_S".to_owned(), "0".to_owned()));
    let options = Options {
        environment,
        ..Options::default()
    };
    let world = World::start_with(name, options).await?;
    let house = world.house("acme").await?;
    Ok((world, house))
}

/// The key that signs now.
async fn active(operator: &Caller) -> Result<String> {
    let keys = operator.keys().list_signing_keys(ListSigningKeysRequest {}).await?;
    let mut keys = keys.into_inner().keys.into_iter();
    let active = keys.find(|key| key.state() == SigningKeyState::Active);
    Ok(active.context("no key signs")?.id)
}

/// Members who call all services all the time with the token that they were given last; each refusal is kept.
struct Load {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<(usize, Vec<String>)>,
}

impl Load {
    fn start(callers: &watch::Receiver<Caller>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for attempt in ALL {
            let (callers, stop) = (callers.clone(), stop.clone());
            tasks.spawn(async move {
                let (mut calls, mut refusals) = (0, Vec::new());
                while !stop.load(Ordering::Relaxed) {
                    let caller = callers.borrow().clone();
                    if let Err(status) = attempt.run(&caller).await {
                        refusals.push(format!("{attempt:?}: {status:?}"));
                    }
                    calls += 1;
                }
                (calls, refusals)
            });
        }
        Self { stop, tasks }
    }

    /// How many calls there were, and the refusals.
    async fn finish(mut self) -> Result<(usize, Vec<String>)> {
        self.stop.store(true, Ordering::Relaxed);
        let (mut calls, mut refusals) = (0, Vec::new());
        while let Some(done) = self.tasks.join_next().await {
            let (some, refused) = done?;
            calls += some;
            refusals.extend(refused);
        }
        Ok((calls, refusals))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_refused_while_keys_are_replaced() -> Result<()> {
    let mut torture = Torture::begin("T11", "rotations");
    while torture.round().is_some() {
        let (world, house) = start("t11-rotate", Vec::new()).await?;
        replace_again_and_again(&mut torture, &world, &house).await?;
    }
    Ok(())
}

async fn replace_again_and_again(torture: &mut Torture, world: &World, house: &House) -> Result<()> {
    let mut tokens = house.manager.tokens.clone();
    let (callers, seen) = watch::channel(house.manager.caller.clone());
    let load = Load::start(&seen);
    let mut before = active(&world.operator).await?;
    for round in 0..ROUNDS {
        let next = world
            .operator
            .keys()
            .rotate_signing_key(RotateSigningKeyRequest {})
            .await?;
        ensure!(next.get_ref().id != before, "round {round}: the same key");
        before = next.into_inner().id;
        ensure!(
            active(&world.operator).await? == before,
            "round {round}: it does not sign"
        );
        // Signed by the new key, which no service knows yet.
        let refresh_token = tokens.refresh_token.clone();
        tokens = world
            .anyone
            .auth()
            .refresh(RefreshRequest { refresh_token })
            .await?
            .into_inner();
        callers.send_replace(world.anyone.with_token(&tokens.access_token)?);
        for attempt in ALL {
            let caller = callers.borrow().clone();
            let answer = attempt.run(&caller).await;
            ensure!(
                answer.is_ok(),
                "round {round}: {attempt:?} by a token of the new key: {answer:?}"
            );
            let answer = attempt.run(&house.manager.caller).await;
            ensure!(
                answer.is_ok(),
                "round {round}: {attempt:?} by a token of the first key: {answer:?}"
            );
        }
    }
    let (calls, refusals) = load.finish().await?;
    ensure!(calls > ROUNDS, "there was load");
    torture.trials(calls);
    torture.count("rotations", ROUNDS);
    ensure!(refusals.is_empty(), "{} of {calls}: {refusals:#?}", refusals.len());
    Ok(())
}

/// Revokes the key of a token that is used all the time; answers what was let in although it began after the
/// acknowledgement.
async fn revoke(world: &World, caller: &Caller) -> Result<Vec<Attempt>> {
    for attempt in ALL {
        let answer = attempt.run(caller).await;
        ensure!(answer.is_ok(), "before the revocation: {attempt:?}: {answer:?}");
    }
    let stop = Arc::new(AtomicBool::new(false));
    let mut tasks = JoinSet::new();
    for attempt in ALL {
        let (caller, stop) = (caller.clone(), stop.clone());
        tasks.spawn(async move {
            let mut begun = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let began = Instant::now();
                if attempt.run(&caller).await.is_ok() {
                    begun.push((attempt, began));
                }
            }
            begun
        });
    }
    let operator = world.anyone.with_token(&world.operator_tokens().await?.access_token)?;
    let id = active(&operator).await?;
    let reason = "T11".to_owned();
    operator
        .keys()
        .revoke_signing_key(RevokeSigningKeyRequest { id, reason })
        .await?;
    let acknowledged = Instant::now();
    let mut late = Vec::new();
    for attempt in ALL {
        match attempt.run(caller).await {
            Ok(()) => late.push(attempt),
            // Not that the session has ended: it goes on with another token.
            Err(status) => ensure!(
                status.message() == "the access token does not hold",
                "{attempt:?}: {status:?}"
            ),
        }
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(begun) = tasks.join_next().await {
        let after = begun?.into_iter().filter(|(_, began)| *began > acknowledged);
        late.extend(after.map(|(attempt, _)| attempt));
    }
    Ok(late)
}

async fn revoke_again_and_again(torture: &mut Torture, world: &World, house: &House) -> Result<()> {
    for round in 0..ROUNDS {
        torture.trials(1);
        let session = world.log_in(&house.tenant.id, &house.manager.email).await?;
        let late = revoke(world, &session.caller).await?;
        ensure!(late.is_empty(), "round {round}: let in after the revocation: {late:?}");
        // The session goes on with its refresh token.
        let refresh_token = session.tokens.refresh_token;
        let tokens = world
            .anyone
            .auth()
            .refresh(RefreshRequest { refresh_token })
            .await?
            .into_inner();
        let caller = world.anyone.with_token(&tokens.access_token)?;
        for attempt in ALL {
            let answer = attempt.run(&caller).await;
            ensure!(
                answer.is_ok(),
                "round {round}: {attempt:?} by a token of the next key: {answer:?}"
            );
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_a_revoked_key_signed_is_let_in() -> Result<()> {
    let mut torture = Torture::begin("T11", "revocations");
    while torture.round().is_some() {
        let (world, house) = start("t11-revoke", Vec::new()).await?;
        revoke_again_and_again(&mut torture, &world, &house).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_a_revoked_key_signed_is_let_in_while_redis_is_away() -> Result<()> {
    let mut torture = Torture::begin("T11", "revocations without Redis");
    // Port 1 refuses: nothing listens there.
    let environment = vec![(None, "ROWHOUSE_REDIS_URL".to_owned(), "redis://127.0.0.1:1/".to_owned())];
    while torture.round().is_some() {
        let (world, house) = start("t11-no-redis", environment.clone()).await?;
        revoke_again_and_again(&mut torture, &world, &house).await?;
    }
    Ok(())
}

/// The control: a key that is revoked behind the protocol's back is honoured until somebody reads the keys again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_behind_the_protocols_back_is_noticed() -> Result<()> {
    let (world, house) = start("t11-control", Vec::new()).await?;
    let caller = &house.manager.caller;
    for attempt in ALL {
        attempt.run(caller).await?;
    }
    execute(
        world.suite.databases(),
        "UPDATE auth.signing_keys SET state = 'revoked', retires_at = now()",
    )
    .await?;
    let late = Attempt::ListContacts.run(caller).await;
    assert!(
        late.is_ok(),
        "cached rights are honoured while nobody is told: {late:?}"
    );
    Ok(())
}

//! T10 on the running suite: the hostile tokens of the table, of a member who may call, at every service that knows users by
//! tokens, on both listeners. The verifier alone is tested in `libs/auth`; here it is whether each RPC asks it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rowhouse_auth_kit::testing::{Forge, Hostile};
use rowhouse_context::ServiceName;
use rowhouse_devkit::suite::{Listener, Process};
use rowhouse_devkit::torture::{Dice, Torture};
use rowhouse_proto::policy::{Audience, POLICIES, Policy};
use tokio::task::JoinSet;
use tonic::metadata::{AsciiMetadataValue, MetadataMap};
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::support::database::execute;
use crate::support::raw;
use crate::support::services;
use crate::support::world::{House, World};

/// As services expect it unless they are told otherwise.
const ISSUER: &str = "rowhouse";
/// The id of the forge's key.
const KEY: &str = "forged";
/// Longer than what metadata may be; such a token is refused before anybody looks into it.
const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// Each RPC meets every so many-th of the tokens in the short form, and all of them in the long one.
const SHARE: [usize; 2] = [4, 1];
/// Longest lifetime of the forge's key.
const KEY_LIFETIME: Duration = Duration::from_secs(3_600);

/// An RPC that knows its caller by an access token.
#[derive(Clone)]
struct Rpc {
    path: &'static str,
    process: Process,
    channel: Channel,
    /// On internal listeners the service shows who it is, too.
    service: Option<String>,
}

impl Rpc {
    fn of(world: &World, policy: &'static Policy) -> Result<Option<Self>> {
        let (listener, service) = match policy.audience {
            Audience::Public => return Ok(None),
            Audience::Internal if policy.permission.is_none() => return Ok(None),
            Audience::Internal => {
                let target = match raw::process(policy.path) {
                    Process::Tenant => ServiceName::Tenant,
                    Process::Auth => ServiceName::Auth,
                    Process::Worker => ServiceName::Worker,
                    _ => ServiceName::Crm,
                };
                let token = services::token(&world.suite, policy.callers[0].parse()?, target)?;
                (Listener::Internal, Some(token))
            }
            Audience::Tenant | Audience::OneSelf | Audience::Platform => (Listener::Public, None),
        };
        Ok(Some(Self {
            path: policy.path,
            process: raw::process(policy.path),
            channel: raw::channel(&world.suite, policy.path, listener),
            service,
        }))
    }

    /// Calls it with an empty message; `None` for a token that cannot stand in metadata.
    async fn call(&self, token: &str) -> Option<Result<(), Status>> {
        let mut metadata = MetadataMap::new();
        metadata.insert(
            "authorization",
            AsciiMetadataValue::try_from(format!("Bearer {token}")).ok()?,
        );
        if let Some(service) = &self.service {
            metadata.insert("x-service-authorization", service.parse().ok()?);
        }
        Some(raw::call(&self.channel, self.path, metadata, &[]).await.map(drop))
    }
}

/// Whether the caller was not known. Whoever is known is answered otherwise, be it that they may not.
fn is_refused(token: &str, answer: &Result<(), Status>) -> bool {
    match answer {
        Ok(()) => false,
        Err(status) => status.code() == Code::Unauthenticated || token.len() > TOKEN_BYTES_MAX,
    }
}

/// A forge whose key all services take for one of auth's, with tokens of the house's administrator.
async fn forge(world: &World, house: &House, dice: &mut Dice) -> Result<Forge> {
    let seed: Vec<u8> = (0..32)
        .map(|_| u8::try_from(dice.below(256)).unwrap_or_default())
        .collect();
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let tokens = &house.administrator.tokens;
    let forge = Forge::new(ISSUER, KEY, &seed, now_s)?;
    let forge = forge.of_member(
        tokens.user_id.parse()?,
        tokens.session_id.parse()?,
        house.tenant.id.parse()?,
    );
    let public = STANDARD.encode(forge.key().public().bytes());
    let (kid, seconds) = (KEY, KEY_LIFETIME.as_secs());
    execute(
        world.suite.databases(),
        &format!(
            "INSERT INTO auth.signing_keys (kid, public_key, sealed_private_key, state, retires_at) \
            VALUES ('{kid}', decode('{public}', 'base64'), '', 'published', now() + make_interval(secs => {seconds}))"
        ),
    )
    .await?;
    Ok(forge)
}

/// One token at several RPCs at once; those that let it in, and how many were called.
async fn at(rpcs: Vec<Rpc>, hostile: Arc<Hostile>) -> Result<(usize, Vec<String>)> {
    let mut calls = JoinSet::new();
    for rpc in rpcs {
        let hostile = hostile.clone();
        calls.spawn(async move {
            let answer = rpc.call(&hostile.token).await?;
            let fault = !is_refused(&hostile.token, &answer);
            Some(fault.then(|| format!("{}: {} was let in: {answer:?}", rpc.path, hostile.name)))
        });
    }
    let (mut called, mut faults) = (0, Vec::new());
    while let Some(call) = calls.join_next().await {
        let Some(fault) = call? else { continue };
        called += 1;
        faults.extend(fault);
    }
    Ok((called, faults))
}

async fn round(torture: &mut Torture, mut dice: Dice) -> Result<()> {
    let world = World::start("t10").await?;
    let house = world.house("acme").await?;
    let forge = forge(&world, &house, &mut dice).await?;
    let rpcs: Vec<Option<Rpc>> = POLICIES
        .iter()
        .map(|policy| Rpc::of(&world, policy))
        .collect::<Result<_>>()?;
    let rpcs: Vec<Rpc> = rpcs.into_iter().flatten().collect();
    // The control: a good token of the same key is known everywhere.
    let good = forge.sign(&forge.member())?;
    for rpc in &rpcs {
        // It would end the session that the tokens are of.
        if rpc.path.ends_with("/Logout") {
            continue;
        }
        let answer = rpc.call(&good).await.context("a good token stands in metadata")?;
        ensure!(!is_refused(&good, &answer), "{}: a good token: {answer:?}", rpc.path);
    }
    let [short, long] = SHARE;
    let share = torture.size(short, long);
    let mut met = BTreeSet::new();
    let mut faults = Vec::new();
    for (number, hostile) in forge.hostile()?.into_iter().enumerate() {
        let hostile = Arc::new(hostile);
        let mut chosen = Vec::new();
        for process in [Process::Tenant, Process::Auth, Process::Crm, Process::Worker] {
            let of_process = || rpcs.iter().filter(|rpc| rpc.process == process);
            // Who has few RPCs meets each token at one of them all the same.
            let share = share.min(of_process().count());
            let before = chosen.len();
            chosen.extend(
                of_process()
                    .enumerate()
                    .filter(|(at, _)| (at + number) % share == 0)
                    .map(|(_, rpc)| rpc.clone()),
            );
            ensure!(chosen.len() > before, "{process:?} does not meet {}", hostile.name);
        }
        met.extend(chosen.iter().map(|rpc| rpc.path));
        let (called, late) = at(chosen, hostile).await?;
        torture.trials(called);
        faults.extend(late);
    }
    ensure!(
        met.len() == rpcs.len(),
        "{} of {} RPCs were called",
        met.len(),
        rpcs.len()
    );
    ensure!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
    // Nothing that they tried has ended the member's session.
    let answer = rpcs[0].call(&house.administrator.tokens.access_token).await;
    ensure!(
        answer.is_some_and(|answer| !is_refused("", &answer)),
        "the member is not known any more"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_service_lets_a_hostile_token_in() -> Result<()> {
    let mut torture = Torture::begin("T10", "hostile tokens at every service");
    while let Some(dice) = torture.round() {
        round(&mut torture, dice).await?;
    }
    Ok(())
}

//! What the stack costs without a network, as a whole and in parts. The whole is the difference between the router with the
//! stack and the router alone, called with the same request. The parts are the calls that its layers make, each alone and
//! with caches warm, so that together they are less than the whole: what is left is the layers themselves, that is their
//! futures, the bodies that they wrap, and the deadline's timer.

use std::convert::Infallible;
use std::hint::black_box;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail, ensure};
use axum::body::Body;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use prost::Message as _;
use rowhouse_auth_kit::token::ACCESS_TOKEN_TYPE;
use rowhouse_auth_kit::{AccessClaims, AccessTokenVerifier, SigningKey};
use rowhouse_client::{RightsQuery, reach};
use rowhouse_config::section::Telemetry;
use rowhouse_context::{Ctx, Principal, RequestId};
use rowhouse_devkit::resident::Resident;
use rowhouse_devkit::wait;
use rowhouse_middleware::{Limits, stack};
use rowhouse_proto::crm::v1::GetContactRequest;
use rowhouse_proto::crm::v1::contact_service_server::ContactServiceServer;
use rowhouse_proto::policy;
use rowhouse_types::{ContactId, SessionId, TenantId, UserId};
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;
use tonic::transport::server::TcpConnectInfo;
use tower::{Service, ServiceExt as _};

use crate::bench::echo::{Constant, Wiring};

const PATH: &str = "/rowhouse.crm.v1.ContactService/GetContact";
const PERMISSION: &str = "contacts:read";
const ISSUER: &str = "bench";
/// Longer than it takes to get a lease.
const READY_BOUND: Duration = Duration::from_secs(30);
/// Of each part.
const TIMES: usize = 20_000;
/// Tokens that are each verified once. The verifier remembers more.
const NEW_TOKENS: usize = 2_000;

/// What one part costs.
#[derive(Debug, Serialize)]
pub(super) struct Part {
    pub(super) name: &'static str,
    pub(super) microseconds: f64,
}

/// Measures, wired to the running suite as another replica of crm. `token`: a member's.
pub(super) async fn measure(resident: &Resident, token: &str) -> Result<Vec<Part>> {
    // As a service's: what records nothing costs nothing. Of the log only what belongs to the stack is made.
    let telemetry = Telemetry {
        filter: "warn,rowhouse_middleware=info".to_owned(),
        json: true,
        otlp_endpoint: None,
    };
    let metrics = rowhouse_telemetry::metrics::install()?;
    let guard = rowhouse_telemetry::init("rowhouse-bench", &telemetry)?;
    let wiring = Wiring::of(resident)?;
    let stop = CancellationToken::new();
    let beside = tokio::spawn(wiring.clone().run(stop.clone()));
    let folding = tokio::spawn({
        let stop = stop.clone();
        async move { metrics.run(stop.cancelled()).await }
    });
    wait::until("a lease", READY_BOUND, || async { Ok(wiring.is_ready()) }).await?;
    // On a worker's thread, where calls are handled: a task that another spawns there wakes no thread.
    let parts = tokio::spawn(all(wiring, token.to_owned())).await;
    stop.cancel();
    beside.await?;
    folding.await?;
    guard.shutdown().await;
    parts?
}

async fn all(wiring: Wiring, token: String) -> Result<Vec<Part>> {
    let bare = Routes::new(ContactServiceServer::new(Constant)).prepare();
    let limits = Limits {
        concurrency_max: 1_024,
        deadline_max: Duration::from_secs(60),
        trusted_hops: 0,
    };
    let stacked = stack::public(bare.clone(), wiring.security.clone(), limits, TaskTracker::new());
    let without = calls(&bare.into_axum_router(), &token).await?;
    let with = calls(&stacked, &token).await?;
    let mut parts = vec![
        part("a call of the routes alone", without),
        part("a call through the stack", with),
        part("the stack", with - without),
    ];
    parts.push(part(
        "a token verified for the first time, once for each token",
        first_time()?,
    ));
    let of_each_call = of_the_stack(&wiring, &token).await?;
    let known: f64 = of_each_call.iter().map(|part| part.microseconds).sum();
    parts.extend(of_each_call);
    parts.push(part(
        "the rest: futures, bodies, metadata, metrics, timer",
        with - without - known,
    ));
    Ok(parts)
}

/// Whole calls, from the request's headers to the answer's trailers.
async fn calls<S>(server: &S, token: &str) -> Result<f64>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone,
{
    let message = GetContactRequest {
        id: ContactId::generate().to_string(),
    };
    let mut body = Vec::new();
    // Not compressed; then the length (gRPC over HTTP/2, Length-Prefixed-Message).
    body.push(0);
    body.extend(u32::try_from(message.encoded_len())?.to_be_bytes());
    message.encode(&mut body)?;
    for _ in 0..TIMES / 10 {
        call(server, token, &body).await?;
    }
    let begun = Instant::now();
    for _ in 0..TIMES {
        call(server, token, &body).await?;
    }
    Ok(microseconds(begun, TIMES))
}

async fn call<S>(server: &S, token: &str, body: &[u8]) -> Result<()>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone,
{
    let mut request = Request::post(PATH)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "tonic")
        .header("authorization", format!("Bearer {token}"))
        .body(Body::from(body.to_vec()))?;
    // As the listener does.
    request.extensions_mut().insert(TcpConnectInfo {
        local_addr: None,
        remote_addr: Some(([127, 0, 0, 1], 1).into()),
    });
    let answer = server.clone().oneshot(request).await?;
    let answer = answer.into_body().collect().await?;
    let status = answer.trailers().and_then(|trailers| trailers.get("grpc-status"));
    ensure!(
        status.is_some_and(|status| status == "0"),
        "the call was refused: {status:?}"
    );
    Ok(())
}

/// What every call of a member makes who has called before.
async fn of_the_stack(wiring: &Wiring, token: &str) -> Result<Vec<Part>> {
    let verified = wiring.security.tokens.verify(token)?;
    let Principal::Member { user, session, tenant } = verified.principal else {
        bail!("the token is no member's");
    };
    let query = RightsQuery {
        user,
        session: Some(session),
        tenant: Some(tenant),
        platform: false,
        key: Some(verified.key),
        by: None,
    };
    let deadline = tokio::time::Instant::now() + Duration::from_secs(600);
    let ctx = Ctx::new(
        RequestId::generate(),
        verified.principal.clone(),
        Some(tenant),
        deadline,
    );
    let source = &wiring.security.rights;
    let rights = source.rights(&ctx, &query).await?;
    let permission = policy::permission(PERMISSION).context("a permission")?;

    let mut parts = vec![each("a token verified again", || {
        wiring.security.tokens.verify(token).map(drop).map_err(Into::into)
    })?];
    let begun = Instant::now();
    for _ in 0..TIMES {
        black_box(source.rights(&ctx, &query).await?);
    }
    parts.push(part("rights from memory, under the lease", microseconds(begun, TIMES)));
    parts.push(each("whether they give the permission, and whose records", || {
        reach(&rights.grants, user, &rights.team, permission)
            .map(|reach| drop(black_box(reach)))
            .context("the permission is missing")
    })?);
    let begun = Instant::now();
    for _ in 0..TIMES {
        let admitted = wiring.quotas.admit(tenant).await;
        ensure!(admitted.is_ok(), "the tenant's plan bounds its calls: {admitted:?}");
    }
    parts.push(part("a permit of the tenant's quota", microseconds(begun, TIMES)));
    parts.push(each("the RPC's policy", || {
        policy::find(black_box(PATH)).map(drop).context("no policy")
    })?);
    parts.push(each("a request id", || {
        black_box(RequestId::generate());
        Ok(())
    })?);
    // Its target is the stack's, so that the same filters let it through.
    parts.push(each("a span, entered and left once", || {
        let span = tracing::info_span!(target: "rowhouse_middleware::layer::span", "rpc", otel.kind = "server",
            rpc = PATH, request_id = "");
        rowhouse_telemetry::trace::set_attribute(&span, "code", "OK");
        span.in_scope(|| black_box(()));
        Ok(())
    })?);
    Ok(parts)
}

/// What each of many tokens costs that were not seen before.
fn first_time() -> Result<f64> {
    let key = SigningKey::from_seed(&[1; 32])?;
    let verifier = AccessTokenVerifier::new(ISSUER);
    verifier.set_keys([(ISSUER.to_owned(), key.public())]);
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let sign = |_| {
        let (user, session, tenant) = (UserId::generate(), SessionId::generate(), TenantId::generate());
        let claims = AccessClaims::for_session(ISSUER, user, session, Some(tenant), now_s, 300);
        key.sign(ACCESS_TOKEN_TYPE, ISSUER, &claims)
    };
    let tokens = (0..NEW_TOKENS).map(sign).collect::<Result<Vec<String>, _>>()?;
    let begun = Instant::now();
    for token in &tokens {
        black_box(verifier.verify(token)?);
    }
    Ok(microseconds(begun, NEW_TOKENS))
}

fn each(name: &'static str, mut work: impl FnMut() -> Result<()>) -> Result<Part> {
    let begun = Instant::now();
    for _ in 0..TIMES {
        work()?;
    }
    Ok(part(name, microseconds(begun, TIMES)))
}

fn part(name: &'static str, microseconds: f64) -> Part {
    Part { name, microseconds }
}

/// The time of each, in microseconds.
fn microseconds(begun: Instant, times: usize) -> f64 {
    begun.elapsed().as_secs_f64() * 1e6 / times as f64
}

//! Servers that answer constants: what a call costs where nothing is asked and nothing decided, and with all that a service of
//! ours puts before its handlers. Each is a process of its own, as services are.

mod constant;
mod wiring;

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use rowhouse_config::Env;
use rowhouse_config::section::{Listen, Telemetry};
use rowhouse_devkit::caller::{Caller, Endpoints};
use rowhouse_devkit::checkout::Checkout;
use rowhouse_devkit::port::{self, Reservation};
use rowhouse_devkit::resident::Resident;
use rowhouse_devkit::settings::Process;
use rowhouse_devkit::{http, wait};
use rowhouse_proto::auth::v1::authz_service_server::AuthzServiceServer;
use rowhouse_proto::crm::v1::contact_service_server::ContactServiceServer;
use rowhouse_server::{Server, Services};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use super::{CONNECTIONS, output};
pub(super) use constant::Constant;
pub(super) use wiring::Wiring;

/// Longer than either takes to serve; with the stack it has a lease by then.
const READY_BOUND: Duration = Duration::from_secs(30);
/// More calls at once than the callers' connections carry: where the machine stalls for a moment, what queues up is to be
/// answered late, as the bare server does, and not refused.
const CONCURRENCY_MAX: usize = 4_096;

/// What stands before the handlers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Kind {
    /// Nothing: tonic's own server.
    Bare,
    /// What every service of ours has: listener, stack, telemetry, keys, rights under a lease of the running suite's auth.
    Stack,
}

/// Arguments of the process that serves.
#[derive(Args, Debug)]
pub(super) struct Serve {
    kind: Kind,
    /// Where it listens
    #[arg(long)]
    listen: SocketAddr,
    /// Where it says that it is ready, with the stack
    #[arg(long)]
    admin: SocketAddr,
}

/// A process that serves, until this value goes.
pub(super) struct Echo {
    /// Its input ends with us, however we end, and it with its input.
    _child: Child,
    url: String,
    _ports: [Reservation; 2],
}

// === impl Kind ===

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Stack => "stack",
        }
    }
}

// === impl Echo ===

impl Echo {
    /// Starts the process and waits until it serves.
    pub(super) async fn start(checkout: &Checkout, kind: Kind) -> Result<Self> {
        let ports = [port::reserve()?, port::reserve()?];
        let [listen, admin] = ports
            .each_ref()
            .map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port.port())));
        let log = output::folder(checkout)?.join(format!("echo-{}.log", kind.name()));
        let child = Command::new(std::env::current_exe()?)
            .args(["bench", "echo", kind.name()])
            .args(["--listen", &listen.to_string(), "--admin", &admin.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            .kill_on_drop(true)
            .spawn()?;
        let serves = async || match kind {
            Kind::Bare => Ok(tokio::net::TcpStream::connect(listen).await.map(|_| true)?),
            Kind::Stack => Ok(http::request("GET", &format!("http://{admin}/readyz")).await?.0 == 200),
        };
        wait::until("the echo", READY_BOUND, serves)
            .await
            .with_context(|| format!("{} may say why", log.display()))?;
        Ok(Self {
            _child: child,
            url: format!("http://{listen}"),
            _ports: ports,
        })
    }

    /// The same caller over several connections. All services have the echo's address: it serves what benches call.
    pub(super) fn callers(&self, token: &str) -> Result<Vec<Caller>> {
        let caller = |_| {
            let endpoints = Endpoints::new(&self.url, &self.url, &self.url, &self.url)?;
            Caller::anonymous(endpoints).with_token(token)
        };
        (0..CONNECTIONS).map(caller).collect()
    }
}

/// Serves until nobody holds the other end of our input.
pub(super) async fn serve(serve: Serve) -> Result<()> {
    match serve.kind {
        Kind::Bare => bare(&serve).await,
        Kind::Stack => stack(&serve).await,
    }
}

async fn bare(serve: &Serve) -> Result<()> {
    tonic::transport::Server::builder()
        .add_service(ContactServiceServer::new(Constant))
        .add_service(AuthzServiceServer::new(Constant))
        .serve_with_shutdown(serve.listen, async {
            // Whatever became of the input: nobody needs us any more.
            let _ended = abandoned().await;
        })
        .await?;
    Ok(())
}

/// As crm's `App` does it, with crm's identity and configuration, and without crm's data.
async fn stack(serve: &Serve) -> Result<()> {
    let resident = Resident::open(Checkout::find()?)?;
    let mut env = Env::from_pairs(resident.settings().serve(Process::Crm));
    let listen = Listen {
        public: serve.listen,
        admin: serve.admin,
        concurrency_max: CONCURRENCY_MAX,
        ..Listen::read(&mut env)
    };
    let telemetry = Telemetry::read(&mut env);
    env.finish(())?;
    let metrics = rowhouse_telemetry::metrics::install()?;
    let guard = rowhouse_telemetry::init("rowhouse-bench", &telemetry)?;
    let wiring = Wiring::of(&resident)?;
    let ready = wiring.clone();
    let server = Server::new(wiring.security.service, &listen, wiring.security.clone())
        .public(Services::new().with(ContactServiceServer::new(Constant)))
        .metrics(metrics)
        .ready("rights", move || {
            let is_ready = ready.is_ready();
            async move { is_ready.then_some(()).ok_or_else(|| "no lease, or no keys".to_owned()) }
        });
    let stop = CancellationToken::new();
    let beside = tokio::spawn(wiring.run(stop.clone()));
    let served = tokio::select! {
        served = server.run(stop.clone()) => served.map_err(Into::into),
        ended = abandoned() => ended,
    };
    stop.cancel();
    beside.await?;
    guard.shutdown().await;
    served
}

/// Returns when our input has ended.
async fn abandoned() -> Result<()> {
    let read = tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink()));
    if read.await?? > 0 {
        bail!("something was typed");
    }
    Ok(())
}

//! A service's `main`: subcommands, configuration, exit codes. It keeps every `main.rs` to a table of subcommands.
//!
//! | exit code | when |
//! |---|---|
//! | 0 | the subcommand ended well |
//! | 1 | it failed |
//! | 64 | the environment or the command line is wrong; every fault is named, no value is shown |
//!
//! `variables [subcommand]` prints the environment variables that are read, one a line: name, `required` or `optional`,
//! `secret` or `plain`, default.

mod arguments;

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::process::ExitCode;

use rowhouse_config::section::Telemetry;
use rowhouse_config::{Env, Faults, Variable};
use rowhouse_telemetry::metrics::Metrics;
use tokio_util::sync::CancellationToken;

pub use self::arguments::{Arguments, UsageError};
use crate::{provider, signal};

/// Exit code for a wrong environment or command line (`EX_USAGE` of BSD's sysexits).
pub const EXIT_USAGE: u8 = 64;

/// How a subcommand ends.
pub type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

type Running = Pin<Box<dyn Future<Output = Outcome>>>;

/// The command line of a service.
#[must_use = "it does nothing before `main` is called"]
pub struct Cli {
    service: &'static str,
    commands: Vec<Command>,
}

struct Command {
    name: &'static str,
    about: &'static str,
    variables: Box<dyn Fn(&mut Env)>,
    start: Box<dyn FnOnce(Env, Process) -> Result<Running, Faults>>,
}

/// What a subcommand gets besides its configuration.
#[derive(Debug)]
pub struct Process {
    /// Cancelled by SIGTERM and SIGINT.
    pub stop: CancellationToken,
    /// What stands behind the subcommand on the command line.
    pub arguments: Arguments,
    /// The recorder of metrics, for [`crate::Server::metrics`].
    pub metrics: Metrics,
}

// === impl Cli ===

impl Cli {
    /// The command line of `service`, whose name also stands on its traces: `rowhouse-crm`.
    pub fn new(service: &'static str) -> Self {
        Self {
            service,
            commands: Vec::new(),
        }
    }

    /// The same with one more subcommand.
    ///
    /// `read`: reads its configuration from the environment. `run`: does the work, on a runtime, with logs set up.
    pub fn command<C, F, Fut>(
        mut self,
        name: &'static str,
        about: &'static str,
        read: fn(&mut Env) -> C,
        run: F,
    ) -> Self
    where
        C: 'static,
        F: FnOnce(C, Process) -> Fut + 'static,
        Fut: Future<Output = Outcome> + 'static,
    {
        self.commands.push(Command {
            name,
            about,
            variables: Box::new(move |env| drop(read(env))),
            start: Box::new(move |mut env, process| {
                let config = read(&mut env);
                let config = env.finish(config)?;
                Ok(Box::pin(run(config, process)))
            }),
        });
        self
    }

    /// Runs what the command line asks for. To be returned from `main`.
    #[must_use]
    pub fn main(self) -> ExitCode {
        let mut words = std::env::args().skip(1);
        let asked = words.next().unwrap_or_default();
        let rest: Vec<String> = words.collect();
        match asked.as_str() {
            "variables" => self.print_variables(rest.first().map(String::as_str)),
            "help" | "--help" | "-h" => {
                println!("{self}");
                ExitCode::SUCCESS
            }
            _ => self.run(&asked, rest),
        }
    }

    fn run(self, asked: &str, rest: Vec<String>) -> ExitCode {
        let usage = self.to_string();
        let Some(command) = self.commands.into_iter().find(|command| command.name == asked) else {
            eprintln!("{usage}");
            return ExitCode::from(EXIT_USAGE);
        };
        provider::install();
        let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(fault) => return fail(&fault),
        };
        runtime.block_on(start(self.service, command, Arguments::new(rest)))
    }

    fn print_variables(&self, only: Option<&str>) -> ExitCode {
        if only.is_some_and(|only| self.commands.iter().all(|command| command.name != only)) {
            eprintln!("{self}");
            return ExitCode::from(EXIT_USAGE);
        }
        let mut found: BTreeMap<&'static str, Variable> = BTreeMap::new();
        let commands = self
            .commands
            .iter()
            .filter(|command| only.is_none_or(|only| command.name == only));
        for command in commands {
            let mut env = Env::from_pairs([]);
            (command.variables)(&mut env);
            for variable in env.variables() {
                // One that any subcommand requires is required.
                let entry = found.entry(variable.name).or_insert_with(|| variable.clone());
                entry.required |= variable.required;
            }
        }
        for variable in found.values() {
            println!("{variable}");
        }
        ExitCode::SUCCESS
    }
}

impl fmt::Display for Cli {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "usage: {} <subcommand>", self.service)?;
        for command in &self.commands {
            writeln!(f, "  {:<16} {}", command.name, command.about)?;
        }
        write!(
            f,
            "  {:<16} prints the environment variables that are read",
            "variables"
        )
    }
}

/// Sets up logs and metrics, runs the subcommand, and flushes traces.
async fn start(service: &'static str, command: Command, arguments: Arguments) -> ExitCode {
    let (stop, metrics) = match (signal::shutdown_signal(), rowhouse_telemetry::metrics::install()) {
        (Ok(stop), Ok(metrics)) => (stop, metrics),
        (Err(fault), _) => return fail(&fault),
        (_, Err(fault)) => return fail(&fault),
    };
    let process = Process {
        stop,
        arguments,
        metrics,
    };
    let running = match (command.start)(Env::from_process(), process) {
        Ok(running) => running,
        Err(faults) => {
            eprintln!("{faults}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    // A fault in this section has just been found by the subcommand's own reading.
    let guard = match rowhouse_telemetry::init(service, &Telemetry::read(&mut Env::from_process())) {
        Ok(guard) => guard,
        Err(fault) => {
            eprintln!("{fault}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let outcome = running.await;
    guard.shutdown().await;
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) if fault.is::<UsageError>() => {
            eprintln!("{fault}");
            ExitCode::from(EXIT_USAGE)
        }
        Err(fault) => fail(fault.as_ref()),
    }
}

/// Tells a fault and what caused it, in one line.
fn fail(fault: &dyn Error) -> ExitCode {
    let mut text = fault.to_string();
    let mut source = fault.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    eprintln!("{text}");
    ExitCode::FAILURE
}

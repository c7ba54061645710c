//! `cargo xtask`: what a developer and CI do with this repository. Thin: the work is in devkit.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bench;
mod build;
mod demo;
mod down;
mod lint;
mod mails;
mod migrate;
mod run;
mod seed;
mod sink;
mod test;
mod tools;
mod torture;
mod up;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "Starts, tests and checks the suite")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start servers and services under .rowhouse/dev, migrate, seed; again: only what is not running or has changed
    Up(up::Up),
    /// Stop everything that `up` has started
    Down,
    /// Do the suite's main job against the running suite, step by step
    Demo(demo::Demo),
    /// Measure the running suite (start it with `up --release`) beside pgbench
    Bench(bench::Bench),
    /// Migrate the running suite's databases and every home that is behind
    Migrate,
    /// List the mails that the suite has sent
    Mails(mails::Mails),
    /// Build, run all tests against private servers, then lint
    Test(test::Test),
    /// Run the tests of a promise for some minutes, each with its control
    Torture(torture::Torture),
    /// Formatting, clippy, protos, Kubernetes, licences
    Lint,
    /// The mail server that `up` starts
    #[command(hide = true)]
    SmtpSink {
        #[arg(long)]
        listen: SocketAddr,
        #[arg(long)]
        folder: PathBuf,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Up(up) => up::run(up).await,
        Command::Down => down::run(),
        Command::Demo(demo) => demo::run(demo).await,
        Command::Bench(bench) => bench::run(bench).await,
        Command::Migrate => migrate::run().await,
        Command::Mails(mails) => mails::run(&mails),
        Command::Test(test) => test::run(test).await,
        Command::Torture(torture) => torture::run(torture).await,
        Command::Lint => lint::run().await,
        Command::SmtpSink { listen, folder } => sink::run(listen, folder).await,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

//! The worker's command line.

use std::process::ExitCode;

use mimalloc::MiMalloc;
use rowhouse_server::cli::{Cli, Outcome, Process};
use rowhouse_worker::App;
use rowhouse_worker::config::{MigrateConfig, ServeConfig};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    Cli::new("rowhouse-worker")
        .command(
            "serve",
            "answers ReportService, makes reports, sends mails",
            ServeConfig::read,
            serve,
        )
        .command(
            "migrate",
            "brings schema worker of the control database up to date",
            MigrateConfig::read,
            migrate,
        )
        .main()
}

async fn serve(config: ServeConfig, process: Process) -> Outcome {
    process.arguments.finish()?;
    App::build(&config, process.metrics).await?.run(process.stop).await
}

async fn migrate(config: MigrateConfig, process: Process) -> Outcome {
    process.arguments.finish()?;
    rowhouse_db::migrate_control(&config.control_owner_url, "worker", &rowhouse_worker::MIGRATIONS).await?;
    Ok(())
}

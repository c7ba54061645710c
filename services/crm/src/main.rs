//! `rowhouse-crm serve | migrate | provision | variables`.

use std::process::ExitCode;

use mimalloc::MiMalloc;
use rowhouse_crm::config::{MigrateConfig, ProvisionConfig, ServeConfig};
use rowhouse_crm::{App, app};
use rowhouse_server::cli::Cli;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    Cli::new("rowhouse-crm")
        .command(
            "serve",
            "serves until SIGTERM",
            ServeConfig::read,
            |config, process| async move {
                let app = App::build(config, process.metrics).await?;
                Ok(app.run(process.stop).await?)
            },
        )
        .command(
            "migrate",
            "brings schema rowhouse and every home to the newest version",
            MigrateConfig::read,
            |config, _| async move { Ok(app::migrate(config).await?) },
        )
        .command(
            "provision",
            "builds, migrates, freezes and drops homes for the tenant service, until SIGTERM",
            ProvisionConfig::read,
            |config, process| async move { Ok(app::provision(config, process).await?) },
        )
        .main()
}

//! `rowhouse-tenant serve | migrate | variables`.

use std::process::ExitCode;

use mimalloc::MiMalloc;
use rowhouse_server::cli::Cli;
use rowhouse_tenant::App;
use rowhouse_tenant::config::{MigrateConfig, ServeConfig};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    Cli::new("rowhouse-tenant")
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
            "brings the control schema to the newest version",
            MigrateConfig::read,
            |config, _| async move { Ok(App::migrate(&config).await?) },
        )
        .main()
}

//! `rowhouse-auth serve | migrate | variables`, and the commands about operators and accounts ([`rowhouse_auth::commands`]).

use std::process::ExitCode;

use mimalloc::MiMalloc;
use rowhouse_auth::config::{MigrateConfig, ServeConfig};
use rowhouse_auth::{App, commands};
use rowhouse_server::cli::Cli;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::new("rowhouse-auth")
        .command(
            "serve",
            "serves until SIGTERM",
            ServeConfig::read,
            |config, process| async move { Ok(App::build(config, process.metrics).await?.run(process.stop).await?) },
        )
        .command(
            "migrate",
            "brings the control schema to the newest version",
            MigrateConfig::read,
            |config, _| async move { Ok(App::migrate(&config).await?) },
        );
    commands::add_to(cli).main()
}

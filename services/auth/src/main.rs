//! `rowhouse-auth serve | migrate | bootstrap-admin | grant-operator | revoke-operator | recover-account | disable-account |
//! enable-account | variables`.

use std::process::ExitCode;

use rowhouse_auth::App;
use rowhouse_auth::config::{BootstrapConfig, MigrateConfig, ServeConfig};
use rowhouse_server::cli::Cli;

fn main() -> ExitCode {
    Cli::new("rowhouse-auth")
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
        )
        .command(
            "bootstrap-admin",
            "--email E [--secret-file F]: makes the first platform operator",
            BootstrapConfig::read,
            |config, process| async move { Ok(App::bootstrap_admin(&config, process.arguments).await?) },
        )
        .command(
            "grant-operator",
            "--email E --reason R [--secret-file F]: makes another platform operator",
            BootstrapConfig::read,
            |config, process| async move { Ok(App::grant_operator(&config, process.arguments).await?) },
        )
        .command(
            "revoke-operator",
            "--email E --reason R: takes the operator's role from an account",
            BootstrapConfig::read,
            |config, process| async move { Ok(App::revoke_operator(&config, process.arguments).await?) },
        )
        .command(
            "recover-account",
            "--email E --reason R [--secret-file F]: gives an account a new password and no second factor",
            BootstrapConfig::read,
            |config, process| async move { Ok(App::recover_account(&config, process.arguments).await?) },
        )
        .command(
            "disable-account",
            "--email E --reason R: closes an account in all tenants",
            BootstrapConfig::read,
            |config, process| async move { Ok(App::disable_account(&config, process.arguments).await?) },
        )
        .command(
            "enable-account",
            "--email E --reason R: opens an account again that was disabled",
            BootstrapConfig::read,
            |config, process| async move { Ok(App::enable_account(&config, process.arguments).await?) },
        )
        .main()
}

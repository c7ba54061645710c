//! `cargo xtask up`.

use std::env;

use anyhow::{Context, Result};
use clap::Args;
use rowhouse_devkit::checkout::Checkout;
use rowhouse_devkit::resident::{ADMIN_EMAIL, How, Resident};
use rowhouse_devkit::servers;
use rowhouse_devkit::settings::{Listener, Process};
use rowhouse_devkit::stack::{Profile, Stack};
use rowhouse_proto::tenant::v1::Tenant;

use crate::run::Steps;
use crate::tools::Tools;
use crate::{build, seed};

/// Arguments of `up`.
#[derive(Args, Debug)]
pub(crate) struct Up {
    /// Forget all data first
    #[arg(long)]
    fresh: bool,
    /// Build and run optimised binaries
    #[arg(long)]
    release: bool,
    /// Start a second data server, data2, where there is none
    #[arg(long)]
    second_data_server: bool,
}

/// Starts what is not running, and shows what is.
pub(crate) async fn run(up: Up) -> Result<()> {
    let checkout = Checkout::find()?;
    let stack = Stack::open(&checkout, Profile::Dev)?;
    let _lock = stack.lock()?;
    let mut steps = Steps::default();
    if up.fresh {
        eprintln!("== forget the data");
        servers::stop(&stack, false);
        stack.forget()?;
    }
    // A file that is being rebuilt while it is started would be started half.
    steps.step("build", build::services(&checkout, up.release)).await?;
    let program = env::current_exe().context("where this program is")?;
    let how = How {
        release: up.release,
        second_data_server: up.second_data_server,
    };
    let resident = Resident::prepare(stack, checkout.clone(), &program, how);
    let resident = steps.step("servers", resident).await?;
    steps.step("migrate", resident.migrate()).await?;
    let secret = steps.step("first operator", resident.bootstrap_admin()).await?;
    let started = steps.step("services", resident.start_services()).await?;
    eprintln!(
        "   {}",
        if started.is_empty() {
            "all running".to_owned()
        } else {
            started.join(", ")
        }
    );
    let tenants = steps.step("demo tenants", seed::run(&resident)).await?;
    let grpcurl = steps.step("grpcurl", grpcurl(&checkout)).await.unwrap_or_else(|error| {
        eprintln!("   {error:#}");
        "grpcurl".to_owned()
    });
    steps.print();
    print_table(&resident).await;
    print_calls(&resident, &grpcurl, &tenants);
    if let Some(secret) = secret {
        println!("\nfirst operator {ADMIN_EMAIL}, one-time secret (shown once): {secret}");
    }
    Ok(())
}

/// How grpcurl is called: the one on PATH, or the one that is fetched.
async fn grpcurl(checkout: &Checkout) -> Result<String> {
    let path = env::var_os("PATH").unwrap_or_default();
    if env::split_paths(&path).any(|folder| folder.join("grpcurl").is_file()) {
        return Ok("grpcurl".to_owned());
    }
    Tools::ensure(checkout).await?;
    Ok(".rowhouse/tools/bin/grpcurl".to_owned())
}

async fn print_table(resident: &Resident) {
    println!("\n{:<16} {:<24} health", "service", "address");
    for row in resident.table().await {
        println!("{:<16} {:<24} {}", row.name, row.address, row.health);
    }
}

/// Calls that work when they are pasted into a shell, line by line.
fn print_calls(resident: &Resident, grpcurl: &str, tenants: &[Tenant]) {
    let address = |process| resident.settings().address(process, Listener::Public);
    let (auth, crm) = (address(Process::Auth), address(Process::Crm));
    println!("\ndemo tenants (password of both administrators: {}):", seed::PASSWORD);
    for (tenant, (_, name, administrator)) in tenants.iter().zip(seed::TENANTS) {
        println!("  {name:<22} {:<34} {administrator}", tenant.id);
    }
    let (_, _, administrator) = seed::TENANTS[0];
    let log_in = format!(r#"{{"email": "{administrator}", "password": "{}"}}"#, seed::PASSWORD);
    println!("\nto call it:");
    println!("  {grpcurl} -plaintext {crm} list");
    println!("  {grpcurl} -plaintext {crm} describe rowhouse.crm.v1.ContactService");
    println!(
        "  TOKEN=$({grpcurl} -plaintext -d '{log_in}' {auth} rowhouse.auth.v1.AuthService/Login | sed -n 's/.*\"accessToken\": \"\\(.*\\)\".*/\\1/p')"
    );
    println!("  {grpcurl} -plaintext -H \"authorization: Bearer $TOKEN\" {auth} rowhouse.auth.v1.AuthService/WhoAmI");
    let list =
        r#"{"page_size": 2, "filter": "display_name = \"ada*\" OR display_name = \"amara*\"", "order_by": "email"}"#;
    println!(
        "  {grpcurl} -plaintext -H \"authorization: Bearer $TOKEN\" -d '{list}' {crm} rowhouse.crm.v1.ContactService/ListContacts"
    );
    println!("\nthen: cargo xtask demo; cargo xtask mails; cargo xtask down");
}

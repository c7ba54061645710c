//! `cargo xtask demo`: the main job against the running suite, step by step, with what happened and how long it took.

use std::fmt::Display;
use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use rowhouse_devkit::caller::{Caller, Endpoints};
use rowhouse_devkit::checkout::Checkout;
use rowhouse_devkit::journey::{self, BACKGROUND_MAX};
use rowhouse_devkit::resident::{ADMIN_EMAIL, Resident};
use rowhouse_devkit::settings::{Listener, Process};
use rowhouse_devkit::smtp::Mail;
use uuid::Uuid;

/// Arguments of `demo`.
#[derive(Args, Debug)]
pub(crate) struct Demo {}

const PASSWORD: &str = "correct horse battery staple";

/// Runs the demo; the first deviation ends it with an error.
pub(crate) async fn run(_demo: Demo) -> Result<()> {
    let resident = Resident::open(Checkout::find()?)?;
    let begun = Instant::now();
    let anyone = Caller::anonymous(endpoints(&resident)?);
    let log_in = operator_log_in(&resident, &anyone);
    let operator = step("the operator logs in", |_| ADMIN_EMAIL, log_in).await?;

    // Another run of the demo makes another tenant.
    let slug = format!("demo-{}", &Uuid::new_v4().simple().to_string()[..8]);
    let address = format!("ada@{slug}.example");
    let made = journey::create_tenant(&operator, &slug, "Analytical Engines Ltd", &address);
    step(
        "the operator creates a tenant",
        |tenant| format!("{} ({}) is active on {}", tenant.slug, tenant.id, tenant.server),
        made,
    )
    .await?;

    let invited = wait_for_mail(&resident, &address, "#token=");
    let mail = step(
        "the first administrator gets an invitation",
        |mail: &Mail| format!("\"{}\" to {address}", mail.subject),
        invited,
    )
    .await?;
    let token = journey::link_token(&mail)?;
    step(
        "she accepts it",
        |user| format!("she is {user}"),
        journey::accept(&anyone, &token, "Ada Lovelace", PASSWORD),
    )
    .await?;
    let tokens = step(
        "she logs in",
        |tokens| format!("session {}", tokens.session_id),
        journey::log_in(&anyone, &address, PASSWORD, ""),
    )
    .await?;
    let ada = anyone.with_token(&tokens.access_token)?;

    let life = "she creates, reads, lists, changes, deletes and undeletes contacts";
    let contacts = step(
        life,
        |contacts| format!("{} remain; a stale etag was refused", contacts.len()),
        journey::contacts(&ada),
    )
    .await?;
    let report = step(
        "she asks for a contacts report",
        |report| report.id.clone(),
        journey::run_report(&ada),
    )
    .await?;
    let finished = journey::finished_report(&ada, &report.id, BACKGROUND_MAX);
    let report = step(
        "the worker makes it",
        |report| format!("{} rows, {} bytes", report.row_count, report.size_bytes),
        finished,
    )
    .await?;
    let ready = wait_for_mail(&resident, &address, &report.id);
    step("she is told by e-mail", |mail| format!("\"{}\"", mail.subject), ready).await?;
    let file = step(
        "she downloads it",
        |file| format!("{} bytes of CSV", file.len()),
        journey::download(&ada, &report.id),
    )
    .await?;
    journey::check_report(&report, &file, &contacts)?;
    println!("\n{}", String::from_utf8_lossy(&file));
    println!("The main job is done, in {:.1} s.", begun.elapsed().as_secs_f64());
    Ok(())
}

/// Channels to the running services.
pub(crate) fn endpoints(resident: &Resident) -> Result<Endpoints> {
    let url = |process| resident.url(process, Listener::Public);
    Endpoints::new(
        &url(Process::Tenant),
        &url(Process::Auth),
        &url(Process::Crm),
        &url(Process::Worker),
    )
}

/// The platform's operator.
pub(crate) async fn operator_log_in(resident: &Resident, anyone: &Caller) -> Result<Caller> {
    let tokens = journey::log_in(anyone, ADMIN_EMAIL, &resident.admin_password()?, "").await?;
    anyone.with_token(&tokens.access_token)
}

/// Runs one step and prints what came of it.
async fn step<T, D: Display>(name: &str, shown: impl Fn(&T) -> D, work: impl Future<Output = Result<T>>) -> Result<T> {
    let begun = Instant::now();
    let outcome = work.await.with_context(|| format!("failed: {name}"))?;
    println!(
        "{:>7.1} ms  {name}: {}",
        begun.elapsed().as_secs_f64() * 1e3,
        shown(&outcome)
    );
    Ok(outcome)
}

pub(crate) async fn wait_for_mail(resident: &Resident, address: &str, text: &str) -> Result<Mail> {
    let until = Instant::now() + BACKGROUND_MAX;
    loop {
        let mails = resident.mails()?;
        let wanted = |mail: &Mail| mail.to.iter().any(|to| to == address) && mail.text.contains(text);
        if let Some(mail) = mails.into_iter().find(wanted) {
            return Ok(mail);
        }
        ensure!(
            Instant::now() < until,
            "no such mail to {address} within {BACKGROUND_MAX:?}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

//! `cargo xtask mails`.

use anyhow::Result;
use clap::Args;
use rowhouse_devkit::checkout::Checkout;
use rowhouse_devkit::resident::Resident;

/// Arguments of `mails`.
#[derive(Args, Debug)]
pub(crate) struct Mails {
    /// Only mails to this address, with their text
    #[arg(long)]
    to: Option<String>,
}

/// Lists the mails that the suite has sent, oldest first.
pub(crate) fn run(mails: &Mails) -> Result<()> {
    let resident = Resident::open(Checkout::find()?)?;
    let wanted = mails.to.as_ref().map(|to| to.to_lowercase());
    for mail in resident.mails()? {
        if wanted.as_ref().is_some_and(|wanted| !mail.to.contains(wanted)) {
            continue;
        }
        println!(
            "To: {}\nSubject: {}\nMessage-ID: {}",
            mail.to.join(", "),
            mail.subject,
            mail.message_id
        );
        if wanted.is_some() {
            println!("\n{}", mail.text.trim_end());
        }
        println!();
    }
    Ok(())
}

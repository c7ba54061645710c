//! The commands for whoever may run the process beside its database: platform operators, accounts that need somebody from outside,
//! master keys that are replaced or lost. What they do stands in `operator::command`, `break_glass`, `master` and `key::actions`;
//! here is what is read from the command line, and what is said on standard error. Passwords go to standard output, or into a file
//! that only its owner can read.

use std::error::Error;
use std::path::PathBuf;

use anyhow::Context as _;
use rowhouse_db::ControlDb;
use rowhouse_seal::MasterKeys;
use rowhouse_server::cli::{Arguments, Cli, Outcome, Process};
use rowhouse_types::{Email, Text};

use crate::app::connect;
use crate::break_glass;
use crate::config::{BootstrapConfig, MasterKeysConfig};
use crate::key;
use crate::master::{self, Purpose};
use crate::operator::command::{self, Granted, deliver_to};

/// As in [`Outcome`]. A wrong command line must stay a [`rowhouse_server::cli::UsageError`] in it, which has an exit code of its
/// own: inside an [`anyhow::Error`] nobody finds it.
type Fault = Box<dyn Error + Send + Sync>;

/// Why somebody does it, for the audit log.
type Reason = Text<500>;

/// The same command line with these commands too.
pub fn add_to(cli: Cli) -> Cli {
    cli.command(
        "bootstrap-admin",
        "--email E [--secret-file F]: makes the first platform operator",
        BootstrapConfig::read,
        bootstrap_admin,
    )
    .command(
        "grant-operator",
        "--email E --reason R [--secret-file F]: makes another platform operator",
        BootstrapConfig::read,
        grant_operator,
    )
    .command(
        "revoke-operator",
        "--email E --reason R: takes the operator's role from an account",
        BootstrapConfig::read,
        revoke_operator,
    )
    .command(
        "recover-account",
        "--email E --reason R [--secret-file F]: gives an account a new password and no second factor",
        BootstrapConfig::read,
        recover_account,
    )
    .command(
        "disable-account",
        "--email E --reason R: closes an account in all tenants",
        BootstrapConfig::read,
        disable_account,
    )
    .command(
        "enable-account",
        "--email E --reason R: opens an account again that was disabled",
        BootstrapConfig::read,
        enable_account,
    )
    .command(
        "reseal-secrets",
        ": seals by ROWHOUSE_MASTER_KEY what ROWHOUSE_MASTER_KEYS_PREVIOUS have sealed",
        MasterKeysConfig::read,
        reseal_secrets,
    )
    .command(
        "revoke-signing-keys",
        "--reason R: makes every access token worthless and begins with a new key",
        MasterKeysConfig::read,
        revoke_signing_keys,
    )
}

/// Makes the first platform operator; a second call changes nothing.
///
/// # Errors
/// When the command line is wrong, the database does not answer, or the password cannot be handed over; then nothing was done.
async fn bootstrap_admin(config: BootstrapConfig, process: Process) -> Outcome {
    let mut arguments = process.arguments;
    let (email, secret_file) = (email(&mut arguments)?, secret_file(&mut arguments));
    arguments.finish()?;
    let db = connect(&config.control_url).await?;
    let done = command::bootstrap(&db, &email, deliver_to(secret_file)).await;
    db.shutdown().await;
    say(match done? {
        Granted::Exists => "a platform operator exists; nothing was changed",
        Granted::Promoted => "the account is a platform operator now and keeps its password",
        Granted::Created => "the platform operator was created; the password is not shown again",
    });
    Ok(())
}

/// Makes another platform operator, as [`bootstrap_admin`] makes the first.
///
/// # Errors
/// As of [`bootstrap_admin`].
async fn grant_operator(config: BootstrapConfig, process: Process) -> Outcome {
    let mut arguments = process.arguments;
    let secret_file = secret_file(&mut arguments);
    let (email, reason) = whose_and_why(arguments)?;
    let db = connect(&config.control_url).await?;
    let done = command::grant(&db, &email, &reason, deliver_to(secret_file)).await;
    db.shutdown().await;
    say(match done? {
        Granted::Exists => "the account is a platform operator; nothing was changed",
        Granted::Promoted => "the account is a platform operator now and keeps its password",
        Granted::Created => "the platform operator was created; the password is not shown again",
    });
    Ok(())
}

/// Takes the operator's role from an account, and with it what they have opened and made as operator.
///
/// # Errors
/// When the command line is wrong, there is no such account, it is the last operator's, or the database does not answer; then
/// nothing was done. Also when a service did not confirm in time that the role has ended; then everything was, and the same
/// call again waits once more.
async fn revoke_operator(config: BootstrapConfig, process: Process) -> Outcome {
    let (email, reason) = whose_and_why(process.arguments)?;
    let db = connect(&config.control_url).await?;
    let done = command::revoke(&db, &email, &reason).await;
    db.shutdown().await;
    say(if done? {
        "the account is no platform operator any more, and what it had opened and made as one has ended"
    } else {
        "the account is no platform operator; nothing was changed"
    });
    Ok(())
}

/// Gives an account a new password and takes its second factor away.
///
/// # Errors
/// When the command line is wrong, there is no such account, the database does not answer, or the password cannot be handed
/// over; then nothing was done. Also when a service did not confirm in time that the old sessions have ended; then everything
/// was.
async fn recover_account(config: BootstrapConfig, process: Process) -> Outcome {
    let mut arguments = process.arguments;
    let secret_file = secret_file(&mut arguments);
    let (email, reason) = whose_and_why(arguments)?;
    let db = connect(&config.control_url).await?;
    let done = break_glass::recover(&db, &email, &reason, deliver_to(secret_file)).await;
    db.shutdown().await;
    done?;
    say("the account has a new password, which is not shown again, and no second factor");
    Ok(())
}

/// Disables an account in all tenants: its sessions end, and the API keys and invitations that the person has made.
///
/// # Errors
/// When the command line is wrong, there is no such account, it is an operator's, or the database does not answer; then nothing
/// was done. Also when a service did not confirm in time that it has ended; then everything was, and the same call again waits
/// once more.
async fn disable_account(config: BootstrapConfig, process: Process) -> Outcome {
    let (email, reason) = whose_and_why(process.arguments)?;
    let db = connect(&config.control_url).await?;
    let done = break_glass::disable(&db, &email, &reason).await;
    db.shutdown().await;
    say(if done? {
        "the account is disabled, and what was open under it has ended"
    } else {
        "the account was disabled already; nothing was changed"
    });
    Ok(())
}

/// Enables an account that was disabled; what has ended stays so.
///
/// # Errors
/// When the command line is wrong, there is no such account, or the database does not answer; then nothing was done.
async fn enable_account(config: BootstrapConfig, process: Process) -> Outcome {
    let (email, reason) = whose_and_why(process.arguments)?;
    let db = connect(&config.control_url).await?;
    let done = break_glass::enable(&db, &email, &reason).await;
    db.shutdown().await;
    say(if done? {
        "the account is enabled; its person logs in as before"
    } else {
        "the account is not disabled; nothing was changed"
    });
    Ok(())
}

/// Seals by the present master key what previous ones have sealed.
///
/// # Errors
/// When the command line is wrong, the database does not answer, or something is opened by none of the keys: then everything else
/// is resealed all the same.
async fn reseal_secrets(config: MasterKeysConfig, process: Process) -> Outcome {
    process.arguments.finish()?;
    let (db, master) = with_master_keys(config).await?;
    let done = master::reseal(&db, &master).await;
    db.shutdown().await;
    let done = done?;
    eprintln!(
        "{} of {} secrets were sealed by a previous key, and are by the present one",
        done.resealed, done.secrets
    );
    if done.unopened > 0 {
        let (unopened, examples) = (done.unopened, done.examples.join(", "));
        return Err(format!("{unopened} are opened by none of the keys: {examples}").into());
    }
    Ok(())
}

/// Ends all signing keys, and with them every access token.
///
/// # Errors
/// When the command line is wrong, or the database does not answer; then nothing was done. Also when a service did not confirm in
/// time that the tokens have ended; then everything was.
async fn revoke_signing_keys(config: MasterKeysConfig, process: Process) -> Outcome {
    let mut arguments = process.arguments;
    let reason = arguments.require("--reason")?;
    let reason = Reason::parse_required(&reason).context("--reason")?;
    arguments.finish()?;
    let (db, master) = with_master_keys(config).await?;
    let done = key::actions::revoke_all(&db, &master::sealers(&master, Purpose::SigningKeys)?, &reason).await;
    db.shutdown().await;
    eprintln!("{} signing keys were revoked; a new one signs", done?);
    Ok(())
}

async fn with_master_keys(config: MasterKeysConfig) -> Result<(ControlDb, MasterKeys), Fault> {
    let master = config.master_keys.context("ROWHOUSE_MASTER_KEY is missing")?;
    Ok((connect(&config.control_url).await?, master))
}

/// `--email E --reason R`, and nothing else.
fn whose_and_why(mut arguments: Arguments) -> Result<(Email, Reason), Fault> {
    let email = email(&mut arguments)?;
    let reason = arguments.require("--reason")?;
    let reason = Reason::parse_required(&reason).context("--reason")?;
    arguments.finish()?;
    Ok((email, reason))
}

fn email(arguments: &mut Arguments) -> Result<Email, Fault> {
    let email = arguments.require("--email")?;
    Ok(email.parse().context("--email")?)
}

fn secret_file(arguments: &mut Arguments) -> Option<PathBuf> {
    arguments.take("--secret-file").map(PathBuf::from)
}

fn say(what_happened: &str) {
    eprintln!("{what_happened}");
}

#[cfg(test)]
mod tests {
    use rowhouse_server::cli::UsageError;

    use super::*;

    fn read(words: &[&str]) -> Result<(Email, Reason), Fault> {
        whose_and_why(Arguments::new(words.iter().map(|word| (*word).to_owned()).collect()))
    }

    #[test]
    fn what_is_missing_or_left_over_on_the_command_line_stays_a_fault_of_it() {
        let whole = ["--email", "ada@acme.example", "--reason", "she has called"];
        assert!(read(&whole).is_ok());
        let more = [&whole[..], &["--secret-file", "secret"]].concat();
        for wrong in [&whole[2..], &whole[..2], &more[..]] {
            let fault = read(wrong).unwrap_err();
            assert!(fault.is::<UsageError>(), "{wrong:?}: {fault}");
        }
    }

    #[test]
    fn an_address_or_a_reason_that_is_none_is_named_by_its_option() {
        for (email, reason, named) in [
            ("ada", "she has called", "--email"),
            ("ada@acme.example", " ", "--reason"),
        ] {
            let fault = read(&["--email", email, "--reason", reason]).unwrap_err();
            assert_eq!(fault.to_string(), named);
        }
    }
}

//! Operators by command, for whoever may run the process beside its database. What RPCs do not do is done here: the first operator
//! is made, and with an operator the account where there is none. Nobody's password is asked for: whoever can run this could write
//! the role into the database. The operators are told of it as of the others'; the relay of a process that serves sends the mails.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use rowhouse_db::ControlDb;
use rowhouse_types::{Email, UserId};

use super::{Reason, actions, store};
use crate::by_command::ctx;
use crate::error::Error;
use crate::identity::{self, Chooser, DisplayName, Hasher, NewIdentity, NewPassword};
use crate::random;
use crate::rights::Clock;

/// What became of who was to be an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Granted {
    /// There is an operator already, or this one is; nothing was changed.
    Exists,
    /// The address had an account, which is an operator now and keeps its password.
    Promoted,
    /// There is a new account; its password went to where it was to go.
    Created,
}

/// Makes the first operator. `deliver` gets the password before anything is kept: where it fails, nothing was done.
pub(crate) async fn bootstrap(
    db: &ControlDb,
    email: &Email,
    deliver: impl FnOnce(&str) -> io::Result<()>,
) -> Result<Granted, Error> {
    make(db, email, None, deliver).await
}

/// Makes an operator beside those that there are. `deliver` is as in [`bootstrap`].
pub(crate) async fn grant(
    db: &ControlDb,
    email: &Email,
    reason: &Reason,
    deliver: impl FnOnce(&str) -> io::Result<()>,
) -> Result<Granted, Error> {
    make(db, email, Some(reason), deliver).await
}

/// Makes an operator, and their account where there is none; without a reason only the first.
async fn make(
    db: &ControlDb,
    email: &Email,
    reason: Option<&Reason>,
    deliver: impl FnOnce(&str) -> io::Result<()>,
) -> Result<Granted, Error> {
    // Where there is one, whatever account the address has is nothing to this call. `give` looks again, under the lock.
    if reason.is_none() && store::operator_exists(&mut *db.pool().acquire().await?).await? {
        return Ok(Granted::Exists);
    }
    // No account begins at an address in another spelling than people write it in; one that is there keeps its own.
    if identity::account_at(&mut *db.pool().acquire().await?, email.as_str())
        .await?
        .is_none()
    {
        Email::parse_new(email.as_str()).map_err(|fault| Error::Field {
            field: "email",
            description: fault.to_string(),
        })?;
    }
    let ctx = ctx();
    let password = random::text().map_err(Error::fault)?;
    let chosen = NewPassword::parse(&password).map_err(Error::fault)?;
    let password_hash = Hasher::new(1)?
        .hash(&ctx, &chosen, &Chooser::new("password", "", ""))
        .await?;
    let name = DisplayName::parse_required("Platform operator").map_err(Error::fault)?;

    let mut tx = db.begin().await?;
    let new = NewIdentity {
        id: UserId::generate(),
        email,
        display_name: &name,
        password_hash: &password_hash,
    };
    let created = identity::insert(&mut tx, &new).await?;
    let user = actions::active_account(&mut tx, email, None).await?;
    let hand_over = || {
        let handed = if created { deliver(&password) } else { Ok(()) };
        handed.map_err(|fault| Error::fault(format!("the password cannot be handed over: {fault}")))
    };
    if actions::give(&mut tx, &ctx, user, reason, hand_over).await?.is_none() {
        // A new account goes too, with the transaction.
        return Ok(Granted::Exists);
    }
    tx.commit().await?;
    Ok(if created { Granted::Created } else { Granted::Promoted })
}

/// Takes the operator's role from the account at an address, as [`actions::take`] does.
pub(crate) async fn revoke(db: &ControlDb, email: &Email, reason: &Reason) -> Result<bool, Error> {
    let account = identity::account_at(&mut *db.pool().acquire().await?, email.as_str()).await?;
    let user = account.ok_or_else(|| actions::no_account(email))?.id;
    actions::take(&ctx(), db, &Clock::new(db.clone()), user, reason).await
}

/// Where the password goes: to standard output, or into a file that only its owner can read.
pub(crate) fn deliver_to(file: Option<PathBuf>) -> impl FnOnce(&str) -> io::Result<()> {
    move |password| match file {
        None => writeln!(io::stdout(), "{password}"),
        Some(path) => {
            // A file that is there might be readable to others: its mode would stay.
            match fs::remove_file(&path) {
                Err(fault) if fault.kind() != io::ErrorKind::NotFound => return Err(fault),
                _ => {}
            }
            let mut file = fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path)?;
            writeln!(file, "{password}")?;
            file.sync_all()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_password_file_is_its_owners_alone_even_where_one_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        deliver_to(Some(path.clone()))("new").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new\n");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

//! The first platform operator: made once, by whoever runs the process, with a password that is shown once.

mod store;

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use rowhouse_auth_kit::Role;
use rowhouse_context::{Ctx, Principal, RequestId, ServiceName};
use rowhouse_db::ControlDb;
use rowhouse_types::{Email, UserId};
use serde_json::json;
use tokio::time::Instant;

use crate::audit::{self, Entry};
use crate::error::Error;
use crate::identity::{self, Chooser, DisplayName, Hasher, NewIdentity, NewPassword};
use crate::random;
use crate::rights::{self, Subject};
#[cfg(test)]
pub(crate) use store::STATEMENTS;

/// Longest time for all of it.
const BOUND: Duration = Duration::from_secs(30);

/// What became of the first operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Bootstrapped {
    /// There is an operator already; nothing was changed.
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
) -> Result<Bootstrapped, Error> {
    let principal = Principal::Service {
        name: ServiceName::Auth,
    };
    let ctx = Ctx::new(RequestId::generate(), principal, None, Instant::now() + BOUND);
    let password = random::text().map_err(Error::fault)?;
    let chosen = NewPassword::parse(&password).map_err(Error::fault)?;
    let password_hash = Hasher::new(1)?
        .hash(&ctx, &chosen, &Chooser::new("password", "", ""))
        .await?;
    let name = DisplayName::parse_required("Platform operator").map_err(Error::fault)?;

    let mut tx = db.begin().await?;
    let id = UserId::generate();
    let new = NewIdentity {
        id,
        email,
        display_name: &name,
        password_hash: &password_hash,
    };
    // Of two that run at once, the second waits at the table and then finds the operator of the first.
    store::lock(&mut tx).await?;
    if store::operator_exists(&mut tx).await? {
        return Ok(Bootstrapped::Exists);
    }
    let created = identity::insert(&mut tx, &new).await?;
    let user = match identity::account_at(&mut tx, email.as_str()).await? {
        Some(account) => account.id,
        None => return Err(Error::fault("an account is gone")),
    };
    store::grant(&mut tx, user, Role::SuperAdmin).await?;
    let entry = Entry::new("platform.grant", user).after(json!({ "role": Role::SuperAdmin.as_str() }));
    audit::record(&mut tx, &ctx, entry).await?;
    rights::bump(&mut tx, &[Subject::User(user)]).await?;
    if created {
        deliver(&password).map_err(|fault| Error::fault(format!("the password cannot be handed over: {fault}")))?;
    }
    tx.commit().await?;
    Ok(if created {
        Bootstrapped::Created
    } else {
        Bootstrapped::Promoted
    })
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
mod rules {
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

#[cfg(test)]
mod tests;

//! Platform operators: the first, others, and their end. For whoever may run the process beside its database, and nobody else:
//! there is no RPC for it. Each leaves its trace in the platform's audit log.

mod store;

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use rowhouse_auth_kit::Role;
use rowhouse_context::{Ctx, Principal, RequestId, ServiceName};
use rowhouse_db::ControlDb;
use rowhouse_types::{ApiKeyId, Email, SessionId, TenantId, Text, UserId};
use serde_json::json;
use sqlx::PgConnection;
use tokio::time::Instant;

use crate::audit::{self, Entry};
use crate::error::Error;
use crate::identity::{self, Chooser, DisplayName, Hasher, NewIdentity, NewPassword};
use crate::rights::{self, Clock, Subject};
use crate::{invitation, random, service_account};
#[cfg(test)]
pub(crate) use store::STATEMENTS;
pub(crate) use store::hold;

/// Longest time for all of it, the acknowledgement included.
const BOUND: Duration = Duration::from_secs(30);

/// What the tenants' logs give as the reason. Why the role has ended is the platform's matter.
const ROLE_ENDED: &str = "the operator's role of who made it has ended";

/// Why somebody becomes an operator, or is one no more.
pub(crate) type Reason = Text<500>;

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

/// What ended with the role.
struct Ended {
    /// How many.
    invitations: u64,
    keys: Vec<(TenantId, ApiKeyId)>,
    sessions: Vec<EndedSession>,
}

/// A session that ended with the role.
struct EndedSession {
    session: SessionId,
    /// Whose it was, where the operator acted as a member.
    as_member: Option<(TenantId, UserId)>,
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

/// Makes an operator; without a reason only the first.
async fn make(
    db: &ControlDb,
    email: &Email,
    reason: Option<&Reason>,
    deliver: impl FnOnce(&str) -> io::Result<()>,
) -> Result<Granted, Error> {
    let ctx = ctx();
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
    if reason.is_none() && store::operator_exists(&mut tx).await? {
        return Ok(Granted::Exists);
    }
    let created = identity::insert(&mut tx, &new).await?;
    let account = identity::account_at(&mut tx, email.as_str()).await?;
    let account = account
        .filter(|account| account.active)
        .ok_or_else(|| no_account(email))?;
    let user = account.id;
    if !store::grant(&mut tx, user, Role::SuperAdmin).await? {
        return Ok(Granted::Exists);
    }
    // Before the log and the clock, which others wait for: whoever it goes to may be slow.
    if created {
        deliver(&password).map_err(|fault| Error::fault(format!("the password cannot be handed over: {fault}")))?;
    }
    let mut entry = Entry::new("platform.grant", user).after(json!({ "role": Role::SuperAdmin.as_str() }));
    if let Some(reason) = reason {
        entry = entry.because(reason.as_str());
    }
    audit::record(&mut tx, &ctx, entry).await?;
    rights::bump(&mut tx, &[Subject::User(user)]).await?;
    tx.commit().await?;
    Ok(if created { Granted::Created } else { Granted::Promoted })
}

/// Takes the operator's role from an account, which stays, as a member too where it is one. Returns when no service honours the
/// role any more; `false` where the account did not have it. What they have opened and made as operator ends with it: their
/// sessions on the platform, those as members, their API keys and their invitations, and the keys and invitations that were made
/// with such keys, in all tenants. Whether they made them as a member, nobody can tell.
pub(crate) async fn revoke(db: &ControlDb, email: &Email, reason: &Reason) -> Result<bool, Error> {
    let ctx = ctx();
    let clock = Clock::new(db.clone());
    let mut tx = db.begin().await?;
    let account = identity::account_at(&mut tx, email.as_str()).await?;
    let user = account.ok_or_else(|| no_account(email))?.id;
    // Who logs in meanwhile has a session then, which ends below, or waits and finds no role. A disabled account opens none.
    identity::lock(&mut tx, user).await?;
    store::lock(&mut tx).await?;
    if !store::revoke(&mut tx, user).await? {
        tx.rollback().await?;
        // A repeated call finds its change made, and must not answer before the first one might have.
        clock.acknowledge_all(&ctx).await?;
        return Ok(false);
    }
    if !store::operator_exists(&mut tx).await? {
        return Err(Error::LastOperator);
    }
    // In the order in which everybody locks them.
    let ended = Ended {
        invitations: invitation::revoke_all_of_sender(&mut tx, user).await?,
        keys: service_account::revoke_all_keys_made_by(&mut tx, user).await?,
        sessions: store::end_sessions(&mut tx, user).await?,
    };
    record(&mut tx, &ctx, user, reason, &ended).await?;
    let sessions = ended.sessions.iter().map(|ended| ended.session);
    let keys = ended.keys.iter().map(|(_, key)| service_account::session_of(*key));
    let sessions = sessions.chain(keys);
    let subjects: Vec<Subject> = std::iter::once(Subject::User(user))
        .chain(sessions.map(Subject::Session))
        .collect();
    let version = rights::bump(&mut tx, &subjects).await?;
    tx.commit().await?;
    clock.acknowledge(&ctx, version).await?;
    Ok(true)
}

/// Tells the platform's log of the end of a role, and the tenants' logs of what ended there.
async fn record(conn: &mut PgConnection, ctx: &Ctx, user: UserId, reason: &Reason, ended: &Ended) -> Result<(), Error> {
    let entry = Entry::new("platform.revoke", user)
        .because(reason.as_str())
        .before(json!({ "role": Role::SuperAdmin.as_str() }))
        .after(json!({
            "sessions_ended": ended.sessions.len(),
            "api_keys_ended": ended.keys.len(),
            "invitations_ended": ended.invitations,
        }));
    audit::record(conn, ctx, entry).await?;
    for EndedSession { session, as_member } in &ended.sessions {
        if let Some((tenant, member)) = as_member {
            let entry = Entry::new("impersonation.end", member)
                .within(Some(*tenant))
                .because(ROLE_ENDED)
                .after(json!({ "session": session.to_string() }));
            audit::record(conn, ctx, entry).await?;
        }
    }
    for (tenant, key) in &ended.keys {
        let entry = Entry::new("api_key.revoke", key)
            .within(Some(*tenant))
            .because(ROLE_ENDED);
        audit::record(conn, ctx, entry).await?;
    }
    Ok(())
}

fn ctx() -> Ctx {
    let principal = Principal::Service {
        name: ServiceName::Auth,
    };
    Ctx::new(RequestId::generate(), principal, None, Instant::now() + BOUND)
}

fn no_account(email: &Email) -> Error {
    Error::NotFound {
        kind: "account",
        id: email.to_string(),
    }
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

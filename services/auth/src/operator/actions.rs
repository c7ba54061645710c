//! What may be done about operators, by RPC and by command.

use rowhouse_auth_kit::Role;
use rowhouse_context::{Ctx, Principal};
use rowhouse_db::ControlDb;
use rowhouse_db::paging::{Page, PageScope};
use rowhouse_types::{Email, UserId};
use serde_json::json;
use sqlx::PgConnection;

use super::{Ended, EndedSession, Grant, Operator, Reason, notices, store};
use crate::account::actions::wrong_password;
use crate::account_mail::Kind;
use crate::audit::{self, Entry};
use crate::error::Error;
use crate::handed_on::EndedEverywhere;
use crate::identity::{self, Account};
use crate::rights::{self, Clock, Subject, Version};
use crate::second_factor::actions::confirmed_anew;
use crate::session::manage;
use crate::state::State;

/// What the tenants' logs give as the reason. Why the role has ended is the platform's matter.
const ROLE_ENDED: &str = "the operator's role of who made it has ended";

/// One operator.
pub(crate) async fn get(_ctx: &Ctx, state: &State, user: UserId) -> Result<Operator, Error> {
    let found = store::find(&mut *state.connection().await?, user).await?;
    found.ok_or_else(|| Error::NotFound {
        kind: "operator",
        id: user.to_string(),
    })
}

/// A page of the operators, the oldest accounts first.
///
/// `size`: how many. `token`: of the page before, or empty.
pub(crate) async fn list(ctx: &Ctx, state: &State, size: u32, token: &str) -> Result<Page<Operator>, Error> {
    let scope = PageScope {
        method: "ListOperators",
        tenant: None,
        user: ctx.principal().user(),
        fingerprint: Vec::new(),
    };
    let paging = state.pages.begin(scope, size, token).map_err(|_| Error::PageToken)?;
    let mut conn = state.connection().await?;
    let operators = store::page(&mut conn, paging.after().copied(), paging.limit()).await?;
    Ok(paging.finish(operators, |last: &Operator| last.user))
}

/// Makes somebody an operator who has an account; who is one stays as they are.
///
/// The caller shows the password again, and the second factor where they have one: an operator who was made with a stolen token
/// would stay one when the token has ended. Only log-ins come here, since an API key acts in its tenant and never on the platform.
pub(crate) async fn grant(ctx: &Ctx, state: &State, grant: &Grant) -> Result<Operator, Error> {
    let caller = manage::caller(ctx)?;
    let shown = confirmed_anew(ctx, state, caller, &grant.current, grant.code.as_ref()).await?;
    let mut tx = state.begin().await?;
    let user = active_account(&mut tx, &grant.email, Some(&shown)).await?;
    let given = give(&mut tx, ctx, user, Some(&grant.reason), || Ok(())).await?;
    tx.commit().await?;
    if let Some(version) = given {
        state.wake.notify();
        state.clock.publish(version);
    }
    get(ctx, state, user).await
}

/// Whose account has an address. It stays active until the transaction ends, and so does the caller's, with its password.
///
/// `caller`: the account that has shown its password; `None` for a command.
pub(super) async fn active_account(
    conn: &mut PgConnection,
    email: &Email,
    caller: Option<&Account>,
) -> Result<UserId, Error> {
    let account = identity::account_at(conn, email.as_str()).await?;
    let user = account.ok_or_else(|| no_account(email))?.id;
    let both: Vec<UserId> = std::iter::once(user).chain(caller.map(|caller| caller.id)).collect();
    let held = identity::hold_all(conn, &both).await?;
    // Another call has changed it since it was compared, and has ended what was open under it.
    if let Some(caller) = caller
        && !held.contains(&(caller.id, caller.password_hash.clone()))
    {
        return Err(wrong_password());
    }
    if held.iter().all(|(id, _)| *id != user) {
        return Err(no_account(email));
    }
    // It may have got another address since it was looked for. And the role goes to nobody whom the database alone takes for the
    // one that was named.
    match identity::account_at(conn, email.as_str()).await? {
        Some(now) if now.id == user && Email::key_of(&now.email) == email.key() => Ok(user),
        _ => Err(no_account(email)),
    }
}

/// Gives the role to an account that is held; without a reason only where nobody has it. `None` where there is nothing to do.
///
/// `hand_over` hands the password of a new account over; where it fails, the transaction must not be committed.
pub(super) async fn give(
    conn: &mut PgConnection,
    ctx: &Ctx,
    user: UserId,
    reason: Option<&Reason>,
    hand_over: impl FnOnce() -> Result<(), Error>,
) -> Result<Option<Version>, Error> {
    // Of two that run at once, the second waits here and then finds the operator of the first.
    store::lock(conn).await?;
    still_an_operator(conn, ctx).await?;
    if reason.is_none() && store::operator_exists(conn).await? {
        return Ok(None);
    }
    if !store::grant(conn, user, Role::SuperAdmin).await? {
        return Ok(None);
    }
    // Before the log and the clock, which others wait for: whoever it goes to may be slow.
    hand_over()?;
    let hearers = store::hearers(conn, user).await?;
    notices::tell(conn, ctx, Kind::OperatorMade, user, &hearers).await?;
    let mut entry = Entry::new("platform.grant", user).after(json!({ "role": Role::SuperAdmin.as_str() }));
    if let Some(reason) = reason {
        entry = entry.because(reason.as_str());
    }
    audit::record(conn, ctx, entry).await?;
    rights::bump(conn, &[Subject::User(user)]).await.map(Some)
}

/// Takes the operator's role from an account, as [`take`] does.
pub(crate) async fn revoke(ctx: &Ctx, state: &State, user: UserId, reason: &Reason) -> Result<bool, Error> {
    let taken = take(ctx, &state.db, &state.clock, user, reason).await;
    // It may be done, and the mails wanted, where the acknowledgement has failed.
    state.wake.notify();
    taken
}

/// Takes the operator's role from an account, which stays, as a member too where it is one. Returns when no service honours the
/// role any more; `false` where the account did not have it. What they have opened and made as operator ends with it: their
/// sessions on the platform, those as members, their API keys and their invitations, and the keys and invitations that were made
/// with such keys, in all tenants. Whether they made them as a member, nobody can tell.
pub(super) async fn take(
    ctx: &Ctx,
    db: &ControlDb,
    clock: &Clock,
    user: UserId,
    reason: &Reason,
) -> Result<bool, Error> {
    let mut tx = db.begin().await?;
    // Who logs in meanwhile has a session then, which ends below, or waits and finds no role. A disabled account opens none.
    if identity::lock(&mut tx, user).await?.is_none() && identity::account_of(&mut tx, user).await?.is_none() {
        return Err(no_account(user));
    }
    store::lock(&mut tx).await?;
    still_an_operator(&mut tx, ctx).await?;
    // While they are one, so that they hear of it too.
    let hearers = store::hearers(&mut tx, user).await?;
    if !store::revoke(&mut tx, user).await? {
        tx.rollback().await?;
        // A repeated call finds its change made, and must not answer before the first one might have.
        clock.acknowledge_all(ctx).await?;
        return Ok(false);
    }
    if !store::operator_exists(&mut tx).await? {
        return Err(Error::LastOperator);
    }
    // In the order in which everybody locks them.
    let ended = Ended {
        handed_on: EndedEverywhere::end(&mut tx, user).await?,
        sessions: store::end_sessions(&mut tx, user).await?,
    };
    notices::tell(&mut tx, ctx, Kind::OperatorUnmade, user, &hearers).await?;
    record(&mut tx, ctx, user, reason, &ended).await?;
    let sessions = ended.sessions.iter().map(|ended| Subject::Session(ended.session));
    let subjects: Vec<Subject> = std::iter::once(Subject::User(user))
        .chain(sessions)
        .chain(ended.handed_on.subjects())
        .collect();
    let version = rights::bump(&mut tx, &subjects).await?;
    tx.commit().await?;
    clock.acknowledge(ctx, version).await?;
    Ok(true)
}

/// An operator who has lost the role since the call began may do nothing more; the grants are locked. Who runs a command has none
/// to lose.
async fn still_an_operator(conn: &mut PgConnection, ctx: &Ctx) -> Result<(), Error> {
    if let Principal::Operator { user, .. } = ctx.principal()
        && store::find(conn, *user).await?.is_none()
    {
        return Err(Error::Revoked);
    }
    Ok(())
}

/// Tells the platform's log of the end of a role, and the tenants' logs of what ended there.
async fn record(conn: &mut PgConnection, ctx: &Ctx, user: UserId, reason: &Reason, ended: &Ended) -> Result<(), Error> {
    let entry = Entry::new("platform.revoke", user)
        .because(reason.as_str())
        .before(json!({ "role": Role::SuperAdmin.as_str() }))
        .after(json!({
            "sessions_ended": ended.sessions.len(),
            "api_keys_ended": ended.handed_on.keys.len(),
            "invitations_ended": ended.handed_on.invitations.len(),
        }));
    let impersonations = ended.sessions.iter().filter_map(|EndedSession { session, as_member }| {
        let (tenant, member) = as_member.as_ref()?;
        let entry = Entry::new("impersonation.end", member)
            .within(Some(*tenant))
            .because(ROLE_ENDED);
        Some(entry.after(json!({ "session": session.to_string() })))
    });
    let told = std::iter::once(entry).chain(impersonations).collect();
    audit::record_all(conn, ctx, told).await?;
    ended.handed_on.tell(conn, ctx, ROLE_ENDED).await
}

/// `id`: the address or the account that was looked for.
pub(super) fn no_account(id: impl ToString) -> Error {
    Error::NotFound {
        kind: "account",
        id: id.to_string(),
    }
}

//! Sending invitations and accepting them.

use rowhouse_context::Ctx;
use rowhouse_mq::Event;
use rowhouse_status::Reason;
use rowhouse_types::{Email, UserId};
use serde_json::json;
use sqlx::PgConnection;

use super::store::Open;
use super::{Acceptance, CREATED, Draft, Invitation, Joined, store};
use crate::attempt::failed::{self, Failed};
use crate::attempt::{self, origin};
use crate::audit::{self, Entry};
use crate::error::Error;
use crate::identity::{self, Account, Chooser, NewIdentity, NewPassword, ParsePasswordError};
use crate::rights::{self, Subject};
use crate::state::State;
use crate::tenant::Access;
use crate::{login_policy, member, random, tenant};

/// The RPC that accepts one.
const ACCEPT: &str = "rowhouse.auth.v1.AuthService/AcceptInvitation";

/// Writes an invitation with its event, in the caller's transaction, which has locked the tenant. An open invitation of
/// the same address gives way: its link would give another role, or keep a way in that the new one was to replace.
pub(crate) async fn issue(
    conn: &mut PgConnection,
    ctx: &Ctx,
    state: &State,
    draft: &Draft<'_>,
) -> Result<Invitation, Error> {
    let id = draft.id;
    let nonce = random::bytes().map_err(Error::fault)?;
    let token_hash = state.invitation_tokens.token(id, &nonce).hash();
    store::supersede(conn, draft.tenant, draft.email.as_str()).await?;
    let invitation = store::insert(conn, draft, &nonce, &token_hash).await?;
    let entry = Entry::new("invitation.create", id)
        .within(Some(draft.tenant))
        .after(json!({ "role": draft.role.as_str() }));
    audit::record(conn, ctx, entry).await?;
    let mut event = Event::new(ctx, CREATED, json!({ "invitation_id": id.to_string() }));
    event.tenant = Some(draft.tenant);
    event.traceparent = rowhouse_telemetry::trace::current_traceparent();
    rowhouse_mq::outbox::append(conn, "auth", &event).await?;
    Ok(invitation)
}

/// Uses up an invitation: a new identity gets the password, one that exists proves itself with its own.
pub(crate) async fn accept(ctx: &Ctx, state: &State, acceptance: &Acceptance) -> Result<Joined, Error> {
    let token_hash = acceptance.token.hash();
    origin::admit(ctx, state, origin::Kind::Link, &token_hash).await?;
    match accept_by(ctx, state, &token_hash, acceptance).await {
        Err(refusal @ Error::InvitationInvalid) => Err(origin::not_good(ctx, state, origin::Kind::Link, refusal).await),
        other => other,
    }
}

async fn accept_by(ctx: &Ctx, state: &State, token_hash: &[u8], acceptance: &Acceptance) -> Result<Joined, Error> {
    // Twice at most: an account may come into being between the look and the insert, and must then prove itself; or it may have
    // got another address since.
    for _ in 0..2 {
        let mut conn = state.connection().await?;
        let open = store::open(&mut conn, token_hash)
            .await?
            .ok_or(Error::InvitationInvalid)?;
        let candidate = match identity::account_at(&mut conn, &open.email).await? {
            Some(account) => Candidate::Known(account),
            None => {
                let new = NewPassword::of(&acceptance.password).map_err(unfit)?;
                let policy = login_policy::find(&mut conn, open.tenant).await?;
                policy.admit_password(new.length(), "password")?;
                Candidate::New(new)
            }
        };
        // Hashing takes long: no connection waits for it.
        drop(conn);
        let joined = accept_open(ctx, state, acceptance, &open, candidate).await;
        if let Err(error) = &joined {
            tell(ctx, state, &open, error);
        }
        if let Some(joined) = joined? {
            return Ok(joined);
        }
    }
    Err(Error::fault("an account comes and goes"))
}

/// Who an address belongs to.
enum Candidate {
    Known(Account),
    /// Nobody yet: an account with this password is to begin.
    New(NewPassword),
}

fn unfit(fault: ParsePasswordError) -> Error {
    Error::Field {
        field: "password",
        description: fault.to_string(),
    }
}

/// Uses up an invitation that is open, to an address that has this account or none. `None` where that is so no longer.
async fn accept_open(
    ctx: &Ctx,
    state: &State,
    acceptance: &Acceptance,
    open: &Open,
    candidate: Candidate,
) -> Result<Option<Joined>, Error> {
    let known = match candidate {
        Candidate::Known(account) => prove(ctx, state, acceptance, open, account).await?,
        Candidate::New(_) if acceptance.display_name.as_str().is_empty() => {
            let description = "must not be empty for a new account".to_owned();
            return Err(Error::Field {
                field: "display_name",
                description,
            });
        }
        Candidate::New(password) => {
            let chooser = Chooser::new("password", &open.email, acceptance.display_name.as_str());
            let chooser = chooser.within(&open.tenant_name);
            let id = open.id.to_string();
            Known::No(attempt::choose(ctx, state, &id, &password, &chooser).await?)
        }
    };
    join(ctx, state, acceptance, open, known).await
}

/// Tells the log of the tenant that has sent the invitation where a password was not the account's.
///
/// The entry is about the invitation. Whose account it is, that tenant learns when the person joins; and nothing is looked up for
/// it, so one that is disabled is told, and takes as long, as any other. Who has to wait is not told: what used up the attempts may
/// have been log-ins, and those are nothing to a tenant that the person is not in.
fn tell(ctx: &Ctx, state: &State, open: &Open, error: &Error) {
    if matches!(error, Error::LoginFailed) {
        let failed = Failed {
            rpc: ACCEPT,
            reason: Reason::LoginFailed,
            target: open.id.to_string(),
        };
        failed::tell(ctx, state, Some(open.tenant), &failed);
    }
}

/// Compares the password with the account's. Whoever holds the link may guess here as at a log-in, and is counted as there,
/// the owner at a device that is known alone.
async fn prove(
    ctx: &Ctx,
    state: &State,
    acceptance: &Acceptance,
    open: &Open,
    account: Account,
) -> Result<Known, Error> {
    let email: Email = open.email.parse().map_err(Error::fault)?;
    let mut conn = state.connection().await?;
    let (attempted, _) = attempt::begin(ctx, &mut conn, &email, acceptance.device.as_ref()).await?;
    // Hashing takes long: no connection waits for it.
    drop(conn);
    let (password, hash) = (&acceptance.password, account.password_hash);
    let right = attempt::verify(ctx, state, &attempted, password, Some(hash.clone())).await?;
    if !right || !account.active {
        return Err(Error::LoginFailed);
    }
    // No second factor is shown here: how many codes were wrong at log-ins is not forgotten for a password.
    attempt::give_back(&mut *state.connection().await?, &attempted).await?;
    Ok(Known::Yes(account.id, hash))
}

/// Whether the address has an account, whose password was right for this hash, or gets one with this hash.
enum Known {
    Yes(UserId, String),
    No(String),
}

/// Holds the account, or makes it, before anything else is locked: who has the address meanwhile is waited for. Whose it is, and
/// whether it is new; `None` where an account came into being meanwhile, or has another address by now.
async fn settle(
    conn: &mut PgConnection,
    acceptance: &Acceptance,
    email: &Email,
    known: Known,
) -> Result<Option<(UserId, bool)>, Error> {
    match known {
        Known::Yes(user, hash) => {
            if !identity::hold(conn, user, Some(&hash)).await? {
                return Err(Error::LoginFailed);
            }
            // The tenant's policy is asked about the address that was invited: it must be the account's still.
            let now = identity::account_at(conn, email.as_str()).await?;
            Ok(now.filter(|now| now.id == user).map(|now| (now.id, false)))
        }
        Known::No(password_hash) => {
            let new = NewIdentity {
                id: UserId::generate(),
                email,
                display_name: &acceptance.display_name,
                password_hash: &password_hash,
            };
            let inserted = identity::insert(conn, &new).await?;
            Ok(inserted.then_some((new.id, true)))
        }
    }
}

/// Makes the person a member. `None` where an account came into being meanwhile, or has another address by now.
async fn join(
    ctx: &Ctx,
    state: &State,
    acceptance: &Acceptance,
    open: &Open,
    known: Known,
) -> Result<Option<Joined>, Error> {
    let email: Email = open.email.parse().map_err(Error::fault)?;
    let mut tx = state.begin().await?;
    let Some((user, is_new)) = settle(&mut tx, acceptance, &email, known).await? else {
        return Ok(None);
    };
    let applied = tenant::lock(&mut tx, open.tenant)
        .await?
        .ok_or(Error::InvitationInvalid)?;
    if applied.access == Access::Suspended {
        return Err(Error::TenantSuspended);
    }
    // It may have become stricter since the invitation was sent.
    login_policy::find(&mut tx, open.tenant).await?.admit(&email, "token")?;
    // Of several at once, one finds the invitation open.
    let role = store::lock_open(&mut tx, open.id)
        .await?
        .ok_or(Error::InvitationInvalid)?;
    if is_new {
        let entry = Entry::new("identity.create", user).by(user).within(Some(open.tenant));
        audit::record(&mut tx, ctx, entry).await?;
    }
    member::join(&mut tx, open.tenant, user, &role).await?;
    store::mark_accepted(&mut tx, open.id, user).await?;
    let entry = Entry::new("invitation.accept", open.id)
        .by(user)
        .within(Some(open.tenant))
        .after(json!({ "user": user.to_string(), "role": role.as_str() }));
    audit::record(&mut tx, ctx, entry).await?;
    let version = rights::bump(&mut tx, &[Subject::User(user)]).await?;
    tx.commit().await?;
    // Rights only grew, so nobody waits; but a cached refusal must go.
    state.clock.publish(version);
    Ok(Some(Joined {
        user,
        tenant: open.tenant,
    }))
}

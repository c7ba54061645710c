//! What may be done with members. Whoever changes members of a tenant holds the tenant's row.

use rowhouse_auth_kit::Grants;
use rowhouse_context::{Ctx, Principal};
use rowhouse_db::paging::{Page, PageScope};
use rowhouse_db::requests::Once;
use rowhouse_types::{ApiKeyId, Etag, InvitationId, Limits, TenantId, UserId};
use serde_json::{Map, Value, json};
use sqlx::PgConnection;

use super::{Change, Cursor, Invite, Member, MemberState, store};
use crate::audit::{self, Entry};
use crate::error::Error;
use crate::handed_on::Ended;
use crate::invitation::{self, Draft, Invitation};
use crate::login_policy;
use crate::request;
use crate::rights::{self, Subject, Version};
use crate::role::{self, TenantRole};
use crate::session::EndReason;
use crate::state::State;
use crate::{service_account, session, tenant};

/// Invites somebody by mail.
pub(crate) async fn invite(ctx: &Ctx, state: &State, invite: &Invite) -> Result<Invitation, Error> {
    let tenant = ctx.tenant()?;
    // Before the transaction: a question to another service must not hold a connection.
    let limits = state.limits.limits(ctx, tenant).await;
    let mut tx = state.begin().await?;
    tenant::lock(&mut tx, tenant).await?.ok_or(Error::TenantNotReady)?;
    may_give(&mut tx, ctx, tenant, &invite.role, "role").await?;
    login_policy::find(&mut tx, tenant)
        .await?
        .admit(&invite.email, "email")?;
    let id = InvitationId::generate();
    let once = recognised_by(ctx, invite);
    if let Some(earlier) = request::made_before(&mut tx, tenant, once.as_ref(), id.uuid()).await? {
        let sent = invitation::find(&mut tx, tenant, InvitationId::from_uuid(earlier)).await?;
        return sent.ok_or_else(|| Error::fault("the invitation of a repeated call is gone"));
    }
    if store::has_address(&mut tx, tenant, invite.email.as_str()).await? {
        return Err(Error::MemberExists);
    }
    // The tenant's lock puts its invitations in order, so that the count is exact.
    if let Some(most) = limits.seats
        && store::seats_taken(&mut tx, tenant, &invite.email).await? >= i64::from(most)
    {
        let limit = "seats";
        return Err(Error::QuotaExceeded { tenant, limit, most });
    }
    may_mail(&mut tx, tenant, &limits).await?;
    let draft = Draft {
        id,
        tenant,
        email: &invite.email,
        role: &invite.role,
        invited_by: sender(ctx),
        operation: None,
    };
    let sent = invitation::issue(&mut tx, ctx, state, &draft).await?;
    tx.commit().await?;
    state.wake.notify();
    Ok(sent)
}

/// The member or operator who sends an invitation, which ends with their role.
fn sender(ctx: &Ctx) -> Option<UserId> {
    match ctx.principal() {
        Principal::Member { user, .. } | Principal::Operator { user, .. } => Some(*user),
        _ => None,
    }
}

/// Refuses an invitation that would be a mail more than the plan allows.
async fn may_mail(conn: &mut PgConnection, tenant: TenantId, limits: &Limits) -> Result<(), Error> {
    let limit = "mails_per_day";
    match limits.mails_per_day {
        Some(most) if invitation::sent_within_a_day(conn, tenant).await? >= i64::from(most) => {
            Err(Error::QuotaExceeded { tenant, limit, most })
        }
        _ => Ok(()),
    }
}

/// How a call that names a request id is recognised when it comes again, in the form that older code wrote too.
fn recognised_by(ctx: &Ctx, invite: &Invite) -> Option<Once> {
    let asked = format!("{}|{}|{}", ctx.principal().actor(), invite.email.key(), invite.role);
    invite.request.map(|key| Once::new("InviteMember", key, &asked))
}

/// What a role gives, where the caller holds all of it now. `field`: path of the field that names the role.
pub(crate) async fn may_give(
    conn: &mut PgConnection,
    ctx: &Ctx,
    tenant: TenantId,
    role: &TenantRole,
    field: &'static str,
) -> Result<Grants, Error> {
    let given = role::grants(conn, tenant, role).await?;
    let given = given.ok_or(Error::RoleUnknown { field })?;
    role::covers(&role::actions::held(conn, ctx, tenant).await?, &given)?;
    Ok(given)
}

/// One member.
pub(crate) async fn get(ctx: &Ctx, state: &State, user: UserId) -> Result<Member, Error> {
    let tenant = ctx.tenant()?;
    let member = store::find(&mut *state.connection().await?, tenant, user).await?;
    member.ok_or_else(|| not_found(user))
}

/// A page of members, the earliest first.
///
/// `role`: only those who have it. `size`: how many. `token`: of the page before, or empty.
pub(crate) async fn list(
    ctx: &Ctx,
    state: &State,
    role: Option<&TenantRole>,
    size: u32,
    token: &str,
) -> Result<Page<Member>, Error> {
    let tenant = ctx.tenant()?;
    let mut scope = scope(ctx, tenant, "ListMembers");
    scope.fingerprint = role.map(|role| role.as_str().into()).unwrap_or_default();
    let paging = state.pages.begin(scope, size, token).map_err(|_| Error::PageToken)?;
    let mut conn = state.connection().await?;
    let members = store::page(&mut conn, tenant, role, paging.after(), paging.limit()).await?;
    Ok(paging.finish(members, |last| Cursor {
        created: last.created,
        user: last.user,
    }))
}

/// What all pages of one of the caller's lists have in common.
fn scope(ctx: &Ctx, tenant: TenantId, method: &'static str) -> PageScope {
    PageScope {
        method,
        tenant: Some(tenant),
        user: ctx.principal().user(),
        fingerprint: Vec::new(),
    }
}

/// A page of the invitations that can be accepted, the earliest first.
///
/// `size`: how many. `token`: of the page before, or empty.
pub(crate) async fn invitations(ctx: &Ctx, state: &State, size: u32, token: &str) -> Result<Page<Invitation>, Error> {
    let tenant = ctx.tenant()?;
    let scope = scope(ctx, tenant, "ListInvitations");
    let paging = state.pages.begin(scope, size, token).map_err(|_| Error::PageToken)?;
    let mut conn = state.connection().await?;
    let open = invitation::open_page(&mut conn, tenant, paging.after(), paging.limit()).await?;
    Ok(paging.finish(open, |last: &Invitation| invitation::Cursor {
        created: last.created,
        id: last.id,
    }))
}

/// Sends a new link in place of an invitation's old one, which becomes worthless. It takes the old one's seat.
pub(crate) async fn resend(ctx: &Ctx, state: &State, id: InvitationId) -> Result<Invitation, Error> {
    let tenant = ctx.tenant()?;
    // Before the transaction: a question to another service must not hold a connection.
    let limits = state.limits.limits(ctx, tenant).await;
    let mut tx = state.begin().await?;
    tenant::lock(&mut tx, tenant).await?.ok_or(Error::TenantNotReady)?;
    let open = invitation::find_open(&mut tx, tenant, id).await?;
    let open = open.ok_or_else(|| no_invitation(id))?;
    may_give(&mut tx, ctx, tenant, &open.role, "invitation_id").await?;
    may_mail(&mut tx, tenant, &limits).await?;
    let email = open.email.parse().map_err(Error::fault)?;
    login_policy::find(&mut tx, tenant)
        .await?
        .admit(&email, "invitation_id")?;
    let draft = Draft {
        id: InvitationId::generate(),
        tenant,
        email: &email,
        role: &open.role,
        invited_by: sender(ctx),
        operation: None,
    };
    let sent = invitation::issue(&mut tx, ctx, state, &draft).await?;
    tx.commit().await?;
    state.wake.notify();
    Ok(sent)
}

/// Makes an invitation's link worthless.
pub(crate) async fn revoke_invitation(ctx: &Ctx, state: &State, id: InvitationId) -> Result<(), Error> {
    let tenant = ctx.tenant()?;
    let mut tx = state.begin().await?;
    tenant::lock(&mut tx, tenant).await?.ok_or(Error::TenantNotReady)?;
    let open = invitation::find_open(&mut tx, tenant, id).await?;
    let open = open.ok_or_else(|| no_invitation(id))?;
    invitation::revoke(&mut tx, id).await?;
    let entry = Entry::new("invitation.revoke", id).before(json!({ "role": open.role.as_str() }));
    audit::record(&mut tx, ctx, entry).await?;
    tx.commit().await?;
    Ok(())
}

fn no_invitation(id: InvitationId) -> Error {
    Error::NotFound {
        kind: "invitation",
        id: id.to_string(),
    }
}

/// Changes a member's role or state, and answers when no service honours the old rights any more.
pub(crate) async fn update(ctx: &Ctx, state: &State, change: &Change) -> Result<Member, Error> {
    let tenant = ctx.tenant()?;
    let mut tx = state.begin().await?;
    tenant::lock(&mut tx, tenant).await?.ok_or(Error::TenantNotReady)?;
    let member = store::find(&mut tx, tenant, change.user)
        .await?
        .ok_or_else(|| not_found(change.user))?;
    let others = store::other_administrators(&mut tx, tenant, change.user).await?;
    let mut changed = member.changed(change, others)?;
    if changed == member {
        tx.rollback().await?;
        // A repeated call finds its change made, and must not answer before the first one might have.
        state.clock.acknowledge_all(ctx).await?;
        return Ok(member);
    }
    let given = may_give(&mut tx, ctx, tenant, &changed.role, "member.role").await?;
    // Who may not give a role may not take it either.
    let before = may_give(&mut tx, ctx, tenant, &member.role, "member.user_id").await?;
    // What the member has sent must not give what they may no longer give.
    let shrinks = given != before && !given.covers(&before);
    let ended = if changed.state == MemberState::Disabled || shrinks {
        // Invitations before keys, as everybody locks them.
        Ended {
            invitations: invitation::revoke_of_sender(&mut tx, tenant, member.user, None).await?,
            keys: service_account::revoke_keys_made_by(&mut tx, tenant, member.user).await?,
        }
    } else {
        Ended::default()
    };
    changed.etag = store::update(&mut tx, tenant, &changed).await?;
    if changed.state == MemberState::Disabled {
        session::end_of_member(&mut tx, ctx, member.user, tenant, EndReason::MemberDisabled).await?;
    }
    let entry = Entry::new("member.update", member.user)
        .before(Value::Object(facts(&member)))
        .after(ended.beside(facts(&changed)));
    audit::record(&mut tx, ctx, entry).await?;
    let version = rights::bump(&mut tx, &with_keys([Subject::User(member.user)], &ended.keys)).await?;
    tx.commit().await?;
    state.clock.acknowledge(ctx, version).await?;
    Ok(changed)
}

/// Takes a member out of the tenant, and answers when no service honours the old rights any more. The account stays.
pub(crate) async fn remove(ctx: &Ctx, state: &State, user: UserId, etag: Option<Etag>) -> Result<(), Error> {
    let tenant = ctx.tenant()?;
    let mut tx = state.begin().await?;
    tenant::lock(&mut tx, tenant).await?.ok_or(Error::TenantNotReady)?;
    let member = store::find(&mut tx, tenant, user).await?;
    let member = member.ok_or_else(|| not_found(user))?;
    if etag.is_some_and(|etag| etag != member.etag) {
        return Err(Error::EtagMismatch);
    }
    // Who may not give a role may not take it either.
    may_give(&mut tx, ctx, tenant, &member.role, "user_id").await?;
    let version = end(&mut tx, ctx, tenant, &member, "member.remove").await?;
    tx.commit().await?;
    state.clock.acknowledge(ctx, version).await
}

/// Ends the caller's own membership, as [`remove`] ends another's.
///
/// `named`: the tenant that the caller means; it must be the one that they are logged in to. There what it asks of log-ins holds.
pub(crate) async fn leave(ctx: &Ctx, state: &State, named: TenantId) -> Result<(), Error> {
    let Principal::Member { user, tenant, .. } = *ctx.principal() else {
        return Err(Error::NotAMember);
    };
    if named != tenant {
        return Err(Error::Field {
            field: "tenant_id",
            description: "must be the tenant that the access token is for".to_owned(),
        });
    }
    let mut tx = state.begin().await?;
    tenant::lock(&mut tx, tenant).await?.ok_or(Error::TenantNotReady)?;
    // The session holds still. It is not asked what the caller may hand on: their role goes to nobody.
    role::actions::held(&mut tx, ctx, tenant).await?;
    // A program has rights as members have, and is none.
    let member = store::find(&mut tx, tenant, user).await?.ok_or(Error::NotAMember)?;
    let version = end(&mut tx, ctx, tenant, &member, "member.leave").await?;
    tx.commit().await?;
    state.clock.acknowledge(ctx, version).await
}

/// Ends a membership, with everything that goes with it and is not the account's; to be acknowledged when it is committed. The
/// tenant's lock is held. Where the tenant would be left without an administrator it refuses, whoever ends it.
///
/// `action`: what the audit log calls it.
async fn end(
    conn: &mut PgConnection,
    ctx: &Ctx,
    tenant: TenantId,
    member: &Member,
    action: &'static str,
) -> Result<Version, Error> {
    let user = member.user;
    member.may_stop_administering(store::other_administrators(conn, tenant, user).await?)?;
    // Invitations before keys, as everybody locks them.
    let ended = Ended {
        invitations: invitation::revoke_of_sender(conn, tenant, user, Some(&member.email)).await?,
        keys: service_account::revoke_keys_made_by(conn, tenant, user).await?,
    };
    let has_left_teams = store::remove(conn, tenant, user).await?;
    session::end_of_member(conn, ctx, user, tenant, EndReason::MemberRemoved).await?;
    let entry = Entry::new(action, user)
        .before(Value::Object(facts(member)))
        .after(ended.alone());
    audit::record(conn, ctx, entry).await?;
    // Those above and beside them in teams reach their records no more.
    let others = has_left_teams.then_some(Subject::Tenant(tenant));
    let subjects = with_keys([Subject::User(user)].into_iter().chain(others), &ended.keys);
    rights::bump(conn, &subjects).await
}

/// Whose rights change, with those of the keys that end.
pub(crate) fn with_keys(subjects: impl IntoIterator<Item = Subject>, keys: &[ApiKeyId]) -> Vec<Subject> {
    let keys = keys
        .iter()
        .map(|key| Subject::Session(service_account::session_of(*key)));
    subjects.into_iter().chain(keys).collect()
}

/// Refuses who is no member of the tenant.
pub(crate) async fn must_be(conn: &mut PgConnection, tenant: TenantId, user: UserId) -> Result<(), Error> {
    let member = store::find(conn, tenant, user).await?;
    member.map(drop).ok_or_else(|| not_found(user))
}

/// What the audit log says of a member.
fn facts(member: &Member) -> Map<String, Value> {
    Map::from_iter([
        ("role".to_owned(), member.role.as_str().into()),
        ("state".to_owned(), member.state.as_str().into()),
    ])
}

fn not_found(user: UserId) -> Error {
    Error::NotFound {
        kind: "member",
        id: user.to_string(),
    }
}

//! What may be done with members. Whoever changes members of a tenant holds the tenant's row.

use rowhouse_auth_kit::{Grants, Role};
use rowhouse_context::Ctx;
use rowhouse_types::{InvitationId, TenantId, UserId};
use serde_json::json;
use sqlx::PgConnection;

use super::{Change, Cursor, Invite, Member, MemberState, Page, store};
use crate::audit::{self, Entry};
use crate::error::Error;
use crate::invitation::{self, Draft, Invitation};
use crate::request::{self, Claim, Claimed};
use crate::rights::{self, Query, Rights, Standing, Subject};
use crate::state::State;
use crate::{random, session, tenant};

/// Invites somebody by mail.
pub(crate) async fn invite(ctx: &Ctx, state: &State, invite: &Invite) -> Result<Invitation, Error> {
    let tenant = ctx.tenant()?;
    // Before the transaction: a question to another service must not hold a connection.
    let limits = state.limits.limits(ctx, tenant).await;
    let mut tx = state.begin().await?;
    tenant::lock(&mut tx, tenant).await?.ok_or(Error::TenantNotReady)?;
    may_give(&mut tx, ctx, tenant, invite.role).await?;
    let claim = claim(ctx, tenant, invite);
    if let Some(claim) = &claim {
        match request::claim(&mut tx, claim).await? {
            Claimed::First => {}
            Claimed::Reused => return Err(Error::RequestIdReused),
            Claimed::Repeated(id) => {
                let sent = invitation::find(&mut tx, tenant, InvitationId::from_uuid(id)).await?;
                return sent.ok_or_else(|| Error::fault("the invitation of a repeated call is gone"));
            }
        }
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
    if let Some(most) = limits.mails_per_day
        && invitation::sent_within_a_day(&mut tx, tenant).await? >= i64::from(most)
    {
        let limit = "mails_per_day";
        return Err(Error::QuotaExceeded { tenant, limit, most });
    }
    let draft = Draft {
        id: claim.map_or_else(InvitationId::generate, |claim| InvitationId::from_uuid(claim.resource)),
        tenant,
        email: &invite.email,
        role: invite.role,
        operation: None,
    };
    let sent = invitation::issue(&mut tx, ctx, state, &draft).await?;
    tx.commit().await?;
    state.wake.notify();
    Ok(sent)
}

/// How a call that names a request id is recognised when it comes again.
fn claim(ctx: &Ctx, tenant: TenantId, invite: &Invite) -> Option<Claim> {
    let asked = format!("{}|{}|{}", ctx.principal().actor(), invite.email.key(), invite.role);
    invite.request.map(|request| Claim {
        tenant,
        method: "InviteMember",
        request,
        fingerprint: random::sha256(&asked),
        resource: InvitationId::generate().uuid(),
    })
}

/// Whether the caller holds, now, everything that a role gives.
async fn may_give(conn: &mut PgConnection, ctx: &Ctx, tenant: TenantId, role: Role) -> Result<(), Error> {
    let query = Query::of(ctx.principal(), Some(tenant)).ok_or(Error::Revoked)?;
    let facts = rights::read(conn, &query).await?;
    let rights = Rights::judge(&query, &facts);
    match rights.standing {
        Standing::Good => covers(&rights.grants(), &role.grants()),
        Standing::Revoked => Err(Error::Revoked),
        Standing::TenantSuspended => Err(Error::TenantSuspended),
        Standing::TenantUnknown => Err(Error::TenantNotReady),
    }
}

fn covers(held: &Grants, given: &Grants) -> Result<(), Error> {
    let lacking = given
        .iter()
        .find(|grant| !held.covers(&Grants::from_iter([(*grant).clone()])));
    lacking.map_or(Ok(()), |grant| {
        let permission = grant.to_string();
        Err(Error::RoleNotCovered { permission })
    })
}

/// One member.
pub(crate) async fn get(ctx: &Ctx, state: &State, user: UserId) -> Result<Member, Error> {
    let tenant = ctx.tenant()?;
    let member = store::find(&mut *state.connection().await?, tenant, user).await?;
    member.ok_or_else(|| not_found(user))
}

/// A page of members, the earliest first. `size`: at least 1.
pub(crate) async fn list(ctx: &Ctx, state: &State, cursor: Option<Cursor>, size: u32) -> Result<Page, Error> {
    let tenant = ctx.tenant()?;
    // One more than asked for tells whether there is a next page.
    let limit = i64::from(size).saturating_add(1);
    let mut members = store::page(&mut *state.connection().await?, tenant, cursor, limit).await?;
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    let more = members.len() > size;
    members.truncate(size);
    let next = members.last().filter(|_| more).map(|last| Cursor {
        created: last.created,
        user: last.user,
    });
    Ok(Page { members, next })
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
    may_give(&mut tx, ctx, tenant, changed.role).await?;
    changed.etag = store::update(&mut tx, tenant, &changed).await?;
    if changed.state == MemberState::Disabled {
        session::end_of_member(&mut tx, member.user, tenant).await?;
    }
    let facts = |member: &Member| json!({ "role": member.role.as_str(), "state": member.state.as_str() });
    let entry = Entry::new("member.update", member.user)
        .before(facts(&member))
        .after(facts(&changed));
    audit::record(&mut tx, ctx, entry).await?;
    let version = rights::bump(&mut tx, &[Subject::User(member.user)]).await?;
    tx.commit().await?;
    state.clock.acknowledge(ctx, version).await?;
    Ok(changed)
}

fn not_found(user: UserId) -> Error {
    Error::NotFound {
        kind: "member",
        id: user.to_string(),
    }
}

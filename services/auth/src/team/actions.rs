//! What may be done with teams. Whoever changes teams of a tenant holds the tenant's row, as who changes its members does.

use chrono::{DateTime, Utc};
use rowhouse_auth_kit::{Grants, Scope};
use rowhouse_context::Ctx;
use rowhouse_db::paging::{Page, PageScope};
use rowhouse_db::requests::Once;
use rowhouse_types::{Etag, TeamId, TenantId, UserId};
use serde_json::{Value, json};
use sqlx::{PgConnection, Postgres, Transaction};

use super::{Change, MEMBERS_MAX, NewTeam, Obstacle, TEAMS_MAX, Team, TeamMember, store};
use crate::audit::{self, Entry};
use crate::error::Error;
use crate::rights::{self, Subject};
use crate::state::State;
use crate::{member, request, role, tenant};

/// Adds a team. It has nobody in it, so it changes nobody's rights.
pub(crate) async fn create(ctx: &Ctx, state: &State, new: &NewTeam) -> Result<Team, Error> {
    let tenant = ctx.tenant()?;
    let mut tx = state.begin().await?;
    tenant::lock(&mut tx, tenant).await?.ok_or(Error::TenantNotReady)?;
    let id = TeamId::generate();
    let once = recognised_by(ctx, new);
    if let Some(earlier) = request::made_before(&mut tx, tenant, once.as_ref(), id.uuid()).await? {
        return find(&mut tx, tenant, TeamId::from_uuid(earlier)).await;
    }
    let (tree, count) = store::tree(&mut tx, tenant).await?;
    if u32::try_from(count).is_ok_and(|count| count >= TEAMS_MAX) {
        return Err(Obstacle::TooMany.into());
    }
    if let Some(parent) = new.parent {
        find(&mut tx, tenant, parent).await?;
    }
    tree.admits(id, new.parent)?;
    if !store::insert(&mut tx, tenant, id, new).await? {
        return Err(Error::TeamExists);
    }
    let team = find(&mut tx, tenant, id).await?;
    audit::record(&mut tx, ctx, Entry::new("team.create", id).after(facts(&team))).await?;
    tx.commit().await?;
    Ok(team)
}

/// One team.
pub(crate) async fn get(ctx: &Ctx, state: &State, id: TeamId) -> Result<Team, Error> {
    find(&mut *state.connection().await?, ctx.tenant()?, id).await
}

/// A page of teams, the earliest first.
///
/// `size`: how many. `token`: of the page before, or empty.
pub(crate) async fn list(ctx: &Ctx, state: &State, size: u32, token: &str) -> Result<Page<Team>, Error> {
    let tenant = ctx.tenant()?;
    let scope = scope(ctx, tenant, "ListTeams", Vec::new());
    let paging = state.pages.begin(scope, size, token).map_err(|_| Error::PageToken)?;
    let mut conn = state.connection().await?;
    let teams = store::page(&mut conn, tenant, paging.after().copied(), paging.limit()).await?;
    Ok(paging.finish(teams, |last| last.id))
}

/// A page of those in a team, the earliest first.
///
/// `size`: how many. `token`: of the page before, or empty.
pub(crate) async fn members(
    ctx: &Ctx,
    state: &State,
    id: TeamId,
    size: u32,
    token: &str,
) -> Result<Page<TeamMember>, Error> {
    let tenant = ctx.tenant()?;
    let scope = scope(ctx, tenant, "ListTeamMembers", id.to_string().into_bytes());
    let paging = state.pages.begin::<(DateTime<Utc>, UserId)>(scope, size, token);
    let paging = paging.map_err(|_| Error::PageToken)?;
    let mut conn = state.connection().await?;
    find(&mut conn, tenant, id).await?;
    let members = store::members(&mut conn, tenant, id, paging.after().copied(), paging.limit()).await?;
    Ok(paging.finish(members, |last| (last.created, last.user)))
}

/// Renames or moves a team. Where it moves, it answers when no service honours the old place any more.
pub(crate) async fn update(ctx: &Ctx, state: &State, change: &Change) -> Result<Team, Error> {
    let tenant = ctx.tenant()?;
    let mut tx = state.begin().await?;
    tenant::lock(&mut tx, tenant).await?.ok_or(Error::TenantNotReady)?;
    let team = unchanged(&mut tx, tenant, change.id, change.etag).await?;
    let changed = Team {
        name: change
            .name
            .as_ref()
            .map_or_else(|| team.name.clone(), ToString::to_string),
        parent: change.parent.unwrap_or(team.parent),
        ..team.clone()
    };
    if changed == team {
        tx.rollback().await?;
        // A repeated call finds its change made, and must not answer before the first one might have.
        state.clock.acknowledge_all(ctx).await?;
        return Ok(team);
    }
    if store::name_taken(&mut tx, tenant, team.id, &changed.name).await? {
        return Err(Error::TeamExists);
    }
    let is_moved = changed.parent != team.parent;
    if is_moved {
        may_reorganise(&mut tx, ctx, tenant).await?;
        if let Some(parent) = changed.parent {
            find(&mut tx, tenant, parent).await?;
        }
        store::tree(&mut tx, tenant).await?.0.admits(team.id, changed.parent)?;
    }
    store::update(&mut tx, tenant, &changed).await?;
    let after = find(&mut tx, tenant, team.id).await?;
    let entry = Entry::new("team.update", team.id)
        .before(facts(&team))
        .after(facts(&after));
    audit::record(&mut tx, ctx, entry).await?;
    if is_moved {
        settle(ctx, state, tx, tenant).await?;
    } else {
        tx.commit().await?;
    }
    Ok(after)
}

/// Removes a team, and answers when no service honours it any more.
pub(crate) async fn delete(ctx: &Ctx, state: &State, id: TeamId, etag: Option<Etag>) -> Result<(), Error> {
    let tenant = ctx.tenant()?;
    let mut tx = state.begin().await?;
    tenant::lock(&mut tx, tenant).await?.ok_or(Error::TenantNotReady)?;
    let team = unchanged(&mut tx, tenant, id, etag).await?;
    may_reorganise(&mut tx, ctx, tenant).await?;
    match store::beneath(&mut tx, tenant, id).await? {
        0 => {}
        teams => return Err(Obstacle::HasTeams(teams).into()),
    }
    store::delete(&mut tx, tenant, id).await?;
    audit::record(&mut tx, ctx, Entry::new("team.delete", id).before(facts(&team))).await?;
    settle(ctx, state, tx, tenant).await
}

/// Takes a member of the tenant into a team, or changes whether they manage it; answers when every service knows.
pub(crate) async fn set_member(
    ctx: &Ctx,
    state: &State,
    id: TeamId,
    user: UserId,
    manages: bool,
) -> Result<TeamMember, Error> {
    let tenant = ctx.tenant()?;
    let mut tx = state.begin().await?;
    tenant::lock(&mut tx, tenant).await?.ok_or(Error::TenantNotReady)?;
    find(&mut tx, tenant, id).await?;
    member::actions::must_be(&mut tx, tenant, user).await?;
    may_reorganise(&mut tx, ctx, tenant).await?;
    let before = store::find_member(&mut tx, tenant, id, user).await?;
    if let Some(known) = before.filter(|known| known.manages == manages) {
        tx.rollback().await?;
        state.clock.acknowledge_all(ctx).await?;
        return Ok(known);
    }
    if before.is_none() && store::all_members(&mut tx, tenant).await? >= i64::from(MEMBERS_MAX) {
        return Err(Obstacle::Full.into());
    }
    let after = store::set_member(&mut tx, tenant, id, user, manages).await?;
    let entry = Entry::new("team.set_member", id).after(member_facts(&after));
    let entry = match &before {
        Some(before) => entry.before(member_facts(before)),
        None => entry,
    };
    audit::record(&mut tx, ctx, entry).await?;
    settle(ctx, state, tx, tenant).await?;
    Ok(after)
}

/// Takes somebody out of a team, and answers when no service honours it any more.
pub(crate) async fn remove_member(ctx: &Ctx, state: &State, id: TeamId, user: UserId) -> Result<(), Error> {
    let tenant = ctx.tenant()?;
    let mut tx = state.begin().await?;
    tenant::lock(&mut tx, tenant).await?.ok_or(Error::TenantNotReady)?;
    find(&mut tx, tenant, id).await?;
    may_reorganise(&mut tx, ctx, tenant).await?;
    let member = store::find_member(&mut tx, tenant, id, user).await?;
    let member = member.ok_or_else(|| Error::NotFound {
        kind: "team member",
        id: user.to_string(),
    })?;
    store::remove_member(&mut tx, tenant, id, user).await?;
    let entry = Entry::new("team.remove_member", id).before(member_facts(&member));
    audit::record(&mut tx, ctx, entry).await?;
    settle(ctx, state, tx, tenant).await
}

/// Commits a change of whose records `@team` reaches, and waits until no service honours what was before. Whom it
/// concerns is everybody in the tenant: who is above and beside whom is not worth knowing for so rare a change.
async fn settle(
    ctx: &Ctx,
    state: &State,
    mut tx: Transaction<'static, Postgres>,
    tenant: TenantId,
) -> Result<(), Error> {
    let version = rights::bump(&mut tx, &[Subject::Tenant(tenant)]).await?;
    tx.commit().await?;
    state.clock.acknowledge(ctx, version).await
}

/// Refuses who does not hold, for everybody's records, what members hold for their teams': moving people between teams
/// gives and takes that.
async fn may_reorganise(conn: &mut PgConnection, ctx: &Ctx, tenant: TenantId) -> Result<(), Error> {
    let held = role::actions::held(conn, ctx, tenant).await?;
    for grants in role::held_by_members(conn, tenant).await? {
        let of_teams: Grants = grants
            .iter()
            .filter(|grant| grant.scope() == Scope::Team)
            .cloned()
            .collect();
        if let Some(lacking) = of_teams
            .iter()
            .find(|grant| !held.covers(&Grants::from_iter([(*grant).clone()])))
        {
            return Err(Error::TeamsNotCovered {
                permission: lacking.to_string(),
            });
        }
    }
    Ok(())
}

/// How a call that names a request id is recognised when it comes again.
fn recognised_by(ctx: &Ctx, new: &NewTeam) -> Option<Once> {
    let content = json!([new.name.as_str(), new.parent]);
    request::recognised_by(ctx, "CreateTeam", new.request, &content)
}

async fn find(conn: &mut PgConnection, tenant: TenantId, id: TeamId) -> Result<Team, Error> {
    let team = store::find(conn, tenant, id).await?;
    team.ok_or_else(|| Error::NotFound {
        kind: "team",
        id: id.to_string(),
    })
}

/// A team that has not changed since its etag was issued, where one is given.
async fn unchanged(conn: &mut PgConnection, tenant: TenantId, id: TeamId, etag: Option<Etag>) -> Result<Team, Error> {
    let team = find(conn, tenant, id).await?;
    if etag.is_some_and(|etag| etag != team.etag) {
        return Err(Error::EtagMismatch);
    }
    Ok(team)
}

/// What all pages of one of the caller's lists have in common.
fn scope(ctx: &Ctx, tenant: TenantId, method: &'static str, fingerprint: Vec<u8>) -> PageScope {
    PageScope {
        method,
        tenant: Some(tenant),
        user: ctx.principal().user(),
        fingerprint,
    }
}

/// What the audit log says of a team.
fn facts(team: &Team) -> Value {
    json!({ "display_name": team.name, "parent_id": team.parent })
}

fn member_facts(member: &TeamMember) -> Value {
    json!({ "user_id": member.user, "manager": member.manages })
}

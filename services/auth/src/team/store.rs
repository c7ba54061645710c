//! SQL of teams.

use chrono::{DateTime, Utc};
use rowhouse_types::{Etag, TeamId, TenantId, UserId};
use sqlx::PgConnection;
use uuid::Uuid;

use super::tree::Tree;
use super::{NewTeam, Team, TeamMember};
use crate::error::Error;

const INSERT: &str = "INSERT INTO auth.teams (tenant_id, id, display_name, parent_id) VALUES ($1, $2, $3, $4) \
    ON CONFLICT (tenant_id, name_key) DO NOTHING";

const FIND: &str = "SELECT team.id, team.display_name, team.parent_id, (SELECT count(*) FROM auth.team_members AS member \
        WHERE member.tenant_id = team.tenant_id AND member.team_id = team.id), \
    team.created_at, team.updated_at, team.revision \
    FROM auth.teams AS team WHERE team.tenant_id = $1 AND team.id = $2";

/// Ids begin with the time, so their order is that of creation.
const PAGE: &str = "SELECT team.id, team.display_name, team.parent_id, (SELECT count(*) FROM auth.team_members AS member \
        WHERE member.tenant_id = team.tenant_id AND member.team_id = team.id), \
    team.created_at, team.updated_at, team.revision \
    FROM auth.teams AS team WHERE team.tenant_id = $1 AND ($2::uuid IS NULL OR team.id > $2) ORDER BY team.id LIMIT $3";

/// All of them: their number is bounded.
const TREE: &str = "SELECT id, parent_id FROM auth.teams WHERE tenant_id = $1 LIMIT 1000";

const NAME_TAKEN: &str = "SELECT EXISTS (SELECT FROM auth.teams \
    WHERE tenant_id = $1 AND name_key = lower($3) AND id <> $2)";

const UPDATE: &str = "UPDATE auth.teams SET display_name = $3, parent_id = $4, revision = revision + 1, \
    updated_at = now() WHERE tenant_id = $1 AND id = $2";

const DELETE: &str = "DELETE FROM auth.teams WHERE tenant_id = $1 AND id = $2";

const BENEATH: &str = "SELECT count(*) FROM auth.teams WHERE tenant_id = $1 AND parent_id = $2";

const MEMBERS: &str = "SELECT identity_id, manages, created_at FROM auth.team_members \
    WHERE tenant_id = $1 AND team_id = $2 \
    AND ($3::timestamptz IS NULL OR (created_at, identity_id) > ($3, $4::uuid)) \
    ORDER BY created_at, identity_id LIMIT $5";

const MEMBER: &str = "SELECT identity_id, manages, created_at FROM auth.team_members \
    WHERE tenant_id = $1 AND team_id = $2 AND identity_id = $3";

const ALL_MEMBERS: &str = "SELECT count(*) FROM auth.team_members WHERE tenant_id = $1";

const SET_MEMBER: &str = "INSERT INTO auth.team_members AS member (tenant_id, team_id, identity_id, manages) \
    VALUES ($1, $2, $3, $4) \
    ON CONFLICT (tenant_id, team_id, identity_id) DO UPDATE SET manages = excluded.manages \
    RETURNING identity_id, manages, created_at";

const REMOVE_MEMBER: &str = "DELETE FROM auth.team_members WHERE tenant_id = $1 AND team_id = $2 AND identity_id = $3";

/// All of the above, for the test that prepares them.
#[cfg(test)]
pub(crate) const STATEMENTS: &[&str] = &[
    INSERT,
    FIND,
    PAGE,
    TREE,
    NAME_TAKEN,
    UPDATE,
    DELETE,
    BENEATH,
    MEMBERS,
    MEMBER,
    ALL_MEMBERS,
    SET_MEMBER,
    REMOVE_MEMBER,
];

type Row = (Uuid, String, Option<Uuid>, i64, DateTime<Utc>, DateTime<Utc>, i64);
type MemberRow = (Uuid, bool, DateTime<Utc>);

fn team(row: Row) -> Team {
    let (id, name, parent, members, created, updated, revision) = row;
    Team {
        id: TeamId::from_uuid(id),
        name,
        parent: parent.map(TeamId::from_uuid),
        members,
        created,
        updated,
        etag: Etag::from_revision(revision),
    }
}

fn member((user, manages, created): MemberRow) -> TeamMember {
    TeamMember {
        user: UserId::from_uuid(user),
        manages,
        created,
    }
}

/// Adds a team, unless another of the tenant has the name.
pub(super) async fn insert(
    conn: &mut PgConnection,
    tenant: TenantId,
    id: TeamId,
    new: &NewTeam,
) -> Result<bool, Error> {
    let added = sqlx::query(INSERT)
        .bind(tenant.uuid())
        .bind(id.uuid())
        .bind(new.name.as_str())
        .bind(new.parent.map(|parent| parent.uuid()))
        .execute(conn)
        .await?;
    Ok(added.rows_affected() > 0)
}

pub(super) async fn find(conn: &mut PgConnection, tenant: TenantId, id: TeamId) -> Result<Option<Team>, Error> {
    let row = sqlx::query_as(FIND).bind(tenant.uuid()).bind(id.uuid());
    Ok(row.fetch_optional(conn).await?.map(team))
}

/// At most `limit` teams after `after`, the earliest first.
pub(super) async fn page(
    conn: &mut PgConnection,
    tenant: TenantId,
    after: Option<TeamId>,
    limit: i64,
) -> Result<Vec<Team>, Error> {
    let rows = sqlx::query_as(PAGE)
        .bind(tenant.uuid())
        .bind(after.map(|after| after.uuid()))
        .bind(limit);
    Ok(rows.fetch_all(conn).await?.into_iter().map(team).collect())
}

/// Where every team of a tenant stands, and how many there are; to be read under the tenant's lock.
pub(super) async fn tree(conn: &mut PgConnection, tenant: TenantId) -> Result<(Tree, usize), Error> {
    let rows: Vec<(Uuid, Option<Uuid>)> = sqlx::query_as(TREE).bind(tenant.uuid()).fetch_all(conn).await?;
    let count = rows.len();
    let place = |(id, parent): (Uuid, Option<Uuid>)| (TeamId::from_uuid(id), parent.map(TeamId::from_uuid));
    Ok((rows.into_iter().map(place).collect(), count))
}

/// Whether another team of the tenant has a name; to be read under the tenant's lock.
pub(super) async fn name_taken(
    conn: &mut PgConnection,
    tenant: TenantId,
    id: TeamId,
    name: &str,
) -> Result<bool, Error> {
    let taken = sqlx::query_scalar(NAME_TAKEN).bind(tenant.uuid()).bind(id.uuid());
    Ok(taken.bind(name).fetch_one(conn).await?)
}

/// Writes a team's name and place.
pub(super) async fn update(conn: &mut PgConnection, tenant: TenantId, team: &Team) -> Result<(), Error> {
    sqlx::query(UPDATE)
        .bind(tenant.uuid())
        .bind(team.id.uuid())
        .bind(&team.name)
        .bind(team.parent.map(|parent| parent.uuid()))
        .execute(conn)
        .await?;
    Ok(())
}

/// Removes a team, and everybody from it.
pub(super) async fn delete(conn: &mut PgConnection, tenant: TenantId, id: TeamId) -> Result<(), Error> {
    let deleted = sqlx::query(DELETE).bind(tenant.uuid()).bind(id.uuid());
    deleted.execute(conn).await?;
    Ok(())
}

/// How many teams are right beneath one; to be read under the tenant's lock.
pub(super) async fn beneath(conn: &mut PgConnection, tenant: TenantId, id: TeamId) -> Result<i64, Error> {
    let count = sqlx::query_scalar(BENEATH).bind(tenant.uuid()).bind(id.uuid());
    Ok(count.fetch_one(conn).await?)
}

/// At most `limit` of those in a team after `after`, the earliest first.
pub(super) async fn members(
    conn: &mut PgConnection,
    tenant: TenantId,
    id: TeamId,
    after: Option<(DateTime<Utc>, UserId)>,
    limit: i64,
) -> Result<Vec<TeamMember>, Error> {
    let rows = sqlx::query_as(MEMBERS)
        .bind(tenant.uuid())
        .bind(id.uuid())
        .bind(after.map(|(created, _)| created))
        .bind(after.map(|(_, user)| user.uuid()))
        .bind(limit);
    Ok(rows.fetch_all(conn).await?.into_iter().map(member).collect())
}

/// Somebody in a team.
pub(super) async fn find_member(
    conn: &mut PgConnection,
    tenant: TenantId,
    id: TeamId,
    user: UserId,
) -> Result<Option<TeamMember>, Error> {
    let row = sqlx::query_as(MEMBER).bind(tenant.uuid()).bind(id.uuid());
    Ok(row.bind(user.uuid()).fetch_optional(conn).await?.map(member))
}

/// How many members all teams of a tenant have; to be read under the tenant's lock.
pub(super) async fn all_members(conn: &mut PgConnection, tenant: TenantId) -> Result<i64, Error> {
    let count = sqlx::query_scalar(ALL_MEMBERS).bind(tenant.uuid());
    Ok(count.fetch_one(conn).await?)
}

/// Puts a member of the tenant into a team, or changes whether they manage it.
pub(super) async fn set_member(
    conn: &mut PgConnection,
    tenant: TenantId,
    id: TeamId,
    user: UserId,
    manages: bool,
) -> Result<TeamMember, Error> {
    let row = sqlx::query_as(SET_MEMBER)
        .bind(tenant.uuid())
        .bind(id.uuid())
        .bind(user.uuid())
        .bind(manages);
    Ok(member(row.fetch_one(conn).await?))
}

/// Takes somebody out of a team.
pub(super) async fn remove_member(
    conn: &mut PgConnection,
    tenant: TenantId,
    id: TeamId,
    user: UserId,
) -> Result<(), Error> {
    let removed = sqlx::query(REMOVE_MEMBER).bind(tenant.uuid()).bind(id.uuid());
    removed.bind(user.uuid()).execute(conn).await?;
    Ok(())
}

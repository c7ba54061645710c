//! Teams of a tenant's members, which nest: whose records a grant with `@team` reaches.
//!
//! It reaches those of everybody in the teams that its holder belongs to, and in all teams beneath those that the holder
//! manages. Who that is, is read with the rights (`rights/store.rs`) and travels with them, so a change of teams is a
//! change of rights. Disabled members stay in their teams, and their records within reach; who leaves the tenant leaves
//! its teams.

pub(crate) mod actions;
mod rpc;
mod store;
mod tree;
mod wire;

use chrono::{DateTime, Utc};
use rowhouse_types::{Etag, IdempotencyKey, TeamId, Text, UserId};

pub(crate) use rpc::TeamRpc;
#[cfg(test)]
pub(crate) use store::STATEMENTS;

/// Teams that a tenant can have: few enough to be read at once when one is moved.
pub(crate) const TEAMS_MAX: u32 = 500;

/// How many teams may stand above one another.
pub(crate) const DEPTH_MAX: usize = 10;

/// Members of all teams of a tenant together, and so the most people that travel with somebody's rights.
pub(crate) const MEMBERS_MAX: u32 = 10_000;

/// A team's name.
pub(crate) type TeamName = Text<200>;

/// A team.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Team {
    pub(crate) id: TeamId,
    pub(crate) name: String,
    pub(crate) parent: Option<TeamId>,
    pub(crate) members: i64,
    pub(crate) created: DateTime<Utc>,
    pub(crate) updated: DateTime<Utc>,
    pub(crate) etag: Etag,
}

/// A team that is to be added.
#[derive(Clone, Debug)]
pub(crate) struct NewTeam {
    pub(crate) name: TeamName,
    pub(crate) parent: Option<TeamId>,
    /// By what the call is recognised when it comes again.
    pub(crate) request: Option<IdempotencyKey>,
}

/// A change of a team. What is `None` stays.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) id: TeamId,
    pub(crate) name: Option<TeamName>,
    /// Where it moves; to the top for `Some(None)`.
    pub(crate) parent: Option<Option<TeamId>>,
    pub(crate) etag: Option<Etag>,
}

/// Somebody in a team.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TeamMember {
    pub(crate) user: UserId,
    pub(crate) manages: bool,
    pub(crate) created: DateTime<Utc>,
}

/// What keeps a team from becoming what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Obstacle {
    /// The tenant has as many teams as it can have.
    #[error("a tenant has at most {TEAMS_MAX} teams")]
    TooMany,
    /// The tenant's teams have as many members as they can have.
    #[error("the teams of a tenant have at most {MEMBERS_MAX} members together")]
    Full,
    /// The team would stand above itself.
    #[error("a team cannot be beneath itself")]
    Circle,
    /// Too many would stand above one another.
    #[error("at most {DEPTH_MAX} teams can be beneath one another")]
    TooDeep,
    /// There are teams beneath it.
    #[error("there are teams beneath it (teams: {0})")]
    HasTeams(i64),
}

#[cfg(test)]
mod tests;

//! The tree of a tenant's teams: where one may stand.

use std::collections::HashMap;

use rowhouse_types::TeamId;

use super::{DEPTH_MAX, Obstacle};

/// Every team of a tenant with the one above it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tree {
    parents: HashMap<TeamId, Option<TeamId>>,
}

// === impl Tree ===

impl Tree {
    /// Whether a team may stand beneath `parent`, which is in the tree; at the top for `None`. The team may be new.
    pub(crate) fn admits(&self, team: TeamId, parent: Option<TeamId>) -> Result<(), Obstacle> {
        let mut above = 0_usize;
        let mut next = parent;
        while let Some(one) = next {
            above = above.saturating_add(1);
            if one == team {
                return Err(Obstacle::Circle);
            }
            // Also what ends the loop, should there be a circle.
            if above > DEPTH_MAX {
                return Err(Obstacle::TooDeep);
            }
            next = self.parents.get(&one).copied().flatten();
        }
        if above.saturating_add(self.height(team)) > DEPTH_MAX {
            return Err(Obstacle::TooDeep);
        }
        Ok(())
    }

    /// How many teams stand beneath one another from `team` on, itself included.
    fn height(&self, team: TeamId) -> usize {
        let mut level = vec![team];
        let mut height = 0_usize;
        // No level beneath the deepest has any; the bound is for a circle.
        while !level.is_empty() && height <= DEPTH_MAX {
            height = height.saturating_add(1);
            let beneath = |parent: &Option<TeamId>| parent.is_some_and(|parent| level.contains(&parent));
            let next = self.parents.iter().filter(|(_, parent)| beneath(parent));
            level = next.map(|(team, _)| *team).collect();
        }
        height
    }
}

impl FromIterator<(TeamId, Option<TeamId>)> for Tree {
    fn from_iter<I: IntoIterator<Item = (TeamId, Option<TeamId>)>>(teams: I) -> Self {
        Self {
            parents: teams.into_iter().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Teams one beneath another, the top first.
    fn chain(length: usize) -> (Vec<TeamId>, Tree) {
        let teams: Vec<TeamId> = (0..length).map(|_| TeamId::generate()).collect();
        let parents = teams.iter().enumerate();
        let tree = parents.map(|(at, team)| (*team, at.checked_sub(1).map(|above| teams[above])));
        let tree = tree.collect();
        (teams, tree)
    }

    #[test]
    fn a_team_never_stands_beneath_itself() {
        let (teams, tree) = chain(4);
        for beneath in &teams {
            assert_eq!(tree.admits(teams[0], Some(*beneath)), Err(Obstacle::Circle));
        }
        assert_eq!(tree.admits(teams[3], Some(teams[0])), Ok(()));
        assert_eq!(tree.admits(teams[2], None), Ok(()));
    }

    #[test]
    fn what_stands_beneath_a_team_moves_with_it_and_counts() {
        let (teams, tree) = chain(DEPTH_MAX);
        let new = TeamId::generate();
        assert_eq!(tree.admits(new, Some(teams[DEPTH_MAX - 1])), Err(Obstacle::TooDeep));
        assert_eq!(tree.admits(new, Some(teams[DEPTH_MAX - 2])), Ok(()));
        let (other, beside) = chain(3);
        let both: Tree = tree.parents.into_iter().chain(beside.parents).collect();
        assert_eq!(both.admits(other[0], Some(teams[DEPTH_MAX - 4])), Ok(()));
        assert_eq!(
            both.admits(other[0], Some(teams[DEPTH_MAX - 3])),
            Err(Obstacle::TooDeep)
        );
        assert_eq!(both.admits(other[1], Some(teams[DEPTH_MAX - 3])), Ok(()));
    }

    #[test]
    fn a_circle_that_should_not_be_there_ends_the_search() {
        let [one, other] = [(); 2].map(|()| TeamId::generate());
        let tree: Tree = [(one, Some(other)), (other, Some(one))].into_iter().collect();
        assert_eq!(tree.admits(TeamId::generate(), Some(one)), Err(Obstacle::TooDeep));
    }
}

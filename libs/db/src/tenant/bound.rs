//! How many transactions of one tenant may be under way, and who says so.

use rowhouse_types::{Placement, TenantId};

use super::lane::Lanes;
use super::server::Way;
use crate::Error;
use crate::home::Home;

/// A tenant's bound over all processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bound {
    pub(super) tenant: TenantId,
    /// At least 1.
    pub(super) most: u16,
    /// Whether the number is the plan's, and not the deployment's.
    is_plans: bool,
}

// === impl Bound ===

impl Bound {
    /// The bound on a home's transactions that use their connections this way; none where nothing bounds them.
    ///
    /// In a lane the tenant has neighbours, so the plan's number holds only up to [`Lanes::slots_max`]. In a database of its own
    /// it keeps nobody waiting but itself: its plan's number holds as it is, and without one there is no bound.
    pub(super) fn of(home: &Home, way: Way, lanes: Lanes) -> Option<Self> {
        if way != Way::Lane {
            return None;
        }
        let shares_lanes = lanes.are_on() && home.placement != Placement::Database;
        let (most, is_plans) = match home.transactions_max {
            Some(plans) if shares_lanes && plans > lanes.slots_max() => (lanes.slots_max(), false),
            Some(plans) => (plans, true),
            None if shares_lanes => (lanes.slots_per_tenant, false),
            None => return None,
        };
        Some(Self {
            tenant: home.tenant,
            most: most.max(1),
            is_plans,
        })
    }

    /// What to say where the tenant has as many transactions under way as it may: the plan's bound has a name and a number, the
    /// deployment's is no matter of the tenant's.
    pub(super) fn reached(self) -> Error {
        if self.is_plans {
            let Self { tenant, most, .. } = self;
            Error::TransactionsExceeded { tenant, most }
        } else {
            Error::Busy
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use rowhouse_types::HomeState;

    use super::*;

    /// Three connections each: two for one tenant.
    const LANES: Lanes = Lanes {
        count: 8,
        connections_per_lane_max: 4,
        server_connections_per_lane: 3,
        slots_per_tenant: 2,
        are_aliases: true,
    };

    /// A plan's bound.
    pub(in crate::tenant) fn of_plan(tenant: TenantId, most: u16) -> Bound {
        Bound {
            tenant,
            most,
            is_plans: true,
        }
    }

    /// Everybody's.
    pub(in crate::tenant) fn of_lanes(tenant: TenantId, most: u16) -> Bound {
        Bound {
            is_plans: false,
            ..of_plan(tenant, most)
        }
    }

    fn home(placement: Placement, transactions_max: Option<u16>) -> Home {
        Home {
            tenant: TenantId::generate(),
            server: "data1".parse().unwrap(),
            placement,
            generation: 1,
            version: 1,
            state: HomeState::Active,
            transactions_max,
        }
    }

    /// What a tenant may have, and whether it is its plan that says so.
    fn bound(placement: Placement, plans: Option<u16>, lanes: Lanes) -> Option<(u16, bool)> {
        Bound::of(&home(placement, plans), Way::Lane, lanes).map(|bound| (bound.most, bound.is_plans))
    }

    #[test]
    fn a_plan_has_no_more_of_a_lane_than_leaves_its_neighbours_one_connection() {
        for placement in [Placement::Schema, Placement::Shared] {
            let bounds = [None, Some(1), Some(2), Some(3), Some(64)].map(|plans| bound(placement, plans, LANES));
            assert_eq!(
                bounds,
                [(2, false), (1, true), (2, true), (2, false), (2, false)].map(Some)
            );
        }
    }

    #[test]
    fn a_plan_may_grant_more_than_everybody_has_where_the_lanes_are_wider() {
        let wider = Lanes {
            connections_per_lane_max: 9,
            server_connections_per_lane: 8,
            ..LANES
        };
        let bounds = [None, Some(7), Some(8)].map(|plans| bound(Placement::Schema, plans, wider));
        assert_eq!(bounds, [(2, false), (7, true), (7, false)].map(Some));
    }

    #[test]
    fn the_narrower_of_the_pooler_and_the_process_counts() {
        let slots_max = |own, poolers, are_aliases| {
            let lanes = Lanes {
                connections_per_lane_max: own,
                server_connections_per_lane: poolers,
                are_aliases,
                ..LANES
            };
            lanes.slots_max()
        };
        assert_eq!([slots_max(4, 3, true), slots_max(3, 9, true)], [2, 2]);
        assert_eq!(slots_max(4, 1, false), 3, "there is no pooler");
        assert_eq!(
            [slots_max(1, 1, true), slots_max(0, 0, false)],
            [1, 1],
            "nobody is locked out"
        );
    }

    #[test]
    fn as_many_slots_as_a_lane_has_connections_leave_the_neighbours_none() {
        let leave_one = |count, slots_per_tenant| {
            let lanes = Lanes {
                count,
                slots_per_tenant,
                ..LANES
            };
            lanes.leave_neighbours_one()
        };
        assert_eq!([1, 2, 3].map(|slots| leave_one(8, slots)), [true, true, false]);
        assert!(leave_one(0, 3), "nobody shares a lane");
    }

    #[test]
    fn where_no_neighbour_shares_a_lane_the_plans_number_counts_alone() {
        for (placement, lanes) in [
            (Placement::Database, LANES),
            (Placement::Database, Lanes::OFF),
            (Placement::Schema, Lanes::OFF),
        ] {
            let bounds = [None, Some(1), Some(64)].map(|plans| bound(placement, plans, lanes));
            assert_eq!(bounds, [None, Some((1, true)), Some((64, true))]);
        }
        let stream = Bound::of(&home(Placement::Schema, Some(1)), Way::Bulk, LANES);
        assert_eq!(stream, None);
    }

    #[test]
    fn only_a_number_that_is_the_plans_is_called_the_plans() {
        let reached = |plans| {
            let home = home(Placement::Schema, plans);
            (home.tenant, Bound::of(&home, Way::Lane, LANES).unwrap().reached())
        };
        let (tenant, exceeded) = reached(Some(2));
        assert_eq!(exceeded, Error::TransactionsExceeded { tenant, most: 2 });
        assert_eq!([reached(Some(64)).1, reached(None).1], [Error::Busy, Error::Busy]);
    }
}

//! Lanes: a server's connections are divided, and a tenant uses two of the parts.
//!
//! A back end of PostgreSQL remembers every table that it has touched, so where any connection may serve any tenant,
//! thousands of homes cost each back end hundreds of megabytes and half its speed. Two lanes and not one, so that a
//! neighbour who fills one leaves the other (Mitzenmacher 2001, "The power of two choices in randomized load
//! balancing").

use aws_lc_rs::digest;
use rowhouse_types::TenantId;

/// How a data server's connections are divided. All processes on one server must be told the same `count`, or a home is
/// remembered by more back ends than need be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lanes {
    /// How many. Below two there are none, and one pool serves everybody.
    pub count: u16,
    /// Connections of this process to each lane, and to the one for streams, at most.
    pub connections_per_lane_max: u32,
    /// Connections of each lane to the data server, which all processes share: `pool_size` of its alias at the pooler. Says
    /// nothing where there are no aliases.
    pub server_connections_per_lane: u32,
    /// Connections that one tenant may hold of its two lanes, over all processes, where its plan does not say how many.
    pub slots_per_tenant: u16,
    /// Behind `PgBouncer` a lane is a database alias there, `<database>_lane_NN`, and `<database>_bulk` is the one for
    /// streams. Straight to PostgreSQL it is a pool of this process and nothing else.
    pub are_aliases: bool,
}

/// Two different lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) first: u16,
    pub(super) second: u16,
}

// === impl Lanes ===

impl Lanes {
    /// One pool for everybody.
    pub const OFF: Self = Self {
        count: 0,
        connections_per_lane_max: 1,
        server_connections_per_lane: 1,
        slots_per_tenant: 1,
        are_aliases: false,
    };

    pub(super) fn are_on(self) -> bool {
        self.count >= 2
    }

    /// Connections that a plan may let one tenant hold of its two lanes, over all processes: one less than a lane has, in this
    /// process and at the pooler, so that whichever lane it holds them in has one for the neighbours. 1 where a lane has but one:
    /// then the other lane is left.
    #[must_use]
    pub fn slots_max(self) -> u16 {
        let connections = if self.are_aliases {
            self.connections_per_lane_max.min(self.server_connections_per_lane)
        } else {
            self.connections_per_lane_max
        };
        u16::try_from(connections.saturating_sub(1)).unwrap_or(u16::MAX).max(1)
    }

    /// Whether a tenant whose plan says nothing leaves its neighbours a connection, as one whose plan does must.
    pub(super) fn leave_neighbours_one(self) -> bool {
        !self.are_on() || self.slots_per_tenant <= self.slots_max()
    }

    /// What a lane is called, in metrics and at the end of its alias.
    pub(super) fn name(lane: u16) -> String {
        format!("lane_{lane:02}")
    }

    /// What the connections for streams, exports and jobs are called.
    pub(super) const BULK: &'static str = "bulk";
}

// === impl Pair ===

impl Pair {
    /// The tenant's lanes among `count`, which is at least two.
    ///
    /// Every process and every version answers alike: the first sixteen bytes of SHA-256 of the tenant's number choose
    /// one lane with the first eight, and one of the others with the rest.
    pub(super) fn of(tenant: TenantId, count: u16) -> Self {
        let digest = digest::digest(&digest::SHA256, tenant.uuid().as_bytes());
        let (high, low) = digest.as_ref().first_chunk().map_or((0, 0), |bytes: &[u8; 16]| {
            let number = u128::from_be_bytes(*bytes);
            (number >> 64, number & u128::from(u64::MAX))
        });
        let count = u128::from(count.max(2));
        let first = high % count;
        let second = (first + 1 + low % (count - 1)) % count;
        // Both are below a u16.
        Self {
            first: u16::try_from(first).unwrap_or_default(),
            second: u16::try_from(second).unwrap_or_default(),
        }
    }

    /// The one of the two in which less is under way; the first where it is the same, so that a quiet tenant is
    /// remembered by the back ends of one lane.
    pub(super) fn less_busy(self, under_way: impl Fn(u16) -> usize) -> u16 {
        if under_way(self.second) < under_way(self.first) {
            self.second
        } else {
            self.first
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn tenant(number: u128) -> TenantId {
        TenantId::from_uuid(Uuid::from_u128(number))
    }

    /// A change of these numbers sends every tenant to other lanes while old and new processes run side by side.
    #[test]
    fn the_lanes_of_a_tenant_never_change() {
        let vectors = [
            (0, 16),
            (1, 16),
            (0x0198_c2f0_7c00_7000_8000_0000_0000_0001, 16),
            (0x0198_c2f0_7c00_7000_8000_0000_0000_0001, 8),
            (0x0198_c2f0_7c00_7000_8000_0000_0000_0002, 8),
            (u128::MAX, 2),
        ];
        let pairs: Vec<_> = vectors
            .iter()
            .map(|&(number, count)| Pair::of(tenant(number), count))
            .map(|pair| (pair.first, pair.second))
            .collect();
        assert_eq!(pairs, [(5, 2), (11, 7), (12, 14), (4, 1), (0, 7), (1, 0)]);
    }

    #[test]
    fn the_two_differ_and_all_pairs_are_used_alike() {
        const TENANTS: u32 = 24_000;
        for count in [2, 3, 16] {
            let mut seen = std::collections::BTreeMap::new();
            for number in 0..TENANTS {
                let pair = Pair::of(tenant(u128::from(number) << 64), count);
                assert!(
                    pair.first != pair.second && pair.first < count && pair.second < count,
                    "{pair:?}"
                );
                *seen.entry((pair.first, pair.second)).or_insert(0_u32) += 1;
            }
            let pairs = u32::from(count) * (u32::from(count) - 1);
            assert_eq!(seen.len(), usize::try_from(pairs).unwrap());
            // Poisson: the mean is at least 100, so half and double of it are more than five deviations away.
            let mean = TENANTS / pairs;
            assert!(
                seen.values().all(|&hits| (mean / 2..mean * 2).contains(&hits)),
                "{seen:?}"
            );
        }
    }

    #[test]
    fn the_less_busy_of_the_two_is_chosen_and_the_first_of_equals() {
        let pair = Pair { first: 3, second: 1 };
        let choose = |first, second| pair.less_busy(|lane| if lane == 3 { first } else { second });
        assert_eq!([choose(0, 0), choose(1, 0), choose(1, 1), choose(1, 2)], [3, 1, 3, 3]);
    }
}

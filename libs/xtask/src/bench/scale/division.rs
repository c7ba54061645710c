//! How connections are divided in a run.

use rowhouse_devkit::pooler::Pooler;
use rowhouse_devkit::servers::LanePools;
use rowhouse_devkit::settings::DATA_SERVER;

/// How connections are divided in a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Division {
    pub(super) pools: LanePools,
    pub(super) slots: u16,
    /// Server connections without lanes.
    pub(super) pool_size: u32,
}

// === impl Division ===

impl Division {
    pub(super) const fn off(pool_size: u32) -> Self {
        Self {
            pools: LanePools { count: 0, pool_size: 0 },
            slots: 0,
            pool_size,
        }
    }

    pub(super) const fn on(count: u16, pool_size: u32, slots: u16) -> Self {
        Self {
            pools: LanePools { count, pool_size },
            slots,
            pool_size: 1,
        }
    }

    pub(super) fn has_lanes(self) -> bool {
        self.pools.count > 0
    }

    /// Server connections of each lane, or of the database where there are none.
    pub(super) fn server_connections(self) -> u32 {
        if self.has_lanes() {
            self.pools.pool_size
        } else {
            self.pool_size
        }
    }

    /// Pairs of a back end and a home that it may serve.
    pub(super) fn meetings(self, homes: usize) -> usize {
        let back_ends_per_home = if self.has_lanes() {
            2 * self.pools.pool_size
        } else {
            self.pool_size
        };
        homes * usize::try_from(back_ends_per_home).unwrap_or(usize::MAX)
    }

    /// What crm is told of it. How many connections it opens itself is left as it is.
    pub(super) fn variables(self, pooler: &Pooler) -> Vec<(&'static str, String)> {
        vec![
            ("ROWHOUSE_DATA_URLS", format!("{DATA_SERVER}={}", pooler.url())),
            ("ROWHOUSE_DATA_LANES", self.pools.count.to_string()),
            (
                "ROWHOUSE_DATA_LANE_SERVER_CONNECTIONS",
                self.pools.pool_size.to_string(),
            ),
            ("ROWHOUSE_DATA_TENANT_SLOTS", self.slots.to_string()),
        ]
    }
}

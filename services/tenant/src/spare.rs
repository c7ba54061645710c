//! Spares: tenants' ids issued ahead, each with a home built at every participant, so that signing up builds none.
//!
//! A line of `tenant.spares` is `building` until every participant has built its home, then `ready` until a sign-up takes
//! it and its id (`tenant/sql/reserve.sql`). [`filler`] keeps as many as are wanted, [`store`] is their SQL.

pub(crate) mod filler;
pub(crate) mod store;

#[cfg(test)]
mod tests;

use rowhouse_types::{Placement, ServerName, TenantId};
use tokio::sync::watch;
use uuid::Uuid;

/// How many spares each data server that takes new tenants shall have, by placement. In `shared` a home is a line, and none is
/// built ahead.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) schemas: u16,
    pub(crate) databases: u16,
}

/// Spares of one data server and placement.
#[derive(Clone, Debug)]
pub(crate) struct Stock {
    pub(crate) server: ServerName,
    pub(crate) placement: Placement,
    /// How many there shall be, and never more.
    pub(crate) wanted: i64,
}

/// A spare that this process builds.
#[derive(Clone, Debug)]
pub(crate) struct Spare {
    /// The id of a tenant to come.
    pub(crate) tenant: TenantId,
    /// Names this hold: the line is changed only while the database still has it.
    pub(crate) lease: Uuid,
    pub(crate) server: ServerName,
    pub(crate) placement: Placement,
    /// How often building it has failed.
    pub(crate) attempts: u32,
}

/// Tells the filler of this process that a spare was taken. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Refill {
    taken: watch::Sender<()>,
}

// === impl Wanted ===

impl Wanted {
    /// The placements of which there shall be some.
    fn each(self) -> impl Iterator<Item = (Placement, u16)> {
        let all = [(Placement::Schema, self.schemas), (Placement::Database, self.databases)];
        all.into_iter().filter(|(_, wanted)| *wanted > 0)
    }
}

// === impl Refill ===

impl Refill {
    pub(crate) fn new() -> Self {
        Self {
            taken: watch::Sender::new(()),
        }
    }

    /// A spare was taken, or should have been.
    pub(crate) fn notify(&self) {
        self.taken.send_replace(());
    }

    /// Notices every [`Refill::notify`] from now on.
    fn listen(&self) -> watch::Receiver<()> {
        self.taken.subscribe()
    }
}

//! Operations on a real database, with participants and auth that fail and hang: whatever is cut short ends well.

mod bench;
mod crashes;
mod fakes;
mod fleet;
mod together;

pub(crate) use bench::{Audited, Bench, GRACE, LONG, cache, ctx, entry, new_tenant, server, turn, turn_as};
pub(crate) use fakes::Mishap;
pub(crate) use fleet::{FakeHouse, NEWEST};

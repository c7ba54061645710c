//! As whom, and for how long, the commands act ([`crate::commands`]).

use std::time::Duration;

use rowhouse_context::{Ctx, Principal, RequestId, ServiceName};
use tokio::time::Instant;

/// Longest time for all of it, the acknowledgement included.
const BOUND: Duration = Duration::from_secs(30);

/// The service itself: whoever may run the process beside its database is nobody that it knows.
pub(crate) fn ctx() -> Ctx {
    let principal = Principal::Service {
        name: ServiceName::Auth,
    };
    Ctx::new(RequestId::generate(), principal, None, Instant::now() + BOUND)
}

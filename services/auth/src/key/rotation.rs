//! Moves signing keys on when their time has come.

use std::sync::Arc;
use std::time::Duration;

use rowhouse_context::{Ctx, Principal, RequestId, ServiceName};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::actions;
use crate::error::Error;
use crate::rounds;
use crate::state::State;

/// How often is looked. A key signs this much later than it might; what it replaces is honoured longer than that.
const EVERY: Duration = Duration::from_secs(5);

/// Works until `stop`.
pub(crate) async fn run(state: Arc<State>, stop: CancellationToken) {
    rounds::run(EVERY, stop, "signing keys were not moved on", || look(&state)).await;
}

/// One round.
pub(super) async fn look(state: &State) -> Result<(), Error> {
    if actions::is_old(state, &state.signing.schedule).await? {
        let principal = Principal::Service {
            name: ServiceName::Auth,
        };
        let ctx = Ctx::new(RequestId::generate(), principal, None, Instant::now() + EVERY);
        let next = actions::rotate(&ctx, state).await?;
        tracing::info!(key = %next.id, "the key that signs access tokens is old; the next one is published");
    }
    actions::move_on(state).await
}

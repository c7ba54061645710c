//! What the actions of this service work with.

use std::sync::Arc;

use rowhouse_audit::Refusals;
use rowhouse_client::LimitsClient;
use rowhouse_db::ControlDb;
use rowhouse_db::paging::PageTokens;
use rowhouse_mq::Wake;
use rowhouse_seal::Sealers;
use sqlx::pool::PoolConnection;
use sqlx::{Postgres, Transaction};

use crate::attempt::origin::ClosedOrigins;
use crate::error::Error;
use crate::identity::Hasher;
use crate::key::{Signer, Signing};
use crate::link::LinkTokens;
use crate::rights::Clock;

/// Everything an action may need. One per process, shared.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) db: ControlDb,
    pub(crate) hasher: Hasher,
    pub(crate) signing: Signing,
    /// Of invitations.
    pub(crate) invitation_tokens: LinkTokens,
    /// Of mails about accounts.
    pub(crate) account_tokens: LinkTokens,
    /// Seals the secrets of second factors.
    pub(crate) second_factors: Sealers,
    pub(crate) clock: Clock,
    pub(crate) pages: PageTokens,
    /// What tenants may use.
    pub(crate) limits: LimitsClient,
    /// Where guesses that failed, and what is over and was shown all the same, are counted until they are written: at log-ins,
    /// refreshes, invitations and exchanges of keys. Apart from other refusals: who floods the one must not take the other's room.
    pub(crate) failed_logins: Refusals,
    /// Networks that have presented too many API keys, refresh tokens or links which are not good.
    pub(crate) closed_origins: ClosedOrigins,
    /// Hurries the relay after a commit that left an event.
    pub(crate) wake: Wake,
}

// === impl State ===

impl State {
    /// A transaction.
    pub(crate) async fn begin(&self) -> Result<Transaction<'static, Postgres>, Error> {
        Ok(self.db.begin().await?)
    }

    /// A connection for single statements.
    pub(crate) async fn connection(&self) -> Result<PoolConnection<Postgres>, Error> {
        Ok(self.db.pool().acquire().await?)
    }

    /// What signs access tokens now. Not to be called inside a transaction: it asks which key that is, on a
    /// connection of its own.
    pub(crate) async fn signer(&self) -> Result<Arc<Signer>, Error> {
        self.signing.signer(&mut *self.connection().await?).await
    }
}

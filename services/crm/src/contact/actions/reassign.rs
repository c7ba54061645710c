//! The hand-over: contacts of one owner, who may have left, become another's.

use rowhouse_context::Ctx;
use rowhouse_db::Mode;
use rowhouse_db::requests::Once;
use rowhouse_types::{IdempotencyKey, UserId};

use super::Contacts;
use crate::contact::filter::Filter;
use crate::contact::now;
pub(in crate::contact) use crate::contact::store::Reassigned;
use crate::contact::store::{self, Record, Taking};
use crate::error::{Error, Result};
use crate::request;

/// The name under which hand-overs are remembered.
const REASSIGN_METHOD: &str = "ReassignContacts";

/// Contacts that one statement gives. For each the database writes a row that stands in six indexes, an entry of the audit log, its
/// place in the queue for seals and an event: about 0.2 ms. So a statement takes about 20 ms, which nearly every plan allows.
const STEP_MAX: i64 = 100;

/// Statements that give, in one call: so it gives 1,000 contacts, as many as the largest page. For a fraction of a second they are
/// locked and one of the tenant's slots is taken: that long, who changes one of them waits. What is read to find them is another
/// thing: see `store::left`.
const STEPS_MAX: usize = 10;

/// Whose contacts go to whom.
#[derive(Clone, Debug)]
pub(crate) struct Reassignment {
    /// Whose they are. Nobody asks whether this is a member.
    pub(crate) from: UserId,
    /// Whose they become.
    pub(crate) to: UserId,
    /// Which of them.
    pub(crate) filter: Filter,
    /// Whether they are only counted.
    pub(crate) validate_only: bool,
    /// The caller's id of this call, by which a repeated one is recognised.
    pub(crate) request_id: Option<IdempotencyKey>,
}

// === impl Contacts ===

impl Contacts {
    /// Gives up to 1,000 contacts of one owner to another, in one transaction; a repeated call gets the answer of the first.
    ///
    /// It has more to write than any other call, and another with its request id waits for it: in the tenant's own slots, so that
    /// nobody but the tenant waits too. It goes by steps: a plan bounds each statement, and where time is short, fewer contacts are
    /// given rather than none.
    pub(crate) async fn reassign(&self, ctx: &Ctx, asked: &Reassignment) -> Result<Reassigned> {
        // No step but the first begins in the second half of the time: that is for the step begun last, the count and the COMMIT.
        let half = ctx.time_left() / 2;
        let once = asked.recognised_by(ctx);
        if !self.owners.admits(ctx, asked.to).await? {
            // A repeated call needs no receiver, who may have left since.
            return self.earlier(ctx, once.as_ref(), Error::ReceiverUnknown).await?.answer();
        }
        let taking = Taking {
            reach: ctx.reach(),
            from: asked.from,
            filter: &asked.filter,
        };
        if asked.validate_only {
            let mut tx = self.db.begin_single(ctx, Mode::Read).await?;
            let remaining = store::left(&mut tx, taking).await?;
            return Ok(Reassigned { given: 0, remaining });
        }

        let at = now();
        let record = Record::of(ctx, at);
        let mut tx = self.db.begin(ctx, Mode::Write).await?;
        if let Some(once) = &once
            && let Some(earlier) = request::claim(&mut tx, once, at).await?
        {
            return earlier.answer();
        }
        let mut given = 0;
        for _ in 0..STEPS_MAX {
            let contacts = store::take(&mut tx, taking, STEP_MAX).await?;
            let step = store::give(&mut tx, &contacts, asked.to, &record).await?;
            given += step;
            if step < STEP_MAX || ctx.time_left() < half {
                break;
            }
        }
        let remaining = store::left(&mut tx, taking).await?;
        let done = Reassigned { given, remaining };
        if let Some(once) = &once {
            request::remember(&mut tx, once, &done).await?;
        }
        tx.commit().await?;
        self.wake.notify();
        Ok(done)
    }
}

// === impl Reassignment ===

impl Reassignment {
    /// A trial is neither remembered nor looked for.
    fn recognised_by(&self, ctx: &Ctx) -> Option<Once> {
        let key = self.request_id.filter(|_| !self.validate_only)?;
        let (from, to) = (self.from.to_string(), self.to.to_string());
        let content = [from.as_str(), &to, &self.filter.text];
        Some(request::once(ctx, REASSIGN_METHOD, key, &content))
    }
}

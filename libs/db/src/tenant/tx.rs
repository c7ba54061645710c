//! A transaction inside one tenant's home.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rowhouse_context::Ctx;
use rowhouse_types::TenantId;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::bound::Bound;
use super::db::{Inner, Mode};
use super::exchange::{Answer, Exchanged, Refusal, Spoken, commit, exchange};
use super::flight::Flight;
use super::permit::{Pauses, Permit};
use super::server::{Borrowed, Way};
use crate::Error;
use crate::bind::{Bind, Wire};
use crate::home::Home;
use crate::row::FromRow;
use crate::statement::{Sql, Statement, Variants};

/// The server ends a statement at the deadline; this is how much longer its answer is waited for.
const ANSWER_GRACE: Duration = Duration::from_millis(250);

/// A statement that the server has ended with more time left than this was not ended by the deadline. The server is told whole
/// milliseconds, so it may be one early; the rest is for clocks that go apart, by 100 ppm over 90 s.
const ENDED_EARLY: Duration = Duration::from_millis(10);

/// A transaction inside one tenant's home.
///
/// Dropped before its COMMIT, it is rolled back; what runs is cut short, and the connection is used again only when it is
/// known to be idle.
pub struct TenantTx {
    db: Arc<Inner>,
    way: Way,
    ctx: Ctx,
    mode: Mode,
    home: Home,
    /// The lowest version of the home that what is said fits.
    version_min: i32,
    /// `$1` of every statement.
    tenant: Uuid,
    commit_with_next: bool,
    state: State,
}

/// How far a transaction is.
enum State {
    /// Nothing was sent.
    New,
    /// Entered; nothing is in flight.
    Open(Borrowed),
    /// A message is on its way; the exchange holds the connection.
    InFlight,
    /// Committed.
    Committed,
    /// An error, a refusal or a dropped exchange: nothing of it stays.
    Failed,
}

// === impl TenantTx ===

impl TenantTx {
    pub(super) fn new(db: Arc<Inner>, way: Way, ctx: Ctx, mode: Mode, home: Home) -> Self {
        Self {
            version_min: *db.versions.start(),
            db,
            way,
            ctx,
            mode,
            tenant: home.tenant.uuid(),
            home,
            commit_with_next: false,
            state: State::New,
        }
    }

    /// The tenant: `$1` of every statement.
    #[must_use]
    pub fn tenant(&self) -> TenantId {
        self.home.tenant
    }

    /// The variant of a statement that fits the home, as the directory knows its version. Said before the first statement:
    /// where the newer variant is picked, `enter` refuses a home that is older after all.
    pub fn variant<'a, R>(&mut self, variants: &'a Variants<R>) -> &'a Statement<R> {
        if self.home.version < variants.since {
            return &variants.older;
        }
        self.version_min = self.version_min.max(variants.since);
        &variants.newer
    }

    /// The next statement is the last one: COMMIT travels with it.
    pub fn commit_with_next(&mut self) {
        self.commit_with_next = true;
    }

    /// The statement's one row.
    ///
    /// # Errors
    /// [`Error::RowMissing`] when there is none; [`Error::Fault`] when there are several; and every other [`Error`].
    pub async fn fetch_one<R: FromRow>(&mut self, statement: &Statement<R>, binds: &[&dyn Bind]) -> Result<R, Error> {
        self.fetch_optional(statement, binds).await?.ok_or(Error::RowMissing)
    }

    /// The statement's row, where there is one.
    ///
    /// # Errors
    /// [`Error::Fault`] when there are several; and every other [`Error`].
    pub async fn fetch_optional<R: FromRow>(
        &mut self,
        statement: &Statement<R>,
        binds: &[&dyn Bind],
    ) -> Result<Option<R>, Error> {
        let mut rows = self.fetch_all(statement, binds).await?;
        if rows.len() > 1 {
            return Err(Error::Fault(format!("{}: more than one row", statement.name())));
        }
        Ok(rows.pop())
    }

    /// All rows of the statement, which bounds them itself.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn fetch_all<R: FromRow>(
        &mut self,
        statement: &Statement<R>,
        binds: &[&dyn Bind],
    ) -> Result<Vec<R>, Error> {
        let answer = self.say(statement, binds).await?;
        answer.rows.iter().map(R::from_row).collect()
    }

    /// Runs a statement that answers no rows.
    ///
    /// Returns the number of rows that it changed.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn execute(&mut self, statement: &Statement<()>, binds: &[&dyn Bind]) -> Result<u64, Error> {
        Ok(self.say(statement, binds).await?.affected)
    }

    /// All rows of a statement that was put together while running; it bounds them itself.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn fetch_page<R: FromRow>(&mut self, sql: Sql<R>) -> Result<Vec<R>, Error> {
        if !sql.mentions_tenant() {
            return Err(Error::Fault(format!(
                "{}: a statement must compare $1, the tenant",
                sql.name()
            )));
        }
        let tenant = self.tenant;
        let mut binds = vec![(Wire { value: &tenant }, Type::UUID)];
        binds.extend(
            sql.binds()
                .iter()
                .map(|(value, kind)| (Wire { value: &**value }, kind.clone())),
        );
        let spoken = Spoken {
            name: sql.name(),
            sql: sql.text(),
            written: None,
            binds,
        };
        let answer = self.run(&spoken).await?;
        answer.rows.iter().map(R::from_row).collect()
    }

    /// Commits. Nothing to do where COMMIT travelled with the last statement, or nothing was said.
    ///
    /// # Errors
    /// [`Error::Fault`] when an earlier statement failed, because COMMIT would then roll back and say nothing; and what
    /// the server answers to COMMIT: constraints that are checked last, a lost connection.
    pub async fn commit(mut self) -> Result<(), Error> {
        match std::mem::replace(&mut self.state, State::Failed) {
            State::New | State::Committed => Ok(()),
            State::Failed | State::InFlight => Err(Error::Fault("commit after a failed statement".to_owned())),
            State::Open(borrowed) => {
                let db = Arc::clone(&self.db);
                let mut flight = Flight::begin(&db, borrowed);
                let last = self.ctx.deadline() + ANSWER_GRACE;
                let committing = commit(flight.connection()?);
                match tokio::time::timeout_at(last, committing).await {
                    Ok(Ok(())) => {
                        drop(flight.land());
                        self.state = State::Committed;
                        Ok(())
                    }
                    Ok(Err(error)) => Err(self.ended(Error::from_driver("commit", &error))),
                    Err(_) => Err(Error::DeadlineExceeded),
                }
            }
        }
    }

    async fn say<R: FromRow>(&mut self, statement: &Statement<R>, binds: &[&dyn Bind]) -> Result<Answer, Error> {
        let declared = statement.binds();
        if declared.len() != binds.len() {
            let counts = format!("{} binds for {}", binds.len(), declared.len());
            return Err(Error::Fault(format!("{}: {counts}", statement.name())));
        }
        let tenant = self.tenant;
        let mut all = vec![(Wire { value: &tenant }, Type::UUID)];
        all.extend(
            binds
                .iter()
                .zip(declared)
                .map(|(value, kind)| (Wire { value: *value }, kind.clone())),
        );
        let spoken = Spoken {
            name: statement.name(),
            sql: statement.sql(),
            written: Some(statement.text()),
            binds: all,
        };
        self.run(&spoken).await
    }

    /// Says a statement: with BEGIN and enter where it is the first, with COMMIT where it is the last.
    async fn run(&mut self, spoken: &Spoken<'_>) -> Result<Answer, Error> {
        match std::mem::replace(&mut self.state, State::Failed) {
            State::New => self.first(spoken).await,
            State::Open(borrowed) => self.exchange(borrowed, None, spoken).await?.answer,
            State::InFlight | State::Failed | State::Committed => {
                Err(Error::Fault(format!("{}: the transaction is over", spoken.name)))
            }
        }
    }

    /// Says the first statement. Where `enter` refuses, the statement has not run and the whole message may be said again:
    /// once where the directory's answer was old, and until the deadline where other transactions have the tenant's slots.
    async fn first(&mut self, spoken: &Spoken<'_>) -> Result<Answer, Error> {
        let deadline = self.ctx.deadline();
        // Kept from one attempt to the next, so that no more of this process try at once than may succeed.
        let mut permit = self.db.permit(&self.home, self.way, deadline).await?;
        let (mut is_fresh, mut pauses) = (false, Pauses::new());
        loop {
            let ready = self.ready(permit.clone()).await;
            let (borrowed, begin) = ready.map_err(|error| pauses.blamed_for(self.slots_taken(), error))?;
            let exchanged = self.exchange(borrowed, Some(&begin), spoken).await?;
            match (exchanged.refusal, &exchanged.answer) {
                (Some(Refusal::SlotsTaken), _) => {
                    metrics::counter!("rowhouse_db_slot_refusals_total").increment(1);
                    pauses.pause(self.slots_taken(), deadline).await?;
                }
                // The tenant has moved, or the directory's cache is behind.
                (Some(Refusal::Other), Err(Error::Stale | Error::TenantNotReady)) if !is_fresh => {
                    metrics::counter!("rowhouse_db_stale_homes_total").increment(1);
                    self.home = self.db.home(&self.ctx, self.home.tenant, true).await?;
                    if permit.is_none() {
                        // It may have moved out of a database of its own.
                        permit = self.db.permit(&self.home, self.way, deadline).await?;
                    }
                    is_fresh = true;
                }
                // No time was left for `enter`, after the waiting.
                (Some(Refusal::Other), Err(error)) => return Err(pauses.blamed_for(self.slots_taken(), error.clone())),
                _ => return exchanged.answer,
            }
        }
    }

    /// What to say where other transactions have all slots of the tenant.
    fn slots_taken(&self) -> Error {
        let bound = self.db.bound(&self.home, self.way);
        bound.map_or(Error::Busy, Bound::reached)
    }

    /// A connection, and the message that a transaction begins with.
    async fn ready(&self, permit: Option<Arc<Permit>>) -> Result<(Borrowed, String), Error> {
        let deadline = self.ctx.deadline();
        let borrowed = self.db.connection(&self.home, self.way, permit, deadline).await?;
        let begin = self.begin_message(borrowed.back_end.count())?;
        Ok((borrowed, begin))
    }

    /// BEGIN and enter, in one message. Every value is a number, a uuid or a word of ours.
    ///
    /// The isolation level is said because `enter` must read after it has its lock, the time-out because `enter` may wait
    /// for that lock, the role because the connection's last user may have left another one.
    ///
    /// `count`: what is selected behind `enter`.
    fn begin_message(&self, count: &str) -> Result<String, Error> {
        let left = self.ctx.time_left().as_millis();
        if left == 0 {
            return Err(Error::DeadlineExceeded);
        }
        let timeout_ms = i32::try_from(left).unwrap_or(i32::MAX);
        let (access, mode) = match self.mode {
            Mode::Read => ("READ ONLY", "read"),
            Mode::Write => ("READ WRITE", "write"),
        };
        let enter = match self.db.bound(&self.home, self.way) {
            Some(bound) => format!("enter_lane({}, ", bound.most),
            None => "enter(".to_owned(),
        };
        Ok(format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED, {access}; SET LOCAL statement_timeout = {timeout_ms}; \
             SET LOCAL ROLE NONE; SELECT rowhouse.{enter}'{tenant}', '{participant}', {generation}, '{mode}', {from}, {to}, \
             {timeout_ms}){count}",
            tenant = self.tenant,
            participant = self.db.participant,
            generation = self.home.generation,
            from = self.version_min,
            to = self.db.versions.end(),
        ))
    }

    async fn exchange(
        &mut self,
        borrowed: Borrowed,
        begin: Option<&str>,
        spoken: &Spoken<'_>,
    ) -> Result<Exchanged, Error> {
        let db = Arc::clone(&self.db);
        let commit = std::mem::take(&mut self.commit_with_next);
        self.state = State::InFlight;
        let mut flight = Flight::begin(&db, borrowed);
        let last = self.ctx.deadline() + ANSWER_GRACE;
        let exchanging = exchange(flight.connection()?, begin, spoken, commit);
        let Ok(mut exchanged) = tokio::time::timeout_at(last, exchanging).await else {
            self.state = State::Failed;
            return Err(Error::DeadlineExceeded);
        };
        if exchanged.refusal.is_none() {
            exchanged.answer = exchanged.answer.map_err(|error| self.ended(error));
        }
        // A refused first statement is said once more, with its COMMIT.
        self.commit_with_next = commit && exchanged.refusal.is_some();
        self.state = match (&exchanged.answer, exchanged.idle) {
            (Ok(_), false) => flight.land().map_or(State::Failed, State::Open),
            (Ok(_), true) => {
                drop(flight.land());
                State::Committed
            }
            (Err(_), true) => {
                drop(flight.land());
                State::Failed
            }
            (Err(_), false) => {
                flight.roll_back();
                State::Failed
            }
        };
        Ok(exchanged)
    }

    /// By what a statement was ended: the server's time-out is the smaller of the plan's bound and of the time that was left.
    fn ended(&self, error: Error) -> Error {
        if error == Error::DeadlineExceeded && self.ctx.time_left() > ENDED_EARLY {
            let tenant = self.home.tenant;
            return Error::StatementExceeded { tenant };
        }
        error
    }
}

impl Drop for TenantTx {
    fn drop(&mut self) {
        if let State::Open(borrowed) = std::mem::replace(&mut self.state, State::Failed) {
            self.db.tidy.roll_back(borrowed, false);
        }
    }
}

impl fmt::Debug for TenantTx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TenantTx")
            .field("tenant", &self.home.tenant)
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}

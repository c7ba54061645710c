//! How many homes the back end behind a pooler has met, and how it ends.
//!
//! A back end remembers every table that it has touched until it ends. Straight at PostgreSQL it ends with its connection; the one
//! behind a pooler goes on with the pooler, and which of them a transaction meets nobody on this side knows. So the back end
//! itself counts, in a setting of its session, and says the count beside the answer of `enter`. The transaction that reaches the
//! bound is its last: it ends by `COMMIT AND CHAIN`, after which the connection is closed. Its changes are committed by then, and
//! what the pooler sees is a client that went in the middle of a transaction: `PgBouncer` closes the server connection of such a
//! one, with a word of farewell, since nothing else is sure to clean it.
//!
//! It is the one thing that a transaction leaves on its session, and it is a number: nothing in it says whose homes they were.

use tokio_postgres::SimpleQueryMessage;

/// Counts this transaction. Whatever else the setting may hold counts as nothing: a mistake there must not keep anybody out.
///
/// Every name is qualified, for the search path may be what somebody has left.
const COUNT: &str = ", pg_catalog.set_config('rowhouse.homes_met', (coalesce(pg_catalog.substring(\
    pg_catalog.current_setting('rowhouse.homes_met', true), '^[0-9]{1,9}$')::integer, 0) OPERATOR(pg_catalog.+) 1)::text, false) \
    AS homes_met";

/// The back end that the present transaction of a connection has met.
#[derive(Debug, Default)]
pub(crate) struct BackEnd {
    /// Transactions after which it ends; none where they are not counted.
    homes_max: Option<usize>,
    /// Whether this transaction is its last.
    is_full: bool,
    /// Whether it waits for its end, in a transaction that is nobody's.
    is_over: bool,
}

// === impl BackEnd ===

impl BackEnd {
    /// `homes_max`: none where they are not counted.
    pub(crate) fn counting(homes_max: Option<usize>) -> Self {
        Self {
            homes_max,
            ..Self::default()
        }
    }

    /// Whether a transaction learns, by the answer to its first message, how it is to be committed.
    pub(crate) fn counts(&self) -> bool {
        self.homes_max.is_some()
    }

    /// What is selected behind `enter`.
    pub(crate) fn count(&self) -> &'static str {
        if self.counts() { COUNT } else { "" }
    }

    /// The first message was answered.
    pub(crate) fn began(&mut self, answers: &[SimpleQueryMessage]) {
        let met = answers.iter().find_map(|answer| match answer {
            SimpleQueryMessage::Row(row) => row.try_get("homes_met").ok().flatten()?.parse().ok(),
            _ => None,
        });
        self.met(met.unwrap_or_default());
    }

    fn met(&mut self, homes: usize) {
        self.is_full = self.homes_max.is_some_and(|most| homes >= most);
    }

    /// How to say COMMIT.
    pub(crate) fn commit(&self) -> &'static str {
        if self.is_full { "COMMIT AND CHAIN" } else { "COMMIT" }
    }

    /// It was answered, whatever became of the transaction.
    pub(crate) fn committed(&mut self) {
        self.is_over = self.is_full;
    }

    /// Whether nobody may use the connection again.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_transaction_that_reaches_the_bound_is_the_last() {
        let mut back_end = BackEnd::counting(Some(2));
        back_end.met(1);
        assert_eq!(back_end.commit(), "COMMIT");
        back_end.committed();
        assert!(!back_end.is_over());
        for homes in [2, 3] {
            let mut back_end = BackEnd::counting(Some(2));
            back_end.met(homes);
            assert_eq!(back_end.commit(), "COMMIT AND CHAIN");
            assert!(!back_end.is_over(), "what is not committed is not over");
            back_end.committed();
            assert!(back_end.is_over());
        }
    }

    /// The next transaction may meet another back end.
    #[test]
    fn a_last_transaction_that_was_not_committed_ends_nothing() {
        let mut back_end = BackEnd::counting(Some(2));
        back_end.met(2);
        back_end.met(1);
        back_end.committed();
        assert!(!back_end.is_over());
    }

    #[test]
    fn where_homes_are_not_counted_nothing_is_asked_and_nothing_ends() {
        let mut back_end = BackEnd::counting(None);
        back_end.met(usize::MAX);
        back_end.committed();
        assert_eq!((back_end.count(), back_end.commit()), ("", "COMMIT"));
        assert!(!back_end.counts() && !back_end.is_over());
    }
}

//! An exchange under way, and whose the connection is when nobody waits for its end.

use super::db::Inner;
use super::server::Borrowed;
use crate::Error;
use crate::wire::Connection;

/// An exchange under way. Dropped before it is over, it gives the connection to those who tidy up.
pub(super) struct Flight<'a> {
    db: &'a Inner,
    borrowed: Option<Borrowed>,
}

// === impl Flight ===

impl<'a> Flight<'a> {
    pub(super) fn begin(db: &'a Inner, borrowed: Borrowed) -> Self {
        Self {
            db,
            borrowed: Some(borrowed),
        }
    }

    pub(super) fn connection(&mut self) -> Result<&mut Connection, Error> {
        let borrowed = self.borrowed.as_deref_mut();
        // Never: only what ends a flight takes its connection.
        let borrowed = borrowed.ok_or_else(|| Error::Fault("the exchange is over".to_owned()))?;
        Ok(&mut *borrowed)
    }

    /// Every answer was read.
    pub(super) fn land(mut self) -> Option<Borrowed> {
        self.borrowed.take()
    }

    /// Every message was sent, but not every answer read.
    pub(super) fn roll_back(mut self) {
        if let Some(borrowed) = self.borrowed.take() {
            self.db.tidy.roll_back(borrowed, false);
        }
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        if let Some(borrowed) = self.borrowed.take() {
            self.db.tidy.roll_back(borrowed, true);
        }
    }
}

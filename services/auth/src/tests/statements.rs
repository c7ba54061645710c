//! Which statements a test's calls send to the database.

use rowhouse_devkit::log::Log;
use tracing::Level;

/// The beginnings, four words of each, of the statements that this thread sends to the database until this is dropped.
pub(crate) struct Statements(Log);

impl Statements {
    pub(crate) fn listen() -> Self {
        Self(Log::listen("sqlx::query", Level::TRACE))
    }

    /// Those since the last look.
    pub(crate) fn take(&self) -> Vec<String> {
        let entries = self.0.take();
        let summaries = entries.iter().filter_map(|entry| entry.field("summary"));
        summaries.map(ToOwned::to_owned).collect()
    }
}

//! What a test's own thread logs, for the test to read.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::DefaultGuard;
use tracing::{Event, Level, Metadata, Subscriber};

/// Listens to what its thread logs, until it is dropped. What the other threads log it does not hear.
#[derive(Debug)]
pub struct Log {
    entries: Entries,
    _listening: DefaultGuard,
}

/// One thing that was logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// How bad it is.
    pub level: Level,
    fields: Vec<(&'static str, String)>,
}

type Entries = Arc<Mutex<Vec<Entry>>>;

struct Listener {
    target: &'static str,
    level: Level,
    entries: Entries,
}

// === impl Log ===

impl Log {
    /// Listens to events of `level` and worse whose target begins with `target`: a crate's name as in its paths.
    #[must_use]
    pub fn listen(target: &'static str, level: Level) -> Self {
        let entries = Entries::default();
        let listener = Listener {
            target,
            level,
            entries: entries.clone(),
        };
        Self {
            entries,
            _listening: tracing::subscriber::set_default(listener),
        }
    }

    /// What was logged so far, in order.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The same, which is forgotten then.
    #[must_use]
    pub fn take(&self) -> Vec<Entry> {
        std::mem::take(&mut *self.entries.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The levels and messages of what was logged so far: `WARN auth is away`.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let line = |entry: &Entry| format!("{} {}", entry.level, entry.field("message").unwrap_or_default());
        self.entries().iter().map(line).collect()
    }
}

// === impl Entry ===

impl Entry {
    /// A field's value as text, without quotes. The message is the field `message`.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut fields = self.fields.iter();
        fields
            .find(|(field, _)| *field == name)
            .map(|(_, value)| value.as_str())
    }
}

impl Visit for Entry {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.fields.push((field.name(), value.to_owned()));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.fields.push((field.name(), format!("{value:?}")));
    }
}

// === impl Listener ===

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with(self.target) && *metadata.level() <= self.level
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut entry = Entry {
            level: *event.metadata().level(),
            fields: Vec::new(),
        };
        event.record(&mut entry);
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.push(entry);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_its_thread_logs_is_heard_while_it_listens_and_nothing_else() {
        let log = Log::listen("rowhouse_devkit", Level::WARN);
        tracing::warn!(cause = "a word", count = 3, "heard");
        tracing::info!("of less weight");
        tracing::warn!(target: "another", "of another crate");
        std::thread::spawn(|| tracing::warn!("of another thread"))
            .join()
            .unwrap();
        let entries = log.take();
        let heard: Vec<_> = ["message", "cause", "count", "other"]
            .map(|name| entries[0].field(name))
            .into();
        assert_eq!(heard, [Some("heard"), Some("a word"), Some("3"), None]);
        assert_eq!((entries.len(), entries[0].level), (1, Level::WARN));
        assert_eq!(log.lines(), [""; 0]);

        let next = Log::listen("rowhouse_devkit", Level::INFO);
        tracing::info!("now this one");
        assert_eq!(next.lines(), ["INFO now this one"]);
        drop(next);
        tracing::error!("the first again");
        assert_eq!(log.lines(), ["ERROR the first again"]);
    }
}

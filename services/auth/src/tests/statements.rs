//! Which statements a test's calls send to the database.

use std::fmt;
use std::sync::{Arc, Mutex};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// The beginnings, four words of each, of the statements that this thread sends to the database while it listens.
#[derive(Clone, Default)]
pub(crate) struct Statements {
    summaries: Arc<Mutex<Vec<String>>>,
}

struct Summary(Option<String>);

impl Statements {
    /// Those since the last look.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.summaries.lock().unwrap())
    }
}

impl Subscriber for Statements {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "sqlx::query"
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut summary = Summary(None);
        event.record(&mut summary);
        self.summaries.lock().unwrap().extend(summary.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

impl Visit for Summary {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "summary" {
            self.0 = Some(value.to_owned());
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}

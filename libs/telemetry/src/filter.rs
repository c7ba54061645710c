//! Which log lines are written.

use tracing::level_filters::LevelFilter;
use tracing::{Metadata, Subscriber};
use tracing_subscriber::filter::{Targets, filter_fn};
use tracing_subscriber::layer::Filter;
use tracing_subscriber::registry::LookupSpan;

use crate::Error;

/// The filter for log lines: what the operator asks for, and never more than `info` of other people's crates.
///
/// It goes by target and level alone: `EnvFilter`, which knows spans too, looks each of them up behind a lock whenever it is
/// entered or left, that is several times in every call.
///
/// Drivers and HTTP libraries print parameters of statements, frames with metadata, and credentials in URLs at `debug`
/// and `trace`. A filter such as `debug` must not make a leak of them.
pub(crate) fn log_filter<S>(text: &str) -> Result<impl Filter<S> + use<S>, Error>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    // `Targets` would take a directive for spans for a target that nothing has, and nothing for `error`.
    if text.contains('[') {
        return Err(Error::Filter);
    }
    let directives = text.split(',').map(str::trim).filter(|directive| !directive.is_empty());
    let asked: Targets = directives
        .collect::<Vec<_>>()
        .join(",")
        .parse()
        .map_err(|_| Error::Filter)?;
    let most = Filter::<S>::max_level_hint(&asked).unwrap_or(LevelFilter::TRACE);
    let is_written = move |metadata: &Metadata<'_>| {
        is_ours_or_terse(metadata) && asked.would_enable(metadata.target(), metadata.level())
    };
    // Without it every span and event of HTTP's and other people's crates would be looked at, at whatever level.
    Ok(filter_fn(is_written).with_max_level_hint(most))
}

fn is_ours_or_terse(metadata: &Metadata<'_>) -> bool {
    metadata.target().starts_with("rowhouse") || *metadata.level() <= LevelFilter::INFO
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing::Event;
    use tracing_subscriber::Layer;
    use tracing_subscriber::layer::{Context, SubscriberExt as _};

    use super::*;

    #[derive(Clone, Default)]
    struct Written {
        lines: Arc<Mutex<Vec<String>>>,
    }

    impl<S: Subscriber> Layer<S> for Written {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            let (level, target) = (event.metadata().level(), event.metadata().target());
            self.lines.lock().unwrap().push(format!("{level} {target}"));
        }
    }

    fn written(filter: &str) -> Vec<String> {
        let written = Written::default();
        let layer = written.clone().with_filter(log_filter(filter).unwrap());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::info!(target: "driver", "connected");
            tracing::debug!(target: "driver::query", "parameters: hunter2");
            tracing::trace!(target: "driver", "frame: hunter2");
            tracing::debug!(target: "rowhouse_crm", "ours");
        });
        written.lines.lock().unwrap().clone()
    }

    #[test]
    fn crates_of_others_say_no_more_than_info_whatever_is_asked() {
        for asked in [
            "trace",
            "debug,driver=trace",
            "driver::query=debug,info,rowhouse_crm=debug",
        ] {
            assert_eq!(written(asked), ["INFO driver", "DEBUG rowhouse_crm"], "{asked}");
        }
        assert_eq!(written("warn,rowhouse_crm=debug"), ["DEBUG rowhouse_crm"]);
        assert_eq!(written("warn, rowhouse_crm=debug,"), ["DEBUG rowhouse_crm"]);
        assert!(written("error").is_empty());
    }

    #[test]
    fn what_nobody_asks_for_is_left_out_by_its_level_alone() {
        for (asked, most) in [
            ("error", LevelFilter::ERROR),
            ("info", LevelFilter::INFO),
            ("warn,rowhouse_crm=debug", LevelFilter::DEBUG),
        ] {
            let filter = log_filter::<tracing_subscriber::Registry>(asked).unwrap();
            assert_eq!(filter.max_level_hint(), Some(most), "{asked:?}");
        }
    }

    #[test]
    fn a_damaged_filter_is_an_error() {
        for damaged in ["info,=x=y", "rowhouse=loud", "info,[rpc{rpc=x}]=debug"] {
            let read = log_filter::<tracing_subscriber::Registry>(damaged);
            assert!(matches!(read.err(), Some(Error::Filter)), "{damaged}");
        }
    }
}

//! Which log lines are written.

use tracing_subscriber::EnvFilter;

use crate::Error;

/// Crates that print parameters of statements, frames with metadata, or credentials in URLs below `info`. A filter such
/// as `debug` must not make a leak of them.
const HELD_BACK: [&str; 9] = [
    "tokio_postgres=info",
    "sqlx=info",
    "h2=info",
    "hyper=info",
    "tonic=info",
    "tower=info",
    "lapin=info",
    "lettre=info",
    "redis=info",
];

/// The filter for log lines: what the operator asks for, with [`HELD_BACK`] on top.
pub(crate) fn log_filter(text: &str) -> Result<EnvFilter, Error> {
    let mut filter = EnvFilter::builder()
        .with_regex(false)
        .parse(text)
        .map_err(|_| Error::Filter)?;
    for directive in HELD_BACK {
        let directive = directive.parse().map_err(|_| Error::Filter)?;
        filter = filter.add_directive(directive);
    }
    Ok(filter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crates_that_print_parameters_are_held_back_whatever_is_asked() {
        for asked in ["trace", "tokio_postgres=trace", "debug,sqlx=debug"] {
            let shown = log_filter(asked).unwrap().to_string();
            assert!(
                shown.contains("tokio_postgres=info") && shown.contains("sqlx=info"),
                "{shown}"
            );
            assert!(!shown.contains("tokio_postgres=trace"), "{shown}");
        }
    }

    #[test]
    fn a_damaged_filter_is_an_error() {
        assert!(matches!(log_filter("info,=x=y"), Err(Error::Filter)));
    }
}

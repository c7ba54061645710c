//! Setting up logs and traces, and flushing them at the end.

use std::time::Duration;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use rowhouse_config::section::Telemetry;
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::{self, FormatFields, format};
use tracing_subscriber::layer::{Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::fields::Fields;
use crate::filter::log_filter;

/// Longest time to send what is left of the traces when the process stops. A collector that does not answer must not
/// hold up the exit.
const SHUTDOWN_MAX: Duration = Duration::from_secs(3);

/// Longest time for one export to the collector.
const EXPORT_MAX: Duration = Duration::from_secs(5);

/// Keeps traces flowing; to be shut down last.
#[derive(Debug)]
#[must_use = "without its shutdown the last traces are lost"]
pub struct Guard {
    provider: SdkTracerProvider,
}

/// Logs or traces cannot be set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The filter cannot be read.
    #[error("the log filter cannot be read")]
    Filter,
    /// The collector's address cannot be used.
    #[error("the address of the trace collector cannot be used")]
    Endpoint,
    /// The process has a subscriber or recorder already.
    #[error("logs or metrics were set up before")]
    Twice,
}

/// Sets up logs and traces of the process. To be called once, inside the runtime.
///
/// Logs go to stderr, as JSON lines or for people. Trace context is made and passed on even where no collector is
/// configured, so that one id leads through the logs of all services.
///
/// `service`: the name under which traces appear.
///
/// # Errors
/// [`Error`]; nothing is set up then.
pub fn init(service: &'static str, config: &Telemetry) -> Result<Guard, Error> {
    let filter = log_filter(&config.filter)?;
    let provider = provider(service, config.otlp_endpoint.as_deref())?;
    let logs = if config.json {
        json_layer(Fields).with_writer(std::io::stderr).boxed()
    } else {
        fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
            .boxed()
    };
    tracing_subscriber::registry()
        .with(logs.with_filter(filter))
        .with(trace_layer(&provider))
        .try_init()
        .map_err(|_| Error::Twice)?;
    Ok(Guard { provider })
}

/// The layer that writes a line of JSON for each event, with the fields of the span in which it is.
pub(crate) fn json_layer<S, F>(fields: F) -> fmt::Layer<S, F, format::Format<format::Json>>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    F: for<'writer> FormatFields<'writer> + 'static,
{
    let layer = fmt::layer().json().flatten_event(true).with_span_list(false);
    layer.fmt_fields(fields)
}

/// The layer that makes spans of the trace. It has a filter of its own: a quiet log must not cut traces in two.
pub(crate) fn trace_layer<S>(provider: &SdkTracerProvider) -> impl Layer<S> + use<S>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let ours = Targets::new()
        .with_default(LevelFilter::OFF)
        .with_target("rowhouse", LevelFilter::INFO);
    tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("rowhouse"))
        // Source locations and thread names say nothing to an operator and double the size of a span.
        .with_location(false)
        .with_threads(false)
        // How long a span was polled and how long it waited would be counted at each step of each call.
        .with_tracked_inactivity(false)
        // Nobody here asks OpenTelemetry itself which span is the current one: it would be told so at each step too.
        .with_context_activation(false)
        .with_filter(ours)
}

fn provider(service: &'static str, endpoint: Option<&str>) -> Result<SdkTracerProvider, Error> {
    let builder = SdkTracerProvider::builder().with_resource(Resource::builder().with_service_name(service).build());
    let Some(endpoint) = endpoint else {
        // Ids are made and passed on; nothing is recorded unless the caller records.
        let sampler = Sampler::ParentBased(Box::new(Sampler::AlwaysOff));
        return Ok(builder.with_sampler(sampler).build());
    };
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .with_timeout(EXPORT_MAX)
        .build()
        .map_err(|_| Error::Endpoint)?;
    Ok(builder
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOn)))
        .with_batch_exporter(exporter)
        .build())
}

// === impl Guard ===

impl Guard {
    /// Sends what is left of the traces and stops, within 3 seconds.
    pub async fn shutdown(self) {
        // The SDK waits on a channel; on a runtime thread that would stop everything else.
        let stopped = tokio::task::spawn_blocking(move || self.provider.shutdown_with_timeout(SHUTDOWN_MAX));
        match tokio::time::timeout(SHUTDOWN_MAX, stopped).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::warn!(%error, "the last traces were not sent"),
            Ok(Err(_)) | Err(_) => tracing::warn!("the last traces were not sent in time"),
        }
    }
}

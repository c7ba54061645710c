//! W3C trace context (<https://www.w3.org/TR/trace-context/>) in and out of this process.
//!
//! The suite passes on `traceparent` alone: `tracestate` belongs to vendors, and would carry callers' text through all
//! services unread.

use std::collections::HashMap;

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::TraceContextExt as _;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// `traceparent` of the span in which the caller is: for a header of a message, or a column of the outbox. `None`
/// outside a trace.
#[must_use]
pub fn current_traceparent() -> Option<String> {
    let context = Span::current().context();
    let mut carrier = HashMap::new();
    TraceContextPropagator::new().inject_context(&context, &mut carrier);
    carrier.remove("traceparent")
}

/// Id of the trace in which the caller is, in 32 hexadecimal digits, for log lines. `None` outside a trace.
#[must_use]
pub fn current_trace_id() -> Option<String> {
    let context = Span::current().context();
    let span = context.span();
    let id = span.span_context().trace_id();
    span.span_context().is_valid().then(|| id.to_string())
}

/// Makes `span` a child of the trace that `traceparent` names. A damaged text is ignored: the span then begins a trace.
///
/// To be called before the span is entered; afterwards its parent is fixed.
pub fn set_parent(span: &Span, traceparent: &str) {
    let carrier = HashMap::from([("traceparent".to_owned(), traceparent.to_owned())]);
    let context = TraceContextPropagator::new().extract(&carrier);
    if context.span().span_context().is_valid() {
        // Fails only where no trace is kept of this span, which is then right.
        let _not_traced = span.set_parent(context);
    }
}

/// Makes `span` a child of the trace that the metadata of a gRPC call names, where it names exactly one.
pub fn set_parent_from(span: &Span, headers: &HeaderMap) {
    let mut values = headers.get_all(TRACEPARENT).iter();
    if let (Some(value), None) = (values.next(), values.next())
        && let Ok(text) = value.to_str()
    {
        set_parent(span, text);
    }
}

/// Says something of `span` to the trace alone. A field of the span would reach the log as well, which reads what it has written
/// of a span and writes it all again for each field that comes later.
pub fn set_attribute(span: &Span, name: &'static str, value: &'static str) {
    span.set_attribute(name, value);
}

/// Writes the trace context of the current span into the metadata of a gRPC call.
pub fn inject(headers: &mut HeaderMap) {
    if let Some(value) = current_traceparent().and_then(|text| HeaderValue::try_from(text).ok()) {
        headers.insert(TRACEPARENT, value);
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn in_a_subscriber<T>(test: impl FnOnce() -> T) -> T {
        let provider = SdkTracerProvider::builder().build();
        let subscriber = tracing_subscriber::registry().with(crate::guard::trace_layer(&provider));
        tracing::subscriber::with_default(subscriber, test)
    }

    fn span() -> Span {
        tracing::info_span!(target: "rowhouse_test", "call")
    }

    #[test]
    fn a_trace_goes_through_this_process() {
        in_a_subscriber(|| {
            let mut headers = HeaderMap::new();
            headers.insert(TRACEPARENT, HeaderValue::from_static(PARENT));
            let span = span();
            set_parent_from(&span, &headers);
            let _entered = span.enter();
            let mut onward = HeaderMap::new();
            inject(&mut onward);
            let sent = onward.get(TRACEPARENT).unwrap().to_str().unwrap();
            assert!(sent.starts_with("00-0af7651916cd43dd8448eb211c80319c-"), "{sent}");
            assert_ne!(sent, PARENT);
            assert_eq!(current_trace_id().unwrap(), "0af7651916cd43dd8448eb211c80319c");
        });
    }

    #[test]
    fn damaged_and_repeated_contexts_begin_a_new_trace() {
        in_a_subscriber(|| {
            let repeated = [PARENT, PARENT].map(HeaderValue::from_static);
            let damaged = [HeaderValue::from_static("00-zz-b7ad6b7169203331-01")];
            for values in [repeated.to_vec(), damaged.to_vec()] {
                let mut headers = HeaderMap::new();
                for value in values {
                    headers.append(TRACEPARENT, value);
                }
                let span = span();
                set_parent_from(&span, &headers);
                let _entered = span.enter();
                let own = current_traceparent().unwrap();
                assert!(!own.contains("0af7651916cd43dd8448eb211c80319c"), "{own}");
            }
        });
    }

    #[test]
    fn outside_a_trace_there_is_nothing_to_pass_on() {
        assert_eq!(current_traceparent(), None);
        assert_eq!(current_trace_id(), None);
    }
}

//! Spans reach the collector. A process of its own, because telemetry is set up once for each.

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use rowhouse_config::section::Telemetry;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};
use tracing::info_span;

struct Collector {
    received: mpsc::UnboundedSender<ExportTraceServiceRequest>,
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let _test_is_over = self.received.send(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[tokio::test(flavor = "multi_thread")]
async fn our_spans_are_exported_under_the_callers_trace_and_others_are_not() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (received, mut exports) = mpsc::unbounded_channel();
    let server = tonic::transport::Server::builder().add_service(TraceServiceServer::new(Collector { received }));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));

    // The quiet log must not cut traces.
    let config = Telemetry {
        filter: "error".to_owned(),
        json: true,
        otlp_endpoint: Some(format!("http://{addr}")),
    };
    let guard = rowhouse_telemetry::init("crm", &config).unwrap();
    assert!(rowhouse_telemetry::init("crm", &config).is_err(), "set up twice");
    {
        let span = info_span!(target: "rowhouse_crm", "get_contact");
        rowhouse_telemetry::trace::set_parent(&span, PARENT);
        let _entered = span.enter();
        rowhouse_telemetry::trace::set_attribute(&span, "code", "NOT_FOUND");
        drop(info_span!(target: "rowhouse_crm", "load").entered());
        let _theirs = info_span!(target: "tokio_postgres", "query", password = "hunter2").entered();
    }
    guard.shutdown().await;

    let export = exports.recv().await.unwrap();
    let shown = format!("{export:?}");
    assert!(shown.contains("get_contact") && shown.contains("service.name") && shown.contains("crm"));
    assert!(!shown.contains("hunter2"), "{shown}");
    let spans = &export.resource_spans[0].scope_spans[0].spans;
    let [inner, outer] = &spans[..] else {
        panic!("{spans:?}")
    };
    assert_eq!((&*inner.name, &*outer.name), ("load", "get_contact"));
    assert_eq!(outer.trace_id[..4], [0x0a, 0xf7, 0x65, 0x19]);
    assert_eq!(outer.parent_span_id[..2], [0xb7, 0xad]);
    assert_eq!(
        (&inner.trace_id, &inner.parent_span_id),
        (&outer.trace_id, &outer.span_id)
    );
    let code = outer.attributes.iter().find(|attribute| attribute.key == "code");
    assert!(
        code.is_some_and(|code| format!("{code:?}").contains("NOT_FOUND")),
        "{outer:?}"
    );
}

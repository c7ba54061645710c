//! A collector of traces, as an operator would run one: it keeps what the suite's processes export (OTLP over gRPC).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use anyhow::Result;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::ResourceSpans;
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

/// What was exported, by the names of the services, byte by byte as it came: whatever field something stands in, its text is in
/// one piece.
type Kept = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

/// A running collector; it ends when it is dropped.
pub(crate) struct Collector {
    address: SocketAddr,
    kept: Kept,
    task: JoinHandle<()>,
}

#[derive(Clone)]
struct Keep {
    kept: Kept,
}

impl Collector {
    pub(crate) async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let kept = Kept::default();
        let service = TraceServiceServer::new(Keep { kept: kept.clone() });
        let server = tonic::transport::Server::builder().add_service(service);
        let task = tokio::spawn(async move {
            // It ends with the test; a process that cannot export shows as traces that are missing.
            let _ = server.serve_with_incoming(TcpListenerStream::new(listener)).await;
        });
        Ok(Self { address, kept, task })
    }

    /// What the suite's `ROWHOUSE_OTLP_ENDPOINT` is set to.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The traces of each service, as text.
    pub(crate) fn texts(&self) -> BTreeMap<String, String> {
        let kept = self.kept.lock().expect("nobody panics with it");
        let text = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).into_owned();
        kept.iter()
            .map(|(service, bytes)| (service.clone(), text(bytes)))
            .collect()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tonic::async_trait]
impl TraceService for Keep {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut kept = self.kept.lock().expect("nobody panics with it");
        for spans in request.into_inner().resource_spans {
            kept.entry(service(&spans)).or_default().extend(spans.encode_to_vec());
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// Who exported; empty where they do not say.
fn service(spans: &ResourceSpans) -> String {
    let mut attributes = spans.resource.iter().flat_map(|resource| &resource.attributes);
    let name = attributes.find(|attribute| attribute.key == "service.name");
    match name.and_then(|name| name.value.as_ref()?.value.clone()) {
        Some(Value::StringValue(name)) => name,
        _ => String::new(),
    }
}

//! Calls any RPC by its path with any bytes and any metadata, and finds RPCs and their fields in the descriptors.

use std::sync::LazyLock;

use bytes::{Buf as _, BufMut as _, Bytes};
use prost_reflect::{DescriptorPool, DynamicMessage, Kind, MessageDescriptor, MethodDescriptor, Value};
use rowhouse_devkit::suite::{Listener, Process, Suite};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

/// All RPCs of the suite.
pub(crate) static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(rowhouse_proto::FILE_DESCRIPTOR_SET).expect("the suite's descriptors"));

/// The RPC at a path.
pub(crate) fn method(path: &str) -> MethodDescriptor {
    let (service, name) = path
        .trim_start_matches('/')
        .split_once('/')
        .expect("a path is /service/method");
    let service = POOL
        .get_service_by_name(service)
        .unwrap_or_else(|| panic!("no service {service}"));
    service
        .methods()
        .find(|method| method.name() == name)
        .unwrap_or_else(|| panic!("no RPC {path}"))
}

/// The process that serves a path on a listener.
pub(crate) fn process(path: &str) -> Process {
    // Of the contracts that lie in `common`, the participants' is served by crm first, the records' by auth and worker, the
    // logs' by all but auth.
    if path.contains(".common.v1.TenantRecordsService/") {
        return Process::Auth;
    }
    if path.contains("AuditLogService/") {
        return Process::Tenant;
    }
    match path.trim_start_matches('/').split('.').nth(1) {
        Some("tenant") => Process::Tenant,
        Some("auth") => Process::Auth,
        Some("crm") => Process::Crm,
        Some("worker") => Process::Worker,
        _ => Process::CrmProvision,
    }
}

/// A channel to the listener of the process that serves a path.
pub(crate) fn channel(suite: &Suite, path: &str, listener: Listener) -> Channel {
    Endpoint::from_shared(suite.url(process(path), listener))
        .expect("a URL")
        .connect_lazy()
}

/// Paths of the string fields of a message that hold ids of resources: `id`, `user_id`, `contact.id`.
pub(crate) fn id_fields(message: &MessageDescriptor) -> Vec<String> {
    let mut found = Vec::new();
    for field in message.fields().filter(|field| !field.is_list()) {
        match field.kind() {
            // A request id is the client's own; it names nothing.
            Kind::String if field.name() == "request_id" => {}
            Kind::String if field.name() == "id" || field.name().ends_with("_id") => {
                found.push(field.name().to_owned())
            }
            Kind::Message(inner) if inner.full_name().starts_with("rowhouse.") => {
                found.extend(
                    id_fields(&inner)
                        .into_iter()
                        .map(|path| format!("{}.{path}", field.name())),
                );
            }
            _ => {}
        }
    }
    found
}

/// The encoded message with one string field replaced.
pub(crate) fn with_field(message: &MessageDescriptor, encoded: &[u8], path: &str, text: &str) -> Vec<u8> {
    let mut dynamic = DynamicMessage::decode(message.clone(), encoded).expect("decodes");
    set(&mut dynamic, path, text);
    prost::Message::encode_to_vec(&dynamic)
}

fn set(message: &mut DynamicMessage, path: &str, text: &str) {
    match path.split_once('.') {
        None => message.set_field_by_name(path, Value::String(text.to_owned())),
        Some((head, rest)) => match message.get_field_by_name_mut(head) {
            Some(Value::Message(inner)) => set(inner, rest, text),
            other => panic!("{head} is not a message: {other:?}"),
        },
    }
}

/// Calls an RPC with raw bytes and collects every message of the answer.
pub(crate) async fn call(
    channel: &Channel,
    path: &str,
    metadata: MetadataMap,
    message: &[u8],
) -> Result<Vec<Bytes>, Status> {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client
        .ready()
        .await
        .map_err(|error| Status::unavailable(error.to_string()))?;
    let request = Request::from_parts(metadata, tonic::Extensions::new(), Bytes::copy_from_slice(message));
    let mut answer = client
        .server_streaming(request, path.parse().expect("a path"), Raw)
        .await?
        .into_inner();
    let mut messages = Vec::new();
    while let Some(part) = answer.message().await? {
        messages.push(part);
    }
    Ok(messages)
}

/// A codec that changes nothing.
#[derive(Clone, Copy)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

//! Server reflection, so that grpcurl works without a proto file: v1, and v1alpha because packaged grpcurl speaks only
//! that.

use tonic_reflection::server::{Builder, Error};

use crate::services::Services;

/// Adds reflection of these services to them. Only the services of this listener are listed.
///
/// # Errors
/// Where a descriptor set cannot be read, which a test of this crate would have shown.
pub(crate) fn add(services: Services) -> Result<Services, Error> {
    let v1 = builder(&services.names).build_v1()?;
    let v1alpha = builder(&services.names).build_v1alpha()?;
    let names = services.names.clone();
    let with_reflection = services.with(v1).with(v1alpha);
    // Reflection has no health of its own.
    Ok(Services {
        names,
        ..with_reflection
    })
}

fn builder(names: &[&'static str]) -> Builder<'static> {
    let builder = Builder::configure()
        .register_encoded_file_descriptor_set(rowhouse_proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        // Not named by any service: details of statuses. Without them a client prints bytes.
        .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
        .with_service_name("grpc.health.v1.Health")
        .with_service_name("grpc.reflection.v1.ServerReflection")
        .with_service_name("grpc.reflection.v1alpha.ServerReflection");
    names
        .iter()
        .fold(builder, |builder, name| builder.with_service_name(*name))
}

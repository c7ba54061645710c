//! Which RPC a path names.

use rowhouse_proto::policy::{self, Policy};

/// What a path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rpc {
    /// An RPC of the suite.
    Suite(&'static Policy),
    /// `grpc.health.v1.Health/Check`.
    HealthCheck,
    /// Another RPC of the health service.
    HealthOther,
    /// An RPC of the reflection service, v1 or v1alpha.
    Reflection,
    /// Nothing that is known.
    Unknown,
}

/// Finds out what `path` names.
pub(crate) fn identify(path: &str) -> Rpc {
    match path {
        "/grpc.health.v1.Health/Check" => Rpc::HealthCheck,
        "/grpc.health.v1.Health/Watch" | "/grpc.health.v1.Health/List" => Rpc::HealthOther,
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
        | "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo" => Rpc::Reflection,
        _ => policy::find(path).map_or(Rpc::Unknown, Rpc::Suite),
    }
}

// === impl Rpc ===

impl Rpc {
    /// The name for metrics and logs. What is not known has one name: whoever sends paths must not make labels.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Suite(policy) => policy.path.trim_start_matches('/'),
            Self::HealthCheck => "grpc.health.v1.Health/Check",
            Self::HealthOther => "grpc.health.v1.Health",
            Self::Reflection => "grpc.reflection.ServerReflection",
            Self::Unknown => "unknown",
        }
    }
}

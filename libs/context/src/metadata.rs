//! Names of the request metadata that the suite reads and sends. gRPC metadata keys are lower case.

/// `Bearer <access token>` of the user.
pub const AUTHORIZATION: &str = "authorization";
/// The tenant, as TypeID.
pub const TENANT_ID: &str = "x-tenant-id";
/// The id under which a call is logged and traced; made by the first service where the client sends none.
pub const REQUEST_ID: &str = "x-request-id";
/// Why a platform operator calls: required where they act in a tenant.
pub const REASON: &str = "x-reason";
/// Signed token of the calling service, on internal listeners only.
pub const SERVICE_AUTHORIZATION: &str = "x-service-authorization";
/// W3C trace context.
pub const TRACEPARENT: &str = "traceparent";
/// Time left for the call, in gRPC's own form.
pub const GRPC_TIMEOUT: &str = "grpc-timeout";

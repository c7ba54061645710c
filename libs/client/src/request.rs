//! Requests to peers, with what every call carries on: request id, time left, trace, and the user behind it.

use std::time::Duration;

use rowhouse_context::{Ctx, Principal, RequestId, ServiceName, metadata};
use rowhouse_status::Failure;
use rowhouse_telemetry::trace::current_traceparent;
use rowhouse_types::TenantId;
use tokio::time::Instant;
use tonic::metadata::{AsciiMetadataValue, MetadataMap};

/// A request of this service on its own behalf.
///
/// Carries the request id, the time left of `ctx` and the trace of the current span.
pub fn request<T>(ctx: &Ctx, message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(ctx.time_left());
    let metadata = request.metadata_mut();
    // Neither text can be refused: the alphabets of both are within visible ASCII.
    let _taken = set(metadata, metadata::REQUEST_ID, ctx.request_id().as_str());
    if let Some(traceparent) = current_traceparent() {
        let _taken = set(metadata, metadata::TRACEPARENT, &traceparent);
    }
    request
}

/// A request on behalf of a user, with the user's rights: the peer verifies the user's token beside our identity.
///
/// `token`: the access token, without `Bearer `. `tenant`: the tenant to act in; required where the user is a platform
/// operator. The operator's reason is carried on from `ctx`.
///
/// # Errors
/// A [`Failure`] where the token or the reason cannot stand in metadata; both were read from metadata or come from
/// auth, so that is a fault of ours.
pub fn request_as_user<T>(
    ctx: &Ctx,
    token: &str,
    tenant: Option<TenantId>,
    message: T,
) -> Result<tonic::Request<T>, Failure> {
    let mut request = request(ctx, message);
    let metadata = request.metadata_mut();
    let mut bearer = AsciiMetadataValue::try_from(format!("Bearer {token}"))
        .map_err(|_| Failure::internal("an access token cannot stand in metadata"))?;
    bearer.set_sensitive(true);
    metadata.insert(metadata::AUTHORIZATION, bearer);
    if let Some(tenant) = tenant {
        set(metadata, metadata::TENANT_ID, &tenant.to_string())?;
    }
    if let Some(reason) = ctx.reason() {
        set(metadata, metadata::REASON, reason)?;
    }
    Ok(request)
}

fn set(metadata: &mut MetadataMap, key: &'static str, text: &str) -> Result<(), Failure> {
    let value =
        AsciiMetadataValue::try_from(text).map_err(|_| Failure::internal(format!("{key} cannot stand in metadata")))?;
    metadata.insert(key, value);
    Ok(())
}

/// The context of what this process does by itself, such as renewing a lease. `bound`: how long it may take.
pub(crate) fn own_ctx(name: ServiceName, bound: Duration) -> Ctx {
    let principal = Principal::Service { name };
    Ctx::new(RequestId::generate(), principal, None, Instant::now() + bound)
}

/// The context of a question that one caller asks and others wait for: the caller's, with a deadline of its own, since the
/// caller's may be the shortest of all. `bound`: how long it may take.
pub(crate) fn shared_ctx(ctx: &Ctx, bound: Duration) -> Ctx {
    Ctx::new(
        ctx.request_id().clone(),
        ctx.principal().clone(),
        None,
        Instant::now() + bound,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ctx() -> Ctx {
        own_ctx(ServiceName::Worker, Duration::from_millis(1_500))
    }

    #[tokio::test]
    async fn a_request_carries_its_id_and_the_time_left() {
        let ctx = ctx();
        let request = request(&ctx, ());
        let metadata = request.metadata();
        assert_eq!(metadata.get("x-request-id").unwrap(), ctx.request_id().as_str());
        let timeout = metadata.get("grpc-timeout").unwrap().to_str().unwrap();
        let digits: u64 = timeout.trim_end_matches(char::is_alphabetic).parse().unwrap();
        assert!(timeout.ends_with('u') && digits <= 1_500_000, "{timeout}");
        assert!(metadata.get("authorization").is_none() && metadata.get("x-tenant-id").is_none());
    }

    #[tokio::test]
    async fn a_request_for_a_user_names_token_tenant_and_reason_and_hides_the_token() {
        let tenant = TenantId::generate();
        let ctx = ctx().with_origin(Some("ticket 17".to_owned()), None);
        let request = request_as_user(&ctx, "secret.token.here", Some(tenant), ()).unwrap();
        let metadata = request.metadata();
        assert_eq!(metadata.get("authorization").unwrap(), "Bearer secret.token.here");
        assert_eq!(metadata.get("x-tenant-id").unwrap(), tenant.to_string().as_str());
        assert_eq!(metadata.get("x-reason").unwrap(), "ticket 17");
        assert!(!format!("{request:?}").contains("secret.token"));
        assert!(request_as_user(&ctx, "a\r\nb", None, ()).is_err());
    }
}

//! Impersonation as messages.

use std::time::Duration;

use rowhouse_db::paging::page_size;
use rowhouse_proto::auth::v1 as proto;
use rowhouse_proto::timestamp;
use rowhouse_proto::well_known;
use rowhouse_status::{Failure, Violations};
use rowhouse_types::{SessionId, TenantId};

use super::{Impersonation, LASTS, LASTS_MAX, LASTS_MIN, Reason, Running, Start};
use crate::wire::optional;

pub(super) fn start(request: &proto::StartImpersonationRequest) -> Result<Start, Failure> {
    let mut violations = Violations::default();
    let tenant = violations.take("tenant_id", request.tenant_id.parse());
    let user = violations.take("user_id", request.user_id.parse());
    let reason = violations.take("reason", Reason::parse_required(&request.reason));
    let lasts = violations.take("duration", lasts(request.duration));
    let read = tenant.zip(user).zip(reason).zip(lasts);
    violations.finish(read.map(|(((tenant, user), reason), lasts)| Start {
        tenant,
        user,
        reason,
        lasts,
    }))
}

pub(super) fn session(id: &str) -> Result<SessionId, Failure> {
    id.parse().map_err(|fault| Failure::field("session_id", fault))
}

/// Of which tenant to list, where one is named, and how many.
pub(super) fn list(request: &proto::ListImpersonationsRequest) -> Result<(Option<TenantId>, u32), Failure> {
    let mut violations = Violations::default();
    let tenant = violations.take("tenant_id", optional(&request.tenant_id));
    let size = violations.take("page_size", page_size(request.page_size));
    violations.finish(tenant.zip(size))
}

pub(super) fn running(running: Running) -> proto::RunningImpersonation {
    proto::RunningImpersonation {
        session_id: running.session.to_string(),
        tenant_id: running.tenant.to_string(),
        user_id: running.user.to_string(),
        operator_id: running.operator.to_string(),
        address: running.address.unwrap_or_default(),
        start_time: Some(timestamp(running.began)),
        end_time: Some(timestamp(running.ends)),
    }
}

pub(super) fn impersonation(impersonation: Impersonation) -> proto::Impersonation {
    let Impersonation {
        opened,
        access_token,
        expires,
    } = impersonation;
    proto::Impersonation {
        session_id: opened.session.to_string(),
        tenant_id: opened.tenant.to_string(),
        user_id: opened.user.to_string(),
        end_time: Some(timestamp(opened.ends)),
        access_token,
        expire_time: Some(timestamp(expires)),
    }
}

fn lasts(duration: Option<well_known::Duration>) -> Result<Duration, &'static str> {
    let Some(duration) = duration else {
        return Ok(LASTS);
    };
    let lasts = Duration::try_from(duration).ok();
    let lasts = lasts.filter(|lasts| (LASTS_MIN..=LASTS_MAX).contains(lasts));
    lasts.ok_or("must be a minute to an hour")
}

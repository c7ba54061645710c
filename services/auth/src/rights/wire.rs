//! Rights as messages.

use std::time::Duration;

use rowhouse_context::{Ctx, Impersonator, Principal};
use rowhouse_proto::auth::v1 as proto;
use rowhouse_status::{Failure, Reason, Violations};
use rowhouse_types::UserId;

use super::{LEASE, News, Query, Renewal, Rights, Standing, Version, WAIT_MAX};
use crate::wire::optional;

pub(super) fn renewal(ctx: &Ctx, request: &proto::RenewLeaseRequest) -> Result<Renewal, Failure> {
    let Principal::Service { name } = ctx.principal() else {
        return Err(Failure::new(Reason::AudienceMismatch, "only services hold leases"));
    };
    let mut violations = Violations::default();
    let instance = violations.take("instance_id", request.instance_id.parse().map_err(|_| "must be a UUID"));
    if request.confirmed_version < 0 {
        violations.add("confirmed_version", "must not be negative");
    }
    let wait = violations.take(
        "wait_ms",
        u64::try_from(request.wait_ms).map_err(|_| "must not be negative"),
    );
    violations.finish(instance.zip(wait).map(|(instance, wait_ms)| Renewal {
        instance,
        service: name.as_str(),
        confirmed: Version(request.confirmed_version),
        wait: Duration::from_millis(wait_ms).min(WAIT_MAX),
    }))
}

pub(super) fn query(request: &proto::GetRightsRequest) -> Result<Query, Failure> {
    let mut violations = Violations::default();
    let user = violations.take("user_id", request.user_id.parse::<UserId>());
    let session = violations.take("session_id", optional(&request.session_id));
    let tenant = violations.take("tenant_id", optional(&request.tenant_id));
    let key = violations.take("key_id", optional(&request.key_id));
    let operator = violations.take("operator_id", optional(&request.operator_id));
    let origin = violations.take("operator_session_id", optional(&request.operator_session_id));
    if request.operator_id.is_empty() != request.operator_session_id.is_empty() {
        violations.add(
            "operator_session_id",
            "must be there where operator_id is, and not without it",
        );
    }
    if !request.operator_id.is_empty()
        && (request.platform || request.session_id.is_empty() || request.tenant_id.is_empty())
    {
        violations.add("operator_id", "must be there with a session in a tenant only");
    }
    let by = operator.zip(origin).map(|(operator, session)| {
        let by = operator.zip(session);
        by.map(|(operator, session)| Impersonator { operator, session })
    });
    let read = user.zip(session).zip(tenant).zip(key).zip(by);
    violations.finish(read.map(|((((user, session), tenant), key), by)| Query {
        user,
        session,
        tenant,
        platform: request.platform,
        key,
        by,
    }))
}

pub(super) fn news(news: News) -> proto::RenewLeaseResponse {
    proto::RenewLeaseResponse {
        version: news.version.0,
        changed_subjects: news.subjects,
        drop_all: news.drop_all,
        lease_ms: i32::try_from(LEASE.as_millis()).unwrap_or_default(),
    }
}

pub(super) fn rights(rights: &Rights) -> proto::Rights {
    let standing = match rights.standing {
        Standing::Good => proto::Standing::Good,
        Standing::Revoked => proto::Standing::Revoked,
        Standing::TenantSuspended => proto::Standing::TenantSuspended,
        Standing::TenantUnknown => proto::Standing::TenantUnknown,
        Standing::SecondFactorNotShown => proto::Standing::SecondFactorNotShown,
        Standing::KeyRevoked => proto::Standing::KeyRevoked,
    };
    proto::Rights {
        version: rights.version.0,
        standing: standing.into(),
        roles: rights.role.iter().cloned().collect(),
        permissions: rights.grants.to_strings(),
        team_user_ids: rights.team.iter().map(|user| user.to_string()).collect(),
    }
}

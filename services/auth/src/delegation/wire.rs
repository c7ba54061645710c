//! Delegation as messages.

use rowhouse_proto::auth::v1 as proto;
use rowhouse_proto::timestamp;
use rowhouse_status::{Failure, Violations};

use super::Work;
use crate::key::AccessToken;

pub(super) fn work(request: &proto::IssueJobTokenRequest) -> Result<Work, Failure> {
    let mut violations = Violations::default();
    let job = violations.take("job_id", request.job_id.parse());
    let tenant = violations.take("tenant_id", request.tenant_id.parse());
    let user = violations.take("user_id", request.user_id.parse());
    let platform = request.platform;
    let read = job.zip(tenant).zip(user);
    violations.finish(read.map(|((job, tenant), user)| Work {
        job,
        tenant,
        user,
        platform,
    }))
}

pub(super) fn token(token: AccessToken) -> proto::IssueJobTokenResponse {
    proto::IssueJobTokenResponse {
        access_token: token.text,
        expire_time: Some(timestamp(token.expires)),
    }
}

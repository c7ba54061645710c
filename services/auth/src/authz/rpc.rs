//! `AuthzService`.

use std::sync::Arc;

use rowhouse_client::{Rights, reaches};
use rowhouse_middleware::ctx;
use rowhouse_proto::auth::v1 as proto;
use rowhouse_proto::auth::v1::authz_service_server::AuthzService;
use rowhouse_status::Failure;
use rowhouse_types::UserId;
use tonic::{Request, Response, Status};

use super::wire::Question;
use super::{actions, wire};
use crate::state::State;

/// Serves `AuthzService`.
pub(crate) struct AuthzRpc {
    pub(crate) state: Arc<State>,
}

#[tonic::async_trait]
impl AuthzService for AuthzRpc {
    async fn check(&self, request: Request<proto::CheckRequest>) -> Result<Response<proto::CheckResponse>, Status> {
        let question = wire::check(request.get_ref())?;
        let allowed = may(caller(&request)?, question);
        Ok(Response::new(proto::CheckResponse { allowed }))
    }

    async fn batch_check(
        &self,
        request: Request<proto::BatchCheckRequest>,
    ) -> Result<Response<proto::BatchCheckResponse>, Status> {
        let questions = wire::checks(request.get_ref())?;
        let caller = caller(&request)?;
        let allowed = questions.into_iter().map(|question| may(caller, question)).collect();
        Ok(Response::new(proto::BatchCheckResponse { allowed }))
    }

    async fn list_member_permissions(
        &self,
        request: Request<proto::ListMemberPermissionsRequest>,
    ) -> Result<Response<proto::ListMemberPermissionsResponse>, Status> {
        let ctx = ctx(&request)?;
        let user = wire::user(request.get_ref())?;
        let known = actions::known(&ctx, &self.state, user, sees_programs(&request)).await;
        Ok(Response::new(wire::member_permissions(&known.map_err(Failure::from)?)))
    }

    async fn explain(
        &self,
        request: Request<proto::ExplainRequest>,
    ) -> Result<Response<proto::ExplainResponse>, Status> {
        let ctx = ctx(&request)?;
        let (user, question) = wire::question(request.get_ref())?;
        let known = actions::known(&ctx, &self.state, user, sees_programs(&request)).await;
        Ok(Response::new(wire::explanation(
            &known.map_err(Failure::from)?,
            question,
        )))
    }
}

/// The caller and the rights with which this very call was let in: what is answered is what was decided.
fn caller<T>(request: &Request<T>) -> Result<(UserId, &Rights), Failure> {
    let rights = rowhouse_middleware::rights(request);
    let user = ctx(request)?.principal().user();
    user.zip(rights)
        .ok_or_else(|| Failure::internal("a call came to its answer without rights"))
}

/// Whether the caller may know of service accounts: that of members, which the RPCs ask for, is another right.
fn sees_programs<T>(request: &Request<T>) -> bool {
    let rights = rowhouse_middleware::rights(request);
    rights.is_some_and(|rights| rights.grants.scope("service_accounts:read").is_some())
}

fn may((user, rights): (UserId, &Rights), question: Question) -> bool {
    reaches(&rights.grants, user, &rights.team, question.permission, question.owner)
}

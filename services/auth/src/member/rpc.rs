//! `MemberService`.

use std::sync::Arc;

use rowhouse_context::Ctx;
use rowhouse_db::paging::{PageScope, page_size};
use rowhouse_middleware::ctx;
use rowhouse_proto::auth::v1 as proto;
use rowhouse_proto::auth::v1::member_service_server::MemberService;
use rowhouse_status::Failure;
use tonic::{Request, Response, Status};

use super::{actions, wire};
use crate::error::Error;
use crate::state::State;

/// Serves `MemberService`.
pub(crate) struct MemberRpc {
    pub(crate) state: Arc<State>,
}

#[tonic::async_trait]
impl MemberService for MemberRpc {
    async fn invite_member(
        &self,
        request: Request<proto::InviteMemberRequest>,
    ) -> Result<Response<proto::Invitation>, Status> {
        let ctx = ctx(&request)?;
        let invite = wire::invite(request.get_ref())?;
        let invitation = actions::invite(&ctx, &self.state, &invite).await;
        Ok(Response::new(wire::invitation(invitation.map_err(Failure::from)?)))
    }

    async fn get_member(&self, request: Request<proto::GetMemberRequest>) -> Result<Response<proto::Member>, Status> {
        let ctx = ctx(&request)?;
        let user = wire::user(request.get_ref())?;
        let member = actions::get(&ctx, &self.state, user).await;
        Ok(Response::new(wire::member(member.map_err(Failure::from)?)))
    }

    async fn list_members(
        &self,
        request: Request<proto::ListMembersRequest>,
    ) -> Result<Response<proto::ListMembersResponse>, Status> {
        let ctx = ctx(&request)?;
        let request = request.get_ref();
        let size = page_size(request.page_size).map_err(|fault| Failure::field("page_size", fault))?;
        let (pages, scope) = (&self.state.pages, scope(&ctx)?);
        let cursor = match request.page_token.as_str() {
            "" => None,
            token => Some(pages.open(&scope, token).map_err(|_| Failure::from(Error::PageToken))?),
        };
        let page = actions::list(&ctx, &self.state, cursor, size)
            .await
            .map_err(Failure::from)?;
        Ok(Response::new(proto::ListMembersResponse {
            next_page_token: page.next.map(|next| pages.seal(&scope, &next)).unwrap_or_default(),
            members: page.members.into_iter().map(wire::member).collect(),
        }))
    }

    async fn update_member(
        &self,
        request: Request<proto::UpdateMemberRequest>,
    ) -> Result<Response<proto::Member>, Status> {
        let ctx = ctx(&request)?;
        let change = wire::change(request.get_ref())?;
        let member = actions::update(&ctx, &self.state, &change).await;
        Ok(Response::new(wire::member(member.map_err(Failure::from)?)))
    }
}

/// What all pages of the caller's list have in common.
fn scope(ctx: &Ctx) -> Result<PageScope, Failure> {
    Ok(PageScope {
        method: "ListMembers",
        tenant: Some(ctx.tenant().map_err(|fault| Failure::from(Error::from(fault)))?),
        user: ctx.principal().user(),
        fingerprint: Vec::new(),
    })
}

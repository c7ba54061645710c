//! `MemberService`.

use std::sync::Arc;

use rowhouse_db::paging::page_size;
use rowhouse_middleware::ctx;
use rowhouse_proto::auth::v1 as proto;
use rowhouse_proto::auth::v1::member_service_server::MemberService;
use rowhouse_status::Failure;
use tonic::{Request, Response, Status};

use super::{actions, wire};
use crate::state::State;
use crate::wire::optional;

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
        let role = optional(&request.role).map_err(|fault| Failure::field("role", fault))?;
        let page = actions::list(&ctx, &self.state, role.as_ref(), size, &request.page_token).await;
        let page = page.map_err(Failure::from)?;
        Ok(Response::new(proto::ListMembersResponse {
            members: page.items.into_iter().map(wire::member).collect(),
            next_page_token: page.next_page_token,
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

    async fn remove_member(&self, request: Request<proto::RemoveMemberRequest>) -> Result<Response<()>, Status> {
        let ctx = ctx(&request)?;
        let (user, etag) = wire::removal(request.get_ref())?;
        let removed = actions::remove(&ctx, &self.state, user, etag).await;
        Ok(Response::new(removed.map_err(Failure::from)?))
    }

    async fn list_invitations(
        &self,
        request: Request<proto::ListInvitationsRequest>,
    ) -> Result<Response<proto::ListInvitationsResponse>, Status> {
        let ctx = ctx(&request)?;
        let request = request.get_ref();
        let size = page_size(request.page_size).map_err(|fault| Failure::field("page_size", fault))?;
        let page = actions::invitations(&ctx, &self.state, size, &request.page_token).await;
        let page = page.map_err(Failure::from)?;
        Ok(Response::new(proto::ListInvitationsResponse {
            invitations: page.items.into_iter().map(wire::invitation).collect(),
            next_page_token: page.next_page_token,
        }))
    }

    async fn resend_invitation(
        &self,
        request: Request<proto::ResendInvitationRequest>,
    ) -> Result<Response<proto::Invitation>, Status> {
        let ctx = ctx(&request)?;
        let id = wire::invitation_id(&request.get_ref().invitation_id)?;
        let sent = actions::resend(&ctx, &self.state, id).await;
        Ok(Response::new(wire::invitation(sent.map_err(Failure::from)?)))
    }

    async fn revoke_invitation(
        &self,
        request: Request<proto::RevokeInvitationRequest>,
    ) -> Result<Response<()>, Status> {
        let ctx = ctx(&request)?;
        let id = wire::invitation_id(&request.get_ref().invitation_id)?;
        let revoked = actions::revoke_invitation(&ctx, &self.state, id).await;
        Ok(Response::new(revoked.map_err(Failure::from)?))
    }
}

//! `TeamService`.

use std::sync::Arc;

use rowhouse_db::paging::page_size;
use rowhouse_middleware::ctx;
use rowhouse_proto::auth::v1 as proto;
use rowhouse_proto::auth::v1::team_service_server::TeamService;
use rowhouse_status::Failure;
use tonic::{Request, Response, Status};

use super::{actions, wire};
use crate::state::State;

type Answer<T> = Result<Response<T>, Status>;

/// Serves `TeamService`.
pub(crate) struct TeamRpc {
    pub(crate) state: Arc<State>,
}

#[tonic::async_trait]
impl TeamService for TeamRpc {
    async fn create_team(&self, request: Request<proto::CreateTeamRequest>) -> Answer<proto::Team> {
        let ctx = ctx(&request)?;
        let new = wire::new_team(request.get_ref())?;
        let team = actions::create(&ctx, &self.state, &new).await;
        Ok(Response::new(wire::team(team.map_err(Failure::from)?)))
    }

    async fn get_team(&self, request: Request<proto::GetTeamRequest>) -> Answer<proto::Team> {
        let ctx = ctx(&request)?;
        let id = wire::id(&request.get_ref().id)?;
        let team = actions::get(&ctx, &self.state, id).await;
        Ok(Response::new(wire::team(team.map_err(Failure::from)?)))
    }

    async fn list_teams(&self, request: Request<proto::ListTeamsRequest>) -> Answer<proto::ListTeamsResponse> {
        let ctx = ctx(&request)?;
        let request = request.get_ref();
        let size = page_size(request.page_size).map_err(|fault| Failure::field("page_size", fault))?;
        let page = actions::list(&ctx, &self.state, size, &request.page_token).await;
        let page = page.map_err(Failure::from)?;
        Ok(Response::new(proto::ListTeamsResponse {
            teams: page.items.into_iter().map(wire::team).collect(),
            next_page_token: page.next_page_token,
        }))
    }

    async fn update_team(&self, request: Request<proto::UpdateTeamRequest>) -> Answer<proto::Team> {
        let ctx = ctx(&request)?;
        let change = wire::change(request.get_ref())?;
        let team = actions::update(&ctx, &self.state, &change).await;
        Ok(Response::new(wire::team(team.map_err(Failure::from)?)))
    }

    async fn delete_team(&self, request: Request<proto::DeleteTeamRequest>) -> Answer<()> {
        let ctx = ctx(&request)?;
        let (id, etag) = wire::removal(request.get_ref())?;
        let deleted = actions::delete(&ctx, &self.state, id, etag).await;
        Ok(Response::new(deleted.map_err(Failure::from)?))
    }

    async fn list_team_members(
        &self,
        request: Request<proto::ListTeamMembersRequest>,
    ) -> Answer<proto::ListTeamMembersResponse> {
        let ctx = ctx(&request)?;
        let (id, size) = wire::member_list(request.get_ref())?;
        let page = actions::members(&ctx, &self.state, id, size, &request.get_ref().page_token).await;
        let page = page.map_err(Failure::from)?;
        Ok(Response::new(proto::ListTeamMembersResponse {
            members: page.items.iter().map(wire::member).collect(),
            next_page_token: page.next_page_token,
        }))
    }

    async fn set_team_member(&self, request: Request<proto::SetTeamMemberRequest>) -> Answer<proto::TeamMember> {
        let ctx = ctx(&request)?;
        let request = request.get_ref();
        let (id, user) = wire::membership(&request.team_id, &request.user_id)?;
        let member = actions::set_member(&ctx, &self.state, id, user, request.manager).await;
        Ok(Response::new(wire::member(&member.map_err(Failure::from)?)))
    }

    async fn remove_team_member(&self, request: Request<proto::RemoveTeamMemberRequest>) -> Answer<()> {
        let ctx = ctx(&request)?;
        let request = request.get_ref();
        let (id, user) = wire::membership(&request.team_id, &request.user_id)?;
        let removed = actions::remove_member(&ctx, &self.state, id, user).await;
        Ok(Response::new(removed.map_err(Failure::from)?))
    }
}

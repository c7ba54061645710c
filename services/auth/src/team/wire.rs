//! Teams as messages.

use rowhouse_db::paging::page_size;
use rowhouse_proto::auth::v1 as proto;
use rowhouse_proto::timestamp;
use rowhouse_status::{Failure, Violations};
use rowhouse_types::{Etag, TeamId, UserId};

use super::{Change, NewTeam, Team, TeamMember, TeamName};
use crate::wire::{optional, wanted};

pub(super) fn new_team(request: &proto::CreateTeamRequest) -> Result<NewTeam, Failure> {
    let team = request.team.as_ref();
    let team = team.ok_or_else(|| Failure::field("team", "must be set"))?;
    let mut violations = Violations::default();
    let name = violations.take("team.display_name", TeamName::parse_required(&team.display_name));
    let parent = violations.take("team.parent_id", optional(&team.parent_id));
    let request_id = violations.take("request_id", optional(&request.request_id));
    let read = name.zip(parent).zip(request_id);
    violations.finish(read.map(|((name, parent), request)| NewTeam { name, parent, request }))
}

/// The change that a mask and its values ask for. Without a mask, the fields that are set count (AIP-134).
pub(super) fn change(request: &proto::UpdateTeamRequest) -> Result<Change, Failure> {
    let team = request.team.as_ref();
    let team = team.ok_or_else(|| Failure::field("team", "must be set"))?;
    let mut violations = Violations::default();
    let id = violations.take("team.id", team.id.parse());
    let etag = violations.take("team.etag", optional(&team.etag));
    let fields = [
        ("display_name", !team.display_name.is_empty()),
        ("parent_id", !team.parent_id.is_empty()),
    ];
    let [renames, moves] = wanted(request.update_mask.as_ref(), fields, &mut violations);
    let name = renames.then(|| violations.take("team.display_name", TeamName::parse_required(&team.display_name)));
    let parent = moves.then(|| violations.take("team.parent_id", optional(&team.parent_id)));
    violations.finish(id.zip(etag).map(|(id, etag)| Change {
        id,
        name: name.flatten(),
        parent: parent.flatten(),
        etag,
    }))
}

pub(super) fn id(text: &str) -> Result<TeamId, Failure> {
    text.parse().map_err(|fault| Failure::field("id", fault))
}

/// Which team to remove, and the etag where one is given.
pub(super) fn removal(request: &proto::DeleteTeamRequest) -> Result<(TeamId, Option<Etag>), Failure> {
    let mut violations = Violations::default();
    let id = violations.take("id", request.id.parse());
    let etag = violations.take("etag", optional(&request.etag));
    violations.finish(id.zip(etag))
}

/// Whose members to list, and how many.
pub(super) fn member_list(request: &proto::ListTeamMembersRequest) -> Result<(TeamId, u32), Failure> {
    let mut violations = Violations::default();
    let id = violations.take("team_id", request.team_id.parse());
    let size = violations.take("page_size", page_size(request.page_size));
    violations.finish(id.zip(size))
}

/// A team, and somebody who is in it or is to be.
pub(super) fn membership(team: &str, user: &str) -> Result<(TeamId, UserId), Failure> {
    let mut violations = Violations::default();
    let team = violations.take("team_id", team.parse());
    let user = violations.take("user_id", user.parse());
    violations.finish(team.zip(user))
}

pub(super) fn team(team: Team) -> proto::Team {
    proto::Team {
        id: team.id.to_string(),
        display_name: team.name,
        parent_id: team.parent.map(|parent| parent.to_string()).unwrap_or_default(),
        member_count: i32::try_from(team.members).unwrap_or(i32::MAX),
        create_time: Some(timestamp(team.created)),
        update_time: Some(timestamp(team.updated)),
        etag: team.etag.to_string(),
    }
}

pub(super) fn member(member: &TeamMember) -> proto::TeamMember {
    proto::TeamMember {
        user_id: member.user.to_string(),
        manager: member.manages,
        create_time: Some(timestamp(member.created)),
    }
}

#[cfg(test)]
mod tests {
    use rowhouse_proto::well_known::FieldMask;

    use super::*;

    fn update(paths: &[&str], display_name: &str, parent_id: &str) -> Result<Change, Failure> {
        change(&proto::UpdateTeamRequest {
            team: Some(proto::Team {
                id: TeamId::generate().to_string(),
                display_name: display_name.to_owned(),
                parent_id: parent_id.to_owned(),
                ..proto::Team::default()
            }),
            update_mask: Some(FieldMask {
                paths: paths.iter().map(|path| (*path).to_owned()).collect(),
            }),
        })
    }

    #[test]
    fn a_new_team_may_have_a_request_id() {
        let new = |request_id: &str| {
            let display_name = "North".to_owned();
            new_team(&proto::CreateTeamRequest {
                team: Some(proto::Team {
                    display_name,
                    ..proto::Team::default()
                }),
                request_id: request_id.to_owned(),
            })
        };
        assert_eq!(new("").unwrap().request, None);
        let id = "0197a6de-1c8f-7c1e-a4a5-5f0e9d6f3b21";
        assert_eq!(new(id).unwrap().request, Some(id.parse().unwrap()));
        assert_eq!(new("twice").unwrap_err().violations()[0].field, "request_id");
    }

    #[test]
    fn only_the_fields_in_the_mask_change() {
        let parent = TeamId::generate().to_string();
        let renamed = update(&["display_name"], "North", &parent).unwrap();
        assert!(renamed.name.is_some() && renamed.parent.is_none());
        assert_eq!(update(&["parent_id"], "", "").unwrap().parent, Some(None), "to the top");
        let both = update(&[], "North", &parent).unwrap();
        assert!(both.name.is_some() && both.parent.is_some());
        let renamed = update(&[], "North", "").unwrap();
        assert_eq!(renamed.parent, None, "without a mask nothing is emptied");
        for (paths, name, parent) in [
            (["id"].as_slice(), "North", ""),
            (&["*"], "North", ""),
            (&["display_name", "display_name"], "North", ""),
            (&["display_name", "member_count"], "North", ""),
            (&["display_name"], "", ""),
            (&["parent_id"], "", "tenant_01jzy2v6k3e8f9a7b5c4d1g0hm"),
            (&[], "", ""),
        ] {
            assert!(update(paths, name, parent).is_err(), "{paths:?} {name:?} {parent:?}");
        }
    }
}

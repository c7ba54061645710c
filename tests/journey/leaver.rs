//! A member leaves: their contacts stay theirs, and are handed over to a colleague.

use anyhow::{Result, ensure};
use rowhouse_devkit::journey;
use rowhouse_proto::auth::v1::RemoveMemberRequest;
use rowhouse_proto::crm::v1::{GetContactRequest, ReassignContactsRequest, ReassignContactsResponse};
use tonic::Code;

use crate::support::world::{PLACEMENTS, World};

fn answer(reassigned_count: i64, remaining_count: i64) -> ReassignContactsResponse {
    ReassignContactsResponse {
        reassigned_count,
        remaining_count,
    }
}

#[tokio::test]
async fn the_contacts_of_who_has_left_are_handed_over() -> Result<()> {
    let world = World::start("leaver").await?;
    for placement in PLACEMENTS {
        let word = placement.as_str_name().to_lowercase().replace('_', "-");
        let house = world.house_in(placement, &word).await?;
        let (administrator, colleague) = (&house.administrator.caller, &house.manager.caller);
        let mut made = Vec::new();
        for name in ["Ada", "Grace"] {
            made.push(journey::create_contact(&house.user.caller, name, "").await?.id);
        }
        let remove = RemoveMemberRequest {
            user_id: house.user.tokens.user_id.clone(),
            etag: String::new(),
        };
        administrator.members().remove_member(remove).await?;
        let get = |id: &String| GetContactRequest { id: id.clone() };
        for id in &made {
            let unreached = colleague.contacts().get_contact(get(id)).await.unwrap_err();
            ensure!(unreached.code() == Code::NotFound, "{unreached:?}");
        }

        let hand_over = ReassignContactsRequest {
            from_owner_id: house.user.tokens.user_id.clone(),
            to_owner_id: house.manager.tokens.user_id.clone(),
            ..ReassignContactsRequest::default()
        };
        let by_colleague = colleague.contacts().reassign_contacts(hand_over.clone()).await?;
        ensure!(
            by_colleague.get_ref() == &answer(0, 0),
            "nobody takes what they do not reach: {by_colleague:?}"
        );
        let trial = ReassignContactsRequest {
            validate_only: true,
            ..hand_over.clone()
        };
        for (request, expected) in [(trial, answer(0, 2)), (hand_over.clone(), answer(2, 0))] {
            let answered = administrator.contacts().reassign_contacts(request).await?;
            ensure!(answered.get_ref() == &expected, "{placement:?}: {answered:?}");
        }
        for id in &made {
            let given = colleague.contacts().get_contact(get(id)).await?.into_inner();
            ensure!(given.owner_id == house.manager.tokens.user_id, "{given:?}");
        }
        let back = ReassignContactsRequest {
            from_owner_id: hand_over.to_owner_id,
            to_owner_id: hand_over.from_owner_id,
            ..ReassignContactsRequest::default()
        };
        let refused = administrator.contacts().reassign_contacts(back).await.unwrap_err();
        ensure!(
            refused.code() == Code::InvalidArgument,
            "who has left gets nothing: {refused:?}"
        );
    }
    Ok(())
}

//! A tenant's life after its birth, on the running suite, in every placement: read-only, suspended, deleted, undeleted.

use anyhow::Result;
use rowhouse_devkit::journey;
use rowhouse_proto::common::v1::Placement;
use rowhouse_proto::crm::v1::ListContactsRequest;
use rowhouse_proto::tenant::v1::{
    DeleteTenantRequest, ListTenantsRequest, ResumeTenantRequest, SetTenantReadOnlyRequest, SuspendTenantRequest,
    TenantState, UndeleteTenantRequest,
};
use tonic::Status;
use tonic_types::StatusExt as _;

use crate::support::world::{House, PLACEMENTS, World, slug_in};

/// The reason of a refusal, which every refusal has.
fn reason_of(status: &Status) -> String {
    let details = status.get_error_details();
    match details.error_info() {
        Some(info) => info.reason.clone(),
        None => format!("without ErrorInfo: {status}"),
    }
}

/// Why the members' call is refused; empty where it is not.
async fn read(house: &House) -> String {
    let listed = house
        .user
        .caller
        .contacts()
        .list_contacts(ListContactsRequest::default())
        .await;
    listed.err().as_ref().map(reason_of).unwrap_or_default()
}

async fn write(house: &House) -> String {
    let created = journey::create_contact(&house.user.caller, "A Contact", "").await;
    match created.map_err(anyhow::Error::downcast::<Status>) {
        Ok(_) => String::new(),
        Err(Ok(refused)) => reason_of(&refused),
        Err(Err(error)) => format!("no status: {error}"),
    }
}

#[tokio::test]
async fn what_a_change_of_state_forbids_is_refused_once_it_was_acknowledged() -> Result<()> {
    let world = World::start("lifecycle").await?;
    let neighbour = world.house("neighbour").await?;
    for placement in PLACEMENTS {
        life_in(&world, placement).await?;
        assert_eq!(
            (read(&neighbour).await, write(&neighbour).await),
            (String::new(), String::new())
        );
    }
    Ok(())
}

async fn life_in(world: &World, placement: Placement) -> Result<()> {
    let house = world.house_in(placement, &slug_in(placement, "life")).await?;
    let (id, reason) = (house.tenant.id.clone(), "a test".to_owned());
    let mut tenants = world.operator.tenants();
    assert_eq!(
        (read(&house).await, write(&house).await),
        (String::new(), String::new())
    );

    let restrict = SetTenantReadOnlyRequest {
        id: id.clone(),
        reason: reason.clone(),
    };
    assert_eq!(
        tenants.set_tenant_read_only(restrict).await?.get_ref().state(),
        TenantState::ReadOnly
    );
    assert_eq!(
        (read(&house).await.as_str(), write(&house).await.as_str()),
        ("", "TENANT_READ_ONLY")
    );

    let suspend = SuspendTenantRequest {
        id: id.clone(),
        reason: reason.clone(),
    };
    tenants.suspend_tenant(suspend).await?;
    assert_eq!(read(&house).await, "TENANT_SUSPENDED");
    let resume = ResumeTenantRequest {
        id: id.clone(),
        reason: reason.clone(),
    };
    tenants.resume_tenant(resume).await?;
    assert_eq!(
        (read(&house).await, write(&house).await),
        (String::new(), String::new())
    );

    let delete = DeleteTenantRequest {
        id: id.clone(),
        reason: reason.clone(),
        ..DeleteTenantRequest::default()
    };
    let deleted = tenants.delete_tenant(delete).await?.into_inner();
    assert!(deleted.state() == TenantState::Deleted && deleted.purge_time.is_some());
    assert_eq!(read(&house).await, "TENANT_SUSPENDED");
    let listed = tenants
        .list_tenants(ListTenantsRequest::default())
        .await?
        .into_inner()
        .tenants;
    assert!(listed.iter().all(|tenant| tenant.id != id));

    let undelete = UndeleteTenantRequest { id, reason };
    tenants.undelete_tenant(undelete).await?;
    assert_eq!(
        (read(&house).await, write(&house).await),
        (String::new(), String::new())
    );
    Ok(())
}

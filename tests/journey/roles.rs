//! A role of a tenant's own, in every placement, from the catalogue to the refusals of its holder.

use anyhow::{Result, ensure};
use rowhouse_devkit::journey;
use rowhouse_proto::auth::v1::{
    AuthzDecision, BatchCheckRequest, CheckRequest, CreateRoleRequest, DeleteRoleRequest, ExplainRequest,
    GetRoleRequest, ListPermissionsRequest, Role, UpdateRoleRequest, WhoAmIRequest,
};
use rowhouse_proto::common::v1::Placement;
use rowhouse_proto::crm::v1::{DeleteContactRequest, ListContactsRequest};
use rowhouse_types::ContactId;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use uuid::Uuid;

use crate::support::world::{PLACEMENTS, World, slug_in};

fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    details.error_info().map(|info| info.reason.clone()).unwrap_or_default()
}

fn auditor(permissions: &[&str]) -> Option<Role> {
    Some(Role {
        name: "auditor".to_owned(),
        display_name: "Auditor".to_owned(),
        permissions: permissions.iter().map(|text| (*text).to_owned()).collect(),
        ..Role::default()
    })
}

fn delete_contact() -> DeleteContactRequest {
    DeleteContactRequest {
        id: ContactId::generate().to_string(),
        etag: String::new(),
    }
}

#[tokio::test]
async fn a_tenant_composes_a_role_gives_it_and_changes_it() -> Result<()> {
    let world = World::start("roles").await?;
    for placement in PLACEMENTS {
        a_role_in(&world, placement).await?;
    }
    Ok(())
}

async fn a_role_in(world: &World, placement: Placement) -> Result<()> {
    let (tenant, administrator) = world.tenant_in(placement, &slug_in(placement, "acme")).await?;
    let catalog = world
        .anyone
        .catalog()
        .list_permissions(ListPermissionsRequest {})
        .await?;
    let catalog = catalog.into_inner().permissions;
    let read = catalog.iter().find(|known| known.name == "contacts:read");
    let opens = read.is_some_and(|known| {
        known
            .rpcs
            .iter()
            .any(|rpc| rpc == "rowhouse.crm.v1.ContactService/GetContact")
    });
    ensure!(opens, "{catalog:?}");

    let mut roles = administrator.caller.roles();
    let create = |permission: &str| CreateRoleRequest {
        role: auditor(&[permission]),
        ..CreateRoleRequest::default()
    };
    for (permission, refusal) in [("contacts:fly", "FIELD_INVALID"), ("*:*", "PERMISSION_MISSING")] {
        let refused = roles.create_role(create(permission)).await.unwrap_err();
        ensure!(reason(&refused) == refusal, "{refused:?}");
    }
    let create = CreateRoleRequest {
        request_id: Uuid::new_v4().to_string(),
        ..create("contacts:read")
    };
    let made = roles.create_role(create.clone()).await?.into_inner();
    let again = roles.create_role(create).await?.into_inner();
    ensure!(again == made, "a call that is repeated answers what it made: {again:?}");
    let address = format!("ada@{}.example", tenant.slug);
    journey::invite(&administrator.caller, &address, "auditor").await?;
    let ada = world.join(&tenant.id, &address).await?;
    let known = ada.caller.auth().who_am_i(WhoAmIRequest {}).await?.into_inner();
    ensure!(
        known.roles == ["auditor"] && known.permissions == ["contacts:read"],
        "{known:?}"
    );
    ada.caller
        .contacts()
        .list_contacts(ListContactsRequest::default())
        .await?;
    let refused = ada
        .caller
        .contacts()
        .delete_contact(delete_contact())
        .await
        .unwrap_err();
    ensure!(reason(&refused) == "PERMISSION_MISSING", "{refused:?}");

    // The caller asks about themselves, an administrator about a member, and hears why.
    let about = |owner_id: &str| CheckRequest {
        permission: "contacts:read".to_owned(),
        owner_id: owner_id.to_owned(),
    };
    let request = BatchCheckRequest {
        permissions: ["contacts:read", "contacts:delete"].map(str::to_owned).to_vec(),
        checks: vec![about(""), about(&administrator.tokens.user_id)],
    };
    let batch = ada.caller.authz().batch_check(request).await?.into_inner();
    ensure!(batch.allowed == [true, false, true, true], "{batch:?}");
    let question = |permission: &str| ExplainRequest {
        user_id: ada.tokens.user_id.clone(),
        permission: permission.to_owned(),
        owner_id: String::new(),
    };
    let mut authz = administrator.caller.authz();
    let why = authz.explain(question("contacts:read")).await?.into_inner();
    ensure!(
        why.allowed && why.role == "auditor" && why.grant == "contacts:read",
        "{why:?}"
    );
    let why = authz.explain(question("contacts:delete")).await?.into_inner();
    ensure!(!why.allowed && why.decision() == AuthzDecision::NotGranted, "{why:?}");
    let refused = ada.caller.authz().explain(question("contacts:read")).await.unwrap_err();
    ensure!(reason(&refused) == "PERMISSION_MISSING", "{refused:?}");

    let look = UpdateRoleRequest {
        role: auditor(&["contacts:read", "contacts:delete"]),
        update_mask: None,
        validate_only: true,
    };
    let would = roles.update_role(look.clone()).await?.into_inner();
    ensure!(would.member_count == 1, "{would:?}");
    let name = "auditor".to_owned();
    let kept = roles
        .get_role(GetRoleRequest { name: name.clone() })
        .await?
        .into_inner();
    ensure!(kept.permissions == ["contacts:read"], "{kept:?}");
    let change = UpdateRoleRequest {
        validate_only: false,
        ..look
    };
    roles.update_role(change).await?;
    let let_in = ada
        .caller
        .contacts()
        .delete_contact(delete_contact())
        .await
        .unwrap_err();
    ensure!(let_in.code() == Code::NotFound, "the new permission counts: {let_in:?}");
    let etag = String::new();
    let held = roles.delete_role(DeleteRoleRequest { name, etag }).await.unwrap_err();
    ensure!(held.code() == Code::FailedPrecondition, "{held:?}");
    Ok(())
}

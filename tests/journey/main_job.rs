//! The main job from end to end.

use std::time::Duration;

use anyhow::{Result, ensure};
use rowhouse_devkit::caller::Caller;
use rowhouse_devkit::suite::Process;
use rowhouse_devkit::{cluster, journey, wait};
use rowhouse_proto::auth::v1 as auth;
use rowhouse_proto::auth::v1::{LogoutRequest, RefreshRequest, WhoAmIRequest};
use rowhouse_proto::common::v1::Placement;
use rowhouse_proto::crm::v1::ListContactsRequest;
use rowhouse_proto::tenant::v1::Tenant;
use rowhouse_proto::well_known::FieldMask;
use rowhouse_proto::worker::v1::ReportState;
use rowhouse_types::TenantId;

use crate::support::world::{House, PASSWORD, PLACEMENTS, World, slug_in};

/// Longest wait for a report whose making has found crm away: the delay after a fourth attempt is 60 s (libs/mq), and half of that
/// for the rest.
const END_MAX: Duration = Duration::from_secs(90);

#[tokio::test]
async fn a_tenant_is_created_and_its_administrator_gets_a_report() -> Result<()> {
    let world = World::start("main-job").await?;
    for placement in PLACEMENTS {
        let slug = slug_in(placement, "acme");
        let address = format!("ada@{slug}.example");
        let tenant = journey::create_tenant_in(&world.operator, placement, &slug, "Acme Ltd", &address).await?;
        main_job_of(&world, &tenant, &address).await?;
    }
    Ok(())
}

/// `address`: the first administrator's, who has not joined yet.
pub(super) async fn main_job_of(world: &World, tenant: &Tenant, address: &str) -> Result<()> {
    let ada = world.join(&tenant.id, address).await?;

    let who = ada.caller.auth().who_am_i(WhoAmIRequest {}).await?.into_inner();
    assert_eq!(
        (who.tenant_id.as_str(), who.roles.as_slice()),
        (tenant.id.as_str(), ["tenant_admin".to_owned()].as_slice())
    );

    let contacts = journey::contacts(&ada.caller).await?;
    if tenant.placement() == Placement::Database {
        its_own_login_has_written(world, tenant).await?;
        events_are_published(world, tenant).await?;
    }
    let report = journey::run_report(&ada.caller).await?;
    let report = journey::finished_report(&ada.caller, &report.id, journey::BACKGROUND_MAX).await?;
    let file = journey::download(&ada.caller, &report.id).await?;
    journey::check_report(&report, &file, &contacts)?;
    world
        .suite
        .wait_for_mail(address, journey::BACKGROUND_MAX, |mail| mail.text.contains(&report.id))
        .await?;
    Ok(())
}

/// The name of a tenant's own database, and of its login.
fn own_name(tenant: &Tenant) -> Result<String> {
    let tenant: TenantId = tenant.id.parse()?;
    Ok(format!("t_{}", tenant.uuid().simple()))
}

/// The contacts are there, and the services' common login could not have written them.
async fn its_own_login_has_written(world: &World, tenant: &Tenant) -> Result<()> {
    let name = own_name(tenant)?;
    let server = world.suite.databases().data_server(&tenant.server)?;
    let superuser = cluster::connect(&server.superuser_url()).await?;
    let may_connect = "SELECT has_database_privilege(login, $1::text, 'CONNECT') FROM unnest($2::text[]) AS login";
    let rows = superuser
        .query(may_connect, &[&name, &vec![name.as_str(), "rowhouse_app"]])
        .await?;
    let may_connect: Vec<bool> = rows.iter().map(|row| row.get(0)).collect();
    ensure!(may_connect == [true, false], "{name}, rowhouse_app: {may_connect:?}");
    Ok(())
}

/// Waits until the relay has been in the tenant's own database and has left nothing in its outbox.
async fn events_are_published(world: &World, tenant: &Tenant) -> Result<()> {
    let name = own_name(tenant)?;
    let server = world.suite.databases().data_server(&tenant.server)?;
    let own = &cluster::connect(&server.servers.superuser_url(&name)).await?;
    // The audit log says that there were events: each contact wrote both in one statement.
    let audited = format!("SELECT count(*) FROM {name}.audit_entries");
    let audited: i64 = own.query_one(&audited, &[]).await?.get(0);
    ensure!(audited > 0, "the contacts stand in another database");
    wait::until("the own outbox is empty", journey::BACKGROUND_MAX, || async {
        let left = own.query_one("SELECT count(*) FROM rowhouse.outbox", &[]).await?;
        Ok(left.get::<_, i64>(0) == 0)
    })
    .await
}

#[tokio::test]
async fn one_person_joins_two_tenants_with_one_password() -> Result<()> {
    let world = World::start("two-tenants").await?;
    for placement in PLACEMENTS {
        two_tenants_in(&world, placement).await?;
    }
    Ok(())
}

async fn two_tenants_in(world: &World, placement: Placement) -> Result<()> {
    let [one, two] = ["one", "two"].map(|name| slug_in(placement, name));
    let address = format!("ada@{one}.example");
    let one = journey::create_tenant_in(&world.operator, placement, &one, "One Ltd", &address).await?;
    world.join(&one.id, &address).await?;
    let two = journey::create_tenant_in(&world.operator, placement, &two, "Two Ltd", &address).await?;
    let invited = |mail: &rowhouse_devkit::smtp::Mail| mail.text.contains("Two Ltd");
    let mail = world
        .suite
        .wait_for_mail(&address, journey::BACKGROUND_MAX, invited)
        .await?;
    let token = journey::link_token(&mail)?;

    let refused = journey::accept(&world.anyone, &token, "Mallory", "not the password of Ada").await;
    assert!(
        refused.is_err(),
        "an identity that exists proves itself with its own password"
    );
    journey::accept(&world.anyone, &token, "Ada", PASSWORD).await?;
    assert!(
        journey::accept(&world.anyone, &token, "Ada", PASSWORD).await.is_err(),
        "an invitation is for one use"
    );

    let in_two = world.log_in(&two.id, &address).await?;
    let contact = journey::create_contact(&in_two.caller, "Only In Two", "two@example.com").await?;
    let in_one = world.log_in(&one.id, &address).await?;
    let listed = async |caller: &Caller| {
        let page = caller.contacts().list_contacts(ListContactsRequest::default()).await?;
        anyhow::Ok(page.into_inner().contacts)
    };
    assert_eq!(listed(&in_one.caller).await?, [], "each tenant has contacts of its own");
    assert_eq!(listed(&in_two.caller).await?, [contact]);
    Ok(())
}

#[tokio::test]
async fn a_session_is_refreshed_and_ended() -> Result<()> {
    let world = World::start("session").await?;
    for placement in PLACEMENTS {
        session_in(&world, placement).await?;
    }
    Ok(())
}

async fn session_in(world: &World, placement: Placement) -> Result<()> {
    let (_, ada) = world.tenant_in(placement, &slug_in(placement, "acme")).await?;
    let refreshed = world
        .anyone
        .auth()
        .refresh(RefreshRequest {
            refresh_token: ada.tokens.refresh_token.clone(),
        })
        .await?
        .into_inner();
    let again = world.anyone.with_token(&refreshed.access_token)?;
    journey::create_contact(&again, "Grace Hopper", "grace@example.com").await?;

    again.auth().logout(LogoutRequest {}).await?;
    let refused = again
        .contacts()
        .list_contacts(ListContactsRequest::default())
        .await
        .unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unauthenticated, "{refused:?}");
    let refused = world
        .anyone
        .auth()
        .refresh(RefreshRequest {
            refresh_token: refreshed.refresh_token,
        })
        .await
        .unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unauthenticated, "{refused:?}");
    Ok(())
}

#[tokio::test]
async fn a_requester_who_lost_the_right_gets_no_report() -> Result<()> {
    let world = World::start("lost-right").await?;
    let mut houses = Vec::new();
    for placement in PLACEMENTS {
        let house = world.house_in(placement, &slug_in(placement, "acme")).await?;
        journey::create_contact(&house.administrator.caller, "Ada Lovelace", "ada@example.com").await?;
        houses.push(house);
    }
    // With crm away the reports wait; the managers are demoted meanwhile.
    world.suite.kill9(Process::Crm).await?;
    let mut reports = Vec::new();
    for house in &houses {
        let report = journey::run_report(&house.manager.caller).await?;
        demote(house).await?;
        reports.push((house, report.id));
    }
    world.suite.restart(Process::Crm).await?;

    for (house, id) in reports {
        let caller = &house.administrator.caller;
        let ended = journey::finished_report(caller, &id, END_MAX).await?;
        assert_eq!(ended.state(), ReportState::Failed, "{ended:?}");
        assert!(journey::download(caller, &id).await.is_err(), "there is no file");
    }
    Ok(())
}

/// The manager becomes a plain member.
async fn demote(house: &House) -> Result<()> {
    let member = auth::Member {
        user_id: house.manager.tokens.user_id.clone(),
        role: "user".to_owned(),
        ..Default::default()
    };
    let update_mask = Some(FieldMask {
        paths: vec!["role".to_owned()],
    });
    let request = auth::UpdateMemberRequest {
        member: Some(member),
        update_mask,
    };
    house.administrator.caller.members().update_member(request).await?;
    Ok(())
}

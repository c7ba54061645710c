//! A tenant asks for a second factor: members who have none set one up, log in with it, lose the device, and get back in.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rowhouse_devkit::caller::Caller;
use rowhouse_proto::auth::v1::{GetSecondFactorRequest, LoginRequest, RemoveSecondFactorRequest, TokenPair};
use rowhouse_proto::common::v1::Placement;
use rowhouse_proto::crm::v1::ListContactsRequest;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::support::second_factor::{SecondFactor, policy};
use crate::support::world::{Member, PASSWORD, PLACEMENTS, World, slug_in};

fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    details.error_info().map(|info| info.reason.clone()).unwrap_or_default()
}

async fn log_in(world: &World, member: &Member, second_factor: &str) -> Result<TokenPair, Status> {
    let request = LoginRequest {
        email: member.email.clone(),
        password: PASSWORD.to_owned(),
        tenant_id: member.tokens.tenant_id.clone(),
        second_factor: second_factor.to_owned(),
        device_secret: String::new(),
    };
    Ok(world.anyone.auth().login(request).await?.into_inner())
}

async fn contacts(caller: &Caller) -> Result<(), Status> {
    let listed = caller.contacts().list_contacts(ListContactsRequest::default()).await;
    listed.map(drop)
}

#[tokio::test]
async fn a_tenant_asks_for_a_second_factor_and_its_members_set_one_up() -> Result<()> {
    let world = World::start("second-factor").await?;
    for placement in PLACEMENTS {
        second_factor_in(&world, placement).await?;
    }
    Ok(())
}

async fn second_factor_in(world: &World, placement: Placement) -> Result<()> {
    let (_, administrator, user) = world.pair_in(placement, &slug_in(placement, "acme")).await?;
    let (administrator, user) = (&administrator.caller, &user);
    let locked_out = administrator
        .login_policy()
        .update_login_policy(policy(true))
        .await
        .unwrap_err();
    ensure!(reason(&locked_out) == "SECOND_FACTOR_NOT_SHOWN", "{locked_out:?}");
    SecondFactor::set_up(administrator, PASSWORD).await?;
    contacts(&user.caller).await?;
    administrator.login_policy().update_login_policy(policy(true)).await?;
    contacts(administrator).await?;

    // From the acknowledgement on, a session without it gives nothing but the way to set one up.
    let refused = contacts(&user.caller).await.unwrap_err();
    ensure!(reason(&refused) == "SECOND_FACTOR_NOT_SHOWN", "{refused:?}");
    ensure!(refused.code() == Code::FailedPrecondition, "{refused:?}");
    let fresh = log_in(world, user, "").await?;
    let fresh = world.anyone.with_token(&fresh.access_token)?;
    ensure!(contacts(&fresh).await.is_err(), "a new session without it is no better");
    let factor = SecondFactor::set_up(&fresh, PASSWORD).await?;
    contacts(&fresh).await?;
    ensure!(
        contacts(&user.caller).await.is_err(),
        "the other session has shown nothing"
    );

    let asked = log_in(world, user, "").await.unwrap_err();
    ensure!(reason(&asked) == "SECOND_FACTOR_REQUIRED", "{asked:?}");
    let used = factor.app.generate(factor.confirmed_s).to_string();
    ensure!(log_in(world, user, &used).await.is_err(), "a code is good once");
    let next = factor
        .app
        .generate(factor.confirmed_s + Duration::from_secs(30).as_secs())
        .to_string();
    let pair = log_in(world, user, &next).await?;
    contacts(&world.anyone.with_token(&pair.access_token)?).await?;

    // The device is lost.
    let codes = factor.recovery_codes;
    let code = codes.first().context("a recovery code")?;
    let pair = log_in(world, user, code).await?;
    let caller = world.anyone.with_token(&pair.access_token)?;
    contacts(&caller).await?;
    let known = caller
        .account()
        .get_second_factor(GetSecondFactorRequest {})
        .await?
        .into_inner();
    ensure!(
        known.enabled && known.shown && known.recovery_codes_left == 9,
        "{known:?}"
    );
    let remove = RemoveSecondFactorRequest {
        current_password: PASSWORD.to_owned(),
        code: codes.get(1).context("a recovery code")?.clone(),
    };
    caller.account().remove_second_factor(remove).await?;
    let refused = contacts(&caller).await.unwrap_err();
    ensure!(reason(&refused) == "SECOND_FACTOR_NOT_SHOWN", "{refused:?}");
    SecondFactor::set_up(&caller, PASSWORD).await?;
    contacts(&caller).await?;
    Ok(())
}

//! Tokens for jobs on a real database.

use rowhouse_auth_kit::{AccessTokenVerifier, Role};
use rowhouse_context::{Ctx, Principal, ServiceName};
use rowhouse_types::{OperationId, ReportId};

use super::Work;
use super::actions::issue_job_token;
use crate::error::Error;
use crate::key;
use crate::member::{Change, MemberState, actions};
use crate::tenant::Access;
use crate::tests::bench::{Bench, House, ctx};

fn worker() -> Ctx {
    ctx(
        Principal::Service {
            name: ServiceName::Worker,
        },
        None,
    )
}

fn work(house: &House) -> Work {
    let job = ReportId::generate().to_string().parse().unwrap();
    Work {
        job,
        tenant: house.tenant,
        user: house.admin,
        platform: false,
    }
}

#[tokio::test]
async fn the_token_names_user_service_tenant_and_job() {
    let bench = Bench::start("job_token").await;
    let house = bench.house("acme").await;
    let work = work(&house);
    let token = issue_job_token(&worker(), &bench.state, &work).await.unwrap();
    let verifier = AccessTokenVerifier::new("rowhouse");
    let keys = key::published(&bench.state).await.unwrap();
    verifier.set_keys(keys.into_iter().map(|published| (published.kid, published.key)));
    let expected = Principal::Delegate {
        user: house.admin,
        tenant: house.tenant,
        operator: false,
        service: ServiceName::Worker,
        job: work.job.as_str().to_owned(),
    };
    assert_eq!(verifier.verify(&token.text).unwrap().principal, expected);
    assert_eq!(
        bench
            .count("SELECT count(*) FROM auth.audit WHERE action = 'delegation.issue'")
            .await,
        1
    );
}

#[tokio::test]
async fn nobody_works_for_a_user_whose_rights_have_ended() {
    let bench = Bench::start("job_ended").await;
    let house = bench.house("acme").await;
    let user = bench.member(&house, "ada@acme.example", Role::User).await;
    let work = Work { user, ..work(&house) };
    issue_job_token(&worker(), &bench.state, &work).await.unwrap();
    let operator = Work {
        platform: true,
        ..work.clone()
    };
    let refused = issue_job_token(&worker(), &bench.state, &operator).await.map(drop);
    assert!(matches!(refused, Err(Error::Revoked)), "a member is no operator");

    let admin = bench.ctx_of(house.admin, house.tenant).await;
    let change = Change {
        user,
        role: None,
        state: Some(MemberState::Disabled),
        etag: None,
    };
    actions::update(&admin, &bench.state, &change).await.unwrap();
    let refused = issue_job_token(&worker(), &bench.state, &work).await.map(drop);
    assert!(matches!(refused, Err(Error::Revoked)));

    bench.set_access(house.tenant, Access::Suspended).await;
    let admins = Work {
        user: house.admin,
        ..work
    };
    let refused = issue_job_token(&worker(), &bench.state, &admins).await.map(drop);
    assert!(matches!(refused, Err(Error::TenantSuspended)));
    assert!(OperationId::generate().to_string().parse::<super::JobId>().is_ok());
}

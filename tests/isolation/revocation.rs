//! T13 in short form: once a change of rights is acknowledged, no service honours the old ones. Callers hammer all
//! services while sessions, members, roles and tenants lose their rights; no call that began after the acknowledgement
//! may succeed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Result, ensure};
use rowhouse_devkit::caller::Caller;
use rowhouse_devkit::journey;
use rowhouse_devkit::suite::Options;
use rowhouse_devkit::torture::Torture;
use rowhouse_proto::auth::v1::{
    ChangePasswordRequest, CreateApiKeyRequest, CreateRoleRequest, CreateServiceAccountRequest, CreateTeamRequest,
    DeleteTeamRequest, EndImpersonationRequest, ExchangeApiKeyRequest, LogoutRequest, Member, MemberState,
    RemoveMemberRequest, RemoveTeamMemberRequest, RevokeApiKeyRequest, RevokeSessionRequest, RevokeSessionsRequest,
    Role, ServiceAccount, ServiceAccountState, SessionScope, SetTeamMemberRequest, StartImpersonationRequest, Team,
    UpdateMemberRequest, UpdateRoleRequest, UpdateServiceAccountRequest, UpdateTeamRequest,
};
use rowhouse_proto::crm::v1::{DeleteContactRequest, GetContactRequest, ListContactsRequest};
use rowhouse_proto::tenant::v1::{ResumeTenantRequest, SuspendTenantRequest};
use rowhouse_proto::well_known::FieldMask;
use rowhouse_proto::worker::v1::GetReportRequest;
use rowhouse_types::{ContactId, ReportId};
use tokio::task::JoinSet;
use tonic::{Code, Status};

use crate::support::database::execute;
use crate::support::world::{House, PASSWORD, World};

/// Revocations of each kind.
const ROUNDS: usize = 6;

/// What a caller keeps trying; the member's role allows all of it before the revocation.
#[derive(Clone, Copy, Debug)]
enum Attempt {
    ListContacts,
    DeleteContact,
    GetReport,
    /// A colleague's contact, which the member reaches through a team.
    GetColleagues(ContactId),
}

impl Attempt {
    async fn run(self, caller: &Caller) -> Result<(), Status> {
        match self {
            Self::ListContacts => caller
                .contacts()
                .list_contacts(ListContactsRequest::default())
                .await
                .map(drop),
            Self::DeleteContact => {
                let request = DeleteContactRequest {
                    id: ContactId::generate().to_string(),
                    etag: String::new(),
                };
                caller.contacts().delete_contact(request).await.map(drop)
            }
            Self::GetReport => caller
                .reports()
                .get_report(GetReportRequest {
                    id: ReportId::generate().to_string(),
                })
                .await
                .map(drop),
            Self::GetColleagues(id) => caller
                .contacts()
                .get_contact(GetContactRequest { id: id.to_string() })
                .await
                .map(drop),
        }
    }

    /// Whether the call was let in. Where the id is random, NOT_FOUND means that it was.
    fn let_in(self, answer: &Result<(), Status>) -> bool {
        let random = !matches!(self, Self::GetColleagues(_));
        answer.is_ok() || random && answer.as_ref().is_err_and(|status| status.code() == Code::NotFound)
    }
}

/// Callers that never stop trying until told.
struct Hammer {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<Vec<(Attempt, Instant)>>,
}

impl Hammer {
    /// Starts hammering and waits until each attempt was let in once, so that every service has cached the rights.
    async fn start(caller: &Caller, attempts: &[Attempt]) -> Result<Self> {
        for attempt in attempts {
            let answer = attempt.run(caller).await;
            ensure!(
                attempt.let_in(&answer),
                "before the revocation {attempt:?} is allowed: {answer:?}"
            );
        }
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for attempt in attempts.iter().copied() {
            let (caller, stop) = (caller.clone(), stop.clone());
            tasks.spawn(async move {
                let mut begun = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let began = Instant::now();
                    if attempt.let_in(&attempt.run(&caller).await) {
                        begun.push((attempt, began));
                    }
                }
                begun
            });
        }
        Ok(Self { stop, tasks })
    }

    /// Tries each attempt once more, stops, and answers those that were let in although they began after `acknowledged`.
    async fn finish(mut self, caller: &Caller, attempts: &[Attempt], acknowledged: Instant) -> Vec<Attempt> {
        let mut late = Vec::new();
        for attempt in attempts {
            if attempt.let_in(&attempt.run(caller).await) {
                late.push(*attempt);
            }
        }
        self.stop.store(true, Ordering::Relaxed);
        while let Some(begun) = self.tasks.join_next().await {
            let begun = begun.expect("a hammer does not panic");
            late.extend(
                begun
                    .into_iter()
                    .filter(|(_, began)| *began > acknowledged)
                    .map(|(attempt, _)| attempt),
            );
        }
        late
    }
}

async fn update_member(
    administrator: &Caller,
    user_id: &str,
    role: &str,
    state: MemberState,
    field: &str,
) -> Result<()> {
    let member = Member {
        user_id: user_id.to_owned(),
        role: role.to_owned(),
        state: state.into(),
        ..Member::default()
    };
    let request = UpdateMemberRequest {
        member: Some(member),
        update_mask: Some(FieldMask {
            paths: vec![field.to_owned()],
        }),
    };
    administrator.members().update_member(request).await?;
    Ok(())
}

/// Ends the person's other sessions: by a new password in even rounds, which is the old one again, by name in odd ones.
async fn end_others(person: &Caller, round: usize) -> Result<()> {
    if round % 2 == 1 {
        let scope = SessionScope::Others.into();
        person
            .account()
            .revoke_sessions(RevokeSessionsRequest { scope })
            .await?;
        return Ok(());
    }
    for (current_password, new_password) in [(PASSWORD, OTHER_PASSWORD), (OTHER_PASSWORD, PASSWORD)] {
        let request = ChangePasswordRequest {
            current_password: current_password.to_owned(),
            new_password: new_password.to_owned(),
        };
        person.account().change_password(request).await?;
    }
    Ok(())
}

const OTHER_PASSWORD: &str = "staple battery horse correct";

const ALL: &[Attempt] = &[Attempt::ListContacts, Attempt::DeleteContact, Attempt::GetReport];
/// What a `user` may not do and a `manager` may.
const BEYOND_USER: &[Attempt] = &[Attempt::DeleteContact, Attempt::GetReport];

async fn revoke_in_every_way(torture: &mut Torture, world: &World, house: &House) -> Result<()> {
    let (tenant_id, administrator) = (house.tenant.id.as_str(), &house.administrator.caller);
    let manager_id = house.manager.tokens.user_id.as_str();
    for round in 0..ROUNDS {
        let session = world.log_in(tenant_id, &house.manager.email).await?;
        let hammer = Hammer::start(&session.caller, ALL).await?;
        session.caller.auth().logout(LogoutRequest {}).await?;
        let late = hammer.finish(&session.caller, ALL, Instant::now()).await;
        torture.trials(1);
        ensure!(late.is_empty(), "round {round}: let in after the log-out: {late:?}");

        // From another session of the same person.
        let session = world.log_in(tenant_id, &house.manager.email).await?;
        let hammer = Hammer::start(&session.caller, ALL).await?;
        let elsewhere = world.log_in(tenant_id, &house.manager.email).await?;
        end_others(&elsewhere.caller, round).await?;
        let late = hammer.finish(&session.caller, ALL, Instant::now()).await;
        torture.trials(1);
        ensure!(
            late.is_empty(),
            "round {round}: let in after its end from elsewhere: {late:?}"
        );

        let session = world.log_in(tenant_id, &house.manager.email).await?;
        let hammer = Hammer::start(&session.caller, BEYOND_USER).await?;
        update_member(administrator, manager_id, "user", MemberState::Unspecified, "role").await?;
        let late = hammer.finish(&session.caller, BEYOND_USER, Instant::now()).await;
        torture.trials(1);
        ensure!(late.is_empty(), "round {round}: let in after the demotion: {late:?}");
        update_member(administrator, manager_id, "manager", MemberState::Unspecified, "role").await?;

        let hammer = Hammer::start(&session.caller, ALL).await?;
        update_member(administrator, manager_id, "", MemberState::Disabled, "state").await?;
        let late = hammer.finish(&session.caller, ALL, Instant::now()).await;
        torture.trials(1);
        ensure!(late.is_empty(), "round {round}: let in after being disabled: {late:?}");
        update_member(administrator, manager_id, "", MemberState::Active, "state").await?;

        let session = world.log_in(tenant_id, &house.manager.email).await?;
        let hammer = Hammer::start(&session.caller, ALL).await?;
        let suspend = SuspendTenantRequest {
            id: tenant_id.to_owned(),
            reason: "T13".to_owned(),
        };
        world.operator.tenants().suspend_tenant(suspend).await?;
        let late = hammer.finish(&session.caller, ALL, Instant::now()).await;
        torture.trials(1);
        ensure!(late.is_empty(), "round {round}: let in after the suspension: {late:?}");
        let resume = ResumeTenantRequest {
            id: tenant_id.to_owned(),
            reason: "T13".to_owned(),
        };
        world.operator.tenants().resume_tenant(resume).await?;
    }
    out_of_every_team(torture, world, house).await?;
    programs(torture, world, house).await?;
    operators_as_members(torture, world, house).await?;
    // A role of the tenant's own that shrinks.
    let mut role = Role {
        name: "auditor".to_owned(),
        display_name: "Auditor".to_owned(),
        permissions: ["contacts:*", "reports:read"].map(str::to_owned).to_vec(),
        ..Role::default()
    };
    let create = CreateRoleRequest {
        role: Some(role.clone()),
    };
    administrator.roles().create_role(create).await?;
    update_member(administrator, manager_id, "auditor", MemberState::Unspecified, "role").await?;
    let session = world.log_in(tenant_id, &house.manager.email).await?;
    let hammer = Hammer::start(&session.caller, BEYOND_USER).await?;
    role.permissions = vec!["contacts:read".to_owned()];
    let update = UpdateRoleRequest {
        role: Some(role),
        ..UpdateRoleRequest::default()
    };
    administrator.roles().update_role(update).await?;
    let late = hammer.finish(&session.caller, BEYOND_USER, Instant::now()).await;
    torture.trials(1);
    ensure!(late.is_empty(), "let in after the role shrank: {late:?}");

    let left = &[Attempt::ListContacts];
    let hammer = Hammer::start(&session.caller, left).await?;
    let remove = RemoveMemberRequest {
        user_id: manager_id.to_owned(),
        etag: String::new(),
    };
    administrator.members().remove_member(remove).await?;
    let late = hammer.finish(&session.caller, left, Instant::now()).await;
    torture.trials(1);
    ensure!(late.is_empty(), "let in after being removed: {late:?}");
    Ok(())
}

/// A program by a key that is revoked, and by another of an account that is disabled.
async fn programs(torture: &mut Torture, world: &World, house: &House) -> Result<()> {
    let mut accounts = house.administrator.caller.service_accounts();
    let service_account = Some(ServiceAccount {
        display_name: "Importer".to_owned(),
        role: "manager".to_owned(),
        ..ServiceAccount::default()
    });
    let created = accounts
        .create_service_account(CreateServiceAccountRequest { service_account })
        .await?;
    let service_account_id = created.into_inner().id;
    for way in ["revoked", "disabled"] {
        let request = CreateApiKeyRequest {
            service_account_id: service_account_id.clone(),
            lifetime_days: 1,
        };
        let created = accounts.create_api_key(request).await?.into_inner();
        let exchange = ExchangeApiKeyRequest { key: created.key };
        let token = world
            .anyone
            .service_accounts()
            .exchange_api_key(exchange)
            .await?
            .into_inner();
        let program = world.anyone.with_token(&token.access_token)?;
        let hammer = Hammer::start(&program, ALL).await?;
        if way == "revoked" {
            let id = created.api_key.unwrap_or_default().id;
            accounts.revoke_api_key(RevokeApiKeyRequest { id }).await?;
        } else {
            let disabled = ServiceAccount {
                id: service_account_id.clone(),
                state: ServiceAccountState::Disabled.into(),
                ..ServiceAccount::default()
            };
            let request = UpdateServiceAccountRequest {
                service_account: Some(disabled),
                update_mask: None,
            };
            accounts.update_service_account(request).await?;
        }
        let late = hammer.finish(&program, ALL, Instant::now()).await;
        torture.trials(1);
        ensure!(late.is_empty(), "a program whose key was {way}: {late:?}");
    }
    Ok(())
}

/// An operator who acts as a member, until the operator or the member ends it, or the operator's own session ends.
async fn operators_as_members(torture: &mut Torture, world: &World, house: &House) -> Result<()> {
    for way in ["ended", "revoked by the member", "logged out", "revoked from elsewhere"] {
        let tokens = world.operator_tokens().await?;
        let operator = world.anyone.with_token(&tokens.access_token)?;
        let request = StartImpersonationRequest {
            tenant_id: house.tenant.id.clone(),
            user_id: house.manager.tokens.user_id.clone(),
            reason: "a complaint".to_owned(),
            duration: None,
        };
        let mut impersonation = operator.impersonation();
        let started = impersonation.start_impersonation(request).await?.into_inner();
        let inside = world.anyone.with_token(&started.access_token)?;
        let hammer = Hammer::start(&inside, ALL).await?;
        let session_id = started.session_id;
        match way {
            "ended" => drop(
                impersonation
                    .end_impersonation(EndImpersonationRequest { session_id })
                    .await?,
            ),
            "revoked by the member" => {
                let member = world.log_in(&house.tenant.id, &house.manager.email).await?;
                let mut account = member.caller.account();
                account.revoke_session(RevokeSessionRequest { session_id }).await?;
            }
            "logged out" => drop(operator.auth().logout(LogoutRequest {}).await?),
            _ => {
                let mut account = world.operator.account();
                let session_id = tokens.session_id.clone();
                account.revoke_session(RevokeSessionRequest { session_id }).await?;
            }
        }
        let late = hammer.finish(&inside, ALL, Instant::now()).await;
        torture.trials(1);
        ensure!(late.is_empty(), "an operator as a member, {way}: {late:?}");
    }
    Ok(())
}

/// A manager reaches a colleague's contact through teams, until that ends in each of the ways that there are.
async fn out_of_every_team(torture: &mut Torture, world: &World, house: &House) -> Result<()> {
    let administrator = &house.administrator.caller;
    let contact = journey::create_contact(&house.user.caller, "Of a colleague", "").await?;
    let attempts = &[Attempt::GetColleagues(contact.id.parse()?)];
    let mut teams = administrator.teams();
    let mut team = async |display_name: &str, parent_id: &str| -> Result<Team> {
        let team = Some(Team {
            display_name: display_name.to_owned(),
            parent_id: parent_id.to_owned(),
            ..Team::default()
        });
        Ok(teams.create_team(CreateTeamRequest { team }).await?.into_inner())
    };
    let above = team("Above", "").await?;
    let beneath = team("Beneath", &above.id).await?;
    let mut teams = administrator.teams();
    let member = |team: &Team, user_id: &str, manager| SetTeamMemberRequest {
        team_id: team.id.clone(),
        user_id: user_id.to_owned(),
        manager,
    };
    let [manager, user] = [&house.manager, &house.user].map(|member| member.tokens.user_id.as_str());
    let session = world.log_in(&house.tenant.id, &house.manager.email).await?;
    let update = |parent_id: &str| UpdateTeamRequest {
        team: Some(Team {
            id: beneath.id.clone(),
            parent_id: parent_id.to_owned(),
            ..Team::default()
        }),
        update_mask: Some(FieldMask {
            paths: vec!["parent_id".to_owned()],
        }),
    };
    for way in [
        "no longer a manager of it",
        "out of it",
        "the colleague out of it",
        "moved",
        "deleted",
    ] {
        teams.set_team_member(member(&above, manager, true)).await?;
        teams.set_team_member(member(&beneath, user, false)).await?;
        teams.update_team(update(&above.id)).await?;
        let hammer = Hammer::start(&session.caller, attempts).await?;
        let out = |team: &Team, user_id: &str| RemoveTeamMemberRequest {
            team_id: team.id.clone(),
            user_id: user_id.to_owned(),
        };
        match way {
            "out of it" => drop(teams.remove_team_member(out(&above, manager)).await?),
            "the colleague out of it" => drop(teams.remove_team_member(out(&beneath, user)).await?),
            "moved" => drop(teams.update_team(update("")).await?),
            "deleted" => {
                let (id, etag) = (beneath.id.clone(), String::new());
                drop(teams.delete_team(DeleteTeamRequest { id, etag }).await?);
            }
            _ => drop(teams.set_team_member(member(&above, manager, false)).await?),
        }
        let late = hammer.finish(&session.caller, attempts, Instant::now()).await;
        torture.trials(1);
        ensure!(late.is_empty(), "{way}: still reached: {late:?}");
    }
    Ok(())
}

/// Revocations in every way, on suites of their own, as many as there is time for.
async fn again_and_again(test: &str, redis: Option<&str>) -> Result<()> {
    let mut torture = Torture::begin("T13", test);
    while torture.round().is_some() {
        let elsewhere = redis.map(|url| (None, "ROWHOUSE_REDIS_URL".to_owned(), url.to_owned()));
        let options = Options {
            environment: elsewhere.into_iter().collect(),
            ..Options::default()
        };
        let name = if redis.is_some() { "t13-no-redis" } else { "t13" };
        let world = World::start_with(name, options).await?;
        let house = world.house("acme").await?;
        revoke_in_every_way(&mut torture, &world, &house).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_let_in_after_a_revocation() -> Result<()> {
    again_and_again("revocations", None).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_let_in_after_a_revocation_while_redis_is_away() -> Result<()> {
    // Port 1 refuses: nothing listens there.
    again_and_again("revocations without Redis", Some("redis://127.0.0.1:1/")).await
}

/// The control: a role that is changed behind the protocol's back, so that no version is published and nobody is waited
/// for, lets calls in afterwards. The hammer sees them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_behind_the_protocols_back_is_noticed() -> Result<()> {
    let world = World::start("t13-control").await?;
    let house = world.house("acme").await?;
    let hammer = Hammer::start(&house.manager.caller, BEYOND_USER).await?;
    execute(
        world.suite.databases(),
        "UPDATE auth.memberships SET role = 'user' WHERE role = 'manager'",
    )
    .await?;
    let late = hammer.finish(&house.manager.caller, BEYOND_USER, Instant::now()).await;
    assert!(!late.is_empty(), "cached rights are honoured while nobody is told");
    Ok(())
}

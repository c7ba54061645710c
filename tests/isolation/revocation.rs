//! T13 in short form: once a change of rights is acknowledged, no service honours the old ones, however Redis is. Callers
//! hammer all services, and the worker at a job of theirs crm's internal listener, while sessions, members, roles, teams, keys
//! and tenants lose their rights; no call that began after the acknowledgement may succeed, and the last one of each kind is
//! refused for want of rights: a service that answers nobody lets nobody in either.
//!
//! A job does not end with the session in which it was asked for: its token stands on the member's rights, and is tried where
//! those are taken.

mod accounts;
mod hammer;
mod holder;
mod programs;
mod redis;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Result, ensure};
use rowhouse_devkit::caller::Caller;
use rowhouse_devkit::journey::{self, BACKGROUND_MAX};
use rowhouse_devkit::torture::Torture;
use rowhouse_proto::auth::v1::{
    ChangePasswordRequest, CreateRoleRequest, CreateTeamRequest, DeleteTeamRequest, EndImpersonationRequest,
    GrantOperatorRequest, LeaveTenantRequest, LogoutRequest, Member as Membership, MemberState, RemoveMemberRequest,
    RemoveTeamMemberRequest, RevokeOperatorRequest, RevokeSessionRequest, RevokeSessionsRequest, Role, SessionScope,
    SetTeamMemberRequest, StartImpersonationRequest, Team, UpdateMemberRequest, UpdateRoleRequest, UpdateTeamRequest,
};
use rowhouse_proto::tenant::v1::{ResumeTenantRequest, SuspendTenantRequest};
use rowhouse_proto::well_known::FieldMask;

use self::hammer::{Attempt, Hammer};
use self::redis::{Redis, Trouble};
use crate::support::database::execute;
use crate::support::services;
use crate::support::world::{House, Member, PASSWORD, World};

/// How often sessions and memberships end in each of their ways; teams, programs, operators, accounts and roles do once.
const ROUNDS: usize = 6;

const OTHER_PASSWORD: &str = "staple battery horse correct";

/// A tenant on a suite of its own, and what its Redis suffers.
struct Arena {
    world: World,
    house: House,
    redis: Redis,
    trouble: Trouble,
    taken: AtomicUsize,
    /// Mails take seconds; in the short form not everybody waits for them.
    has_time: bool,
}

impl Arena {
    /// Takes rights from a caller who keeps using them, and lets nothing in that began after the acknowledgement. Whatever Redis
    /// suffers, no service needs it: each says before long that the rights are gone.
    async fn take(
        &self,
        how: &str,
        caller: &Caller,
        attempts: &[Attempt],
        revoke: impl AsyncFnOnce() -> Result<()>,
    ) -> Result<()> {
        self.take_from(how, &[(caller, attempts)], revoke).await
    }

    /// As [`Arena::take`], from several callers at once.
    async fn take_from(
        &self,
        how: &str,
        callers: &[(&Caller, &[Attempt])],
        revoke: impl AsyncFnOnce() -> Result<()>,
    ) -> Result<()> {
        let late = self.let_in_after(callers, revoke).await?;
        self.taken.fetch_add(1, Ordering::Relaxed);
        ensure!(
            late.is_empty(),
            "Redis {:?}, {how}: let in after the acknowledgement: {late:?}",
            self.redis
        );
        Ok(())
    }

    /// What was let in although it began after `revoke` had ended.
    async fn let_in_after(
        &self,
        callers: &[(&Caller, &[Attempt])],
        revoke: impl AsyncFnOnce() -> Result<()>,
    ) -> Result<Vec<Attempt>> {
        let mut hammers = Vec::new();
        for (caller, attempts) in callers {
            hammers.push(Hammer::start(caller, attempts).await?);
        }
        self.trouble.begin().await?;
        revoke().await?;
        let acknowledged = Instant::now();
        self.trouble.end().await?;
        let mut late = Vec::new();
        for (hammer, (caller, attempts)) in hammers.into_iter().zip(callers) {
            late.extend(hammer.finish(caller, attempts, acknowledged, BACKGROUND_MAX).await?);
        }
        Ok(late)
    }

    fn administrator(&self) -> &Caller {
        &self.house.administrator.caller
    }

    async fn log_in(&self, member: &Member) -> Result<Member> {
        self.world.log_in(&self.house.tenant.id, &member.email).await
    }

    /// The worker at a job of a member's.
    async fn job(&self, member: &Member) -> Result<Caller> {
        services::job(&self.world, &self.house.tenant.id, member).await
    }

    async fn update(&self, member: &Member, role: &str, state: MemberState) -> Result<()> {
        update(self.administrator(), member, role, state).await
    }

    async fn set_role(&self, member: &Member, role: &str) -> Result<()> {
        self.update(member, role, MemberState::Unspecified).await
    }

    /// In every way that there is.
    async fn in_every_way(&self, rounds: usize) -> Result<()> {
        for round in 0..rounds {
            self.sessions(round).await?;
            self.memberships().await?;
        }
        self.teams().await?;
        self.programs().await?;
        self.operators_as_members().await?;
        self.operators().await?;
        self.leaving().await?;
        if self.has_time {
            self.accounts().await?;
        }
        self.role_and_removal().await
    }

    /// A session that its owner ends, and one that is ended from another: by a new password in even rounds, which is the old
    /// one again, by name in odd ones.
    async fn sessions(&self, round: usize) -> Result<()> {
        let manager = &self.house.manager;
        let session = self.log_in(manager).await?.caller;
        let log_out = async || Ok(session.auth().logout(LogoutRequest {}).await.map(drop)?);
        self.take("logged out", &session, Attempt::ALL, log_out).await?;

        let session = self.log_in(manager).await?.caller;
        let elsewhere = self.log_in(manager).await?.caller;
        let end_others = async || {
            if round % 2 == 1 {
                let scope = SessionScope::Others.into();
                let request = RevokeSessionsRequest { scope };
                return Ok(elsewhere.account().revoke_sessions(request).await.map(drop)?);
            }
            for (current_password, new_password) in [(PASSWORD, OTHER_PASSWORD), (OTHER_PASSWORD, PASSWORD)] {
                let request = ChangePasswordRequest {
                    current_password: current_password.to_owned(),
                    new_password: new_password.to_owned(),
                };
                elsewhere.account().change_password(request).await?;
            }
            Ok(())
        };
        self.take("ended from elsewhere", &session, Attempt::ALL, end_others)
            .await
    }

    /// A member who is demoted, and disabled, and whose tenant is suspended, each time with a job.
    async fn memberships(&self) -> Result<()> {
        let manager = &self.house.manager;
        let session = self.log_in(manager).await?.caller;
        let job = self.job(manager).await?;
        let callers = [(&session, Attempt::BEYOND_USER), (&job, Attempt::FOR_A_JOB)];
        let demote = async || self.set_role(manager, "user").await;
        self.take_from("demoted", &callers, demote).await?;
        self.set_role(manager, "manager").await?;
        let job = self.job(manager).await?;
        let callers = [(&session, Attempt::ALL), (&job, Attempt::FOR_A_JOB)];
        let disable = async || self.update(manager, "", MemberState::Disabled).await;
        self.take_from("disabled", &callers, disable).await?;
        self.update(manager, "", MemberState::Active).await?;

        let session = self.log_in(manager).await?.caller;
        let job = self.job(manager).await?;
        let callers = [(&session, Attempt::ALL), (&job, Attempt::FOR_A_JOB)];
        let (id, reason) = (&self.house.tenant.id, "T13");
        let suspend = async || {
            let request = SuspendTenantRequest {
                id: id.clone(),
                reason: reason.to_owned(),
            };
            Ok(self.world.operator.tenants().suspend_tenant(request).await.map(drop)?)
        };
        self.take_from("suspended", &callers, suspend).await?;
        let request = ResumeTenantRequest {
            id: id.clone(),
            reason: reason.to_owned(),
        };
        self.world.operator.tenants().resume_tenant(request).await?;
        Ok(())
    }

    /// A manager reaches a colleague's contact through teams, until that ends in each of the ways that there are.
    async fn teams(&self) -> Result<()> {
        let contact = journey::create_contact(&self.house.user.caller, "Of a colleague", "").await?;
        let attempts = &[Attempt::GetColleagues(contact.id.parse()?)];
        let team = async |display_name: &str, parent_id: &str| -> Result<Team> {
            let team = Some(Team {
                display_name: display_name.to_owned(),
                parent_id: parent_id.to_owned(),
                ..Team::default()
            });
            let request = CreateTeamRequest {
                team,
                ..CreateTeamRequest::default()
            };
            let mut teams = self.administrator().teams();
            Ok(teams.create_team(request).await?.into_inner())
        };
        let above = team("Above", "").await?;
        let beneath = team("Beneath", &above.id).await?;
        let set = |team: &Team, user_id: &str, manager| SetTeamMemberRequest {
            team_id: team.id.clone(),
            user_id: user_id.to_owned(),
            manager,
        };
        let out = |team: &Team, user_id: &str| RemoveTeamMemberRequest {
            team_id: team.id.clone(),
            user_id: user_id.to_owned(),
        };
        let moved = |parent_id: &str| UpdateTeamRequest {
            team: Some(Team {
                id: beneath.id.clone(),
                parent_id: parent_id.to_owned(),
                ..Team::default()
            }),
            update_mask: Some(FieldMask {
                paths: vec!["parent_id".to_owned()],
            }),
        };
        let [manager, user] = [&self.house.manager, &self.house.user].map(|member| member.tokens.user_id.as_str());
        let session = self.log_in(&self.house.manager).await?.caller;
        for way in [
            "no longer a manager of it",
            "out of it",
            "the colleague out of it",
            "moved",
            "deleted",
        ] {
            let mut teams = self.administrator().teams();
            teams.set_team_member(set(&above, manager, true)).await?;
            teams.set_team_member(set(&beneath, user, false)).await?;
            teams.update_team(moved(&above.id)).await?;
            let end = async || {
                match way {
                    "out of it" => drop(teams.remove_team_member(out(&above, manager)).await?),
                    "the colleague out of it" => drop(teams.remove_team_member(out(&beneath, user)).await?),
                    "moved" => drop(teams.update_team(moved("")).await?),
                    "deleted" => {
                        let (id, etag) = (beneath.id.clone(), String::new());
                        drop(teams.delete_team(DeleteTeamRequest { id, etag }).await?);
                    }
                    _ => drop(teams.set_team_member(set(&above, manager, false)).await?),
                }
                Ok(())
            };
            self.take(way, &session, attempts, end).await?;
        }
        Ok(())
    }

    /// An operator who acts as a member, until the operator or the member ends it, or the operator's own session ends.
    async fn operators_as_members(&self) -> Result<()> {
        let (world, house) = (&self.world, &self.house);
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
            let member = self.log_in(&house.manager).await?;
            let session_id = started.session_id;
            let end = async || {
                match way {
                    "ended" => {
                        let request = EndImpersonationRequest { session_id };
                        drop(impersonation.end_impersonation(request).await?);
                    }
                    "revoked by the member" => {
                        let request = RevokeSessionRequest { session_id };
                        drop(member.caller.account().revoke_session(request).await?);
                    }
                    "logged out" => drop(operator.auth().logout(LogoutRequest {}).await?),
                    _ => {
                        let session_id = tokens.session_id.clone();
                        let request = RevokeSessionRequest { session_id };
                        drop(world.operator.account().revoke_session(request).await?);
                    }
                }
                Ok(())
            };
            let how = format!("an operator as a member, {way}");
            self.take(&how, &inside, Attempt::ALL, end).await?;
        }
        Ok(())
    }

    /// An operator, in the tenant and about tenants, until another takes the role from them.
    async fn operators(&self) -> Result<()> {
        let (world, person) = (&self.world, &self.house.user);
        let (mut operators, reason) = (world.operator.operators(), "T13");
        for (how, attempts) in [
            ("an operator's role, in the tenant", Attempt::ALL),
            ("an operator's role", &[Attempt::ListTenants]),
        ] {
            let request = GrantOperatorRequest {
                email: person.email.clone(),
                reason: reason.to_owned(),
                current_password: world.operator_password.clone(),
                code: String::new(),
            };
            operators.grant_operator(request).await?;
            let tokens = journey::log_in(&world.anyone, &person.email, PASSWORD, "").await?;
            let mut operator = world.anyone.with_token(&tokens.access_token)?;
            if attempts == Attempt::ALL {
                operator = operator.in_tenant(&self.house.tenant.id, reason)?;
            }
            let request = RevokeOperatorRequest {
                user_id: person.tokens.user_id.clone(),
                reason: reason.to_owned(),
            };
            let revoke = async || Ok(operators.revoke_operator(request).await.map(drop)?);
            self.take(how, &operator, attempts, revoke).await?;
        }
        Ok(())
    }

    /// A role of the tenant's own that shrinks, and a member who is removed.
    async fn role_and_removal(&self) -> Result<()> {
        let mut role = Role {
            name: "auditor".to_owned(),
            display_name: "Auditor".to_owned(),
            permissions: ["contacts:*", "members:read", "reports:read"]
                .map(str::to_owned)
                .to_vec(),
            ..Role::default()
        };
        let create = CreateRoleRequest {
            role: Some(role.clone()),
            ..CreateRoleRequest::default()
        };
        self.administrator().roles().create_role(create).await?;
        self.set_role(&self.house.manager, "auditor").await?;
        let session = self.log_in(&self.house.manager).await?.caller;
        let job = self.job(&self.house.manager).await?;
        let callers = [(&session, Attempt::BEYOND_USER), (&job, Attempt::FOR_A_JOB)];
        role.permissions = vec!["contacts:read".to_owned()];
        let shrink = async || {
            let update = UpdateRoleRequest {
                role: Some(role),
                ..UpdateRoleRequest::default()
            };
            Ok(self.administrator().roles().update_role(update).await.map(drop)?)
        };
        self.take_from("the role shrank", &callers, shrink).await?;
        let remove = async || {
            let request = RemoveMemberRequest {
                user_id: self.house.manager.tokens.user_id.clone(),
                etag: String::new(),
            };
            Ok(self.administrator().members().remove_member(request).await.map(drop)?)
        };
        self.take("removed", &session, &[Attempt::ListContacts], remove).await
    }

    /// A member who leaves by themselves.
    async fn leaving(&self) -> Result<()> {
        let (tenant_id, email) = (self.house.tenant.id.clone(), "leaver@acme.example");
        journey::invite(self.administrator(), email, "manager").await?;
        let leaver = self.world.join(&tenant_id, email).await?;
        let job = self.job(&leaver).await?;
        let callers = [(&leaver.caller, Attempt::ALL), (&job, Attempt::FOR_A_JOB)];
        let request = LeaveTenantRequest { tenant_id };
        let leave = async || Ok(leaver.caller.account().leave_tenant(request).await.map(drop)?);
        self.take_from("left", &callers, leave).await
    }

    /// The control: a role that is changed behind the protocol's back, so that no version is published and nobody is waited
    /// for, lets calls in afterwards. The hammer sees them.
    async fn a_change_behind_the_protocols_back_is_noticed(&self) -> Result<()> {
        let user = &self.house.user;
        self.set_role(user, "manager").await?;
        let session = self.log_in(user).await?.caller;
        let change = async || demote_behind(&self.world).await;
        let late = self.let_in_after(&[(&session, Attempt::BEYOND_USER)], change).await?;
        ensure!(
            !late.is_empty(),
            "Redis {:?}: cached rights are honoured while nobody is told",
            self.redis
        );
        Ok(())
    }
}

/// Changes one field of a membership: the role where one is given, else the state.
async fn update(administrator: &Caller, member: &Member, role: &str, state: MemberState) -> Result<()> {
    let field = if role.is_empty() { "state" } else { "role" };
    let membership = Membership {
        user_id: member.tokens.user_id.clone(),
        role: role.to_owned(),
        state: state.into(),
        ..Membership::default()
    };
    let request = UpdateMemberRequest {
        member: Some(membership),
        update_mask: Some(FieldMask {
            paths: vec![field.to_owned()],
        }),
    };
    administrator.members().update_member(request).await?;
    Ok(())
}

/// Takes the role of all managers behind the protocol's back.
async fn demote_behind(world: &World) -> Result<()> {
    let sql = "UPDATE auth.memberships SET role = 'user' WHERE role = 'manager'";
    execute(world.suite.databases(), sql).await
}

/// Revocations in every way, on suites of their own, as many as there is time for.
async fn again_and_again(redis: Redis) -> Result<()> {
    let mut torture = Torture::begin("T13", redis.test());
    // Where Redis suffers, the short form does each of them once.
    let rounds = match redis {
        Redis::Up | Redis::Away => ROUNDS,
        Redis::Flushed | Redis::Hung | Redis::HungForAll | Redis::Full => torture.size(1, ROUNDS),
    };
    while let Some(dice) = torture.round() {
        let (world, trouble) = redis.start(dice).await?;
        let house = world.house("acme").await?;
        let arena = Arena {
            world,
            house,
            redis,
            trouble,
            taken: AtomicUsize::new(0),
            has_time: torture.is_long() || matches!(redis, Redis::Up | Redis::Away | Redis::HungForAll),
        };
        let held = arena.in_every_way(rounds).await;
        torture.trials(arena.taken.load(Ordering::Relaxed));
        held?;
        arena.a_change_behind_the_protocols_back_is_noticed().await?;
        arena.trouble.finish(&mut torture).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_let_in_after_a_revocation() -> Result<()> {
    again_and_again(Redis::Up).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_let_in_after_a_revocation_while_redis_is_away() -> Result<()> {
    again_and_again(Redis::Away).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_let_in_after_a_revocation_while_redis_is_flushed() -> Result<()> {
    again_and_again(Redis::Flushed).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_let_in_after_a_revocation_while_redis_hangs() -> Result<()> {
    again_and_again(Redis::Hung).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_let_in_after_a_revocation_while_redis_hangs_for_all() -> Result<()> {
    again_and_again(Redis::HungForAll).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_let_in_after_a_revocation_while_redis_is_full() -> Result<()> {
    again_and_again(Redis::Full).await
}

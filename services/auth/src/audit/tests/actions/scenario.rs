//! Something of everything that is told to the log.

use std::sync::Arc;
use std::time::Duration;

use rowhouse_auth_kit::{Grants, Role};
use rowhouse_context::{Ctx, Principal, ServiceName};
use rowhouse_types::{OperationId, ReportId, Text, UserId};
use serde_json::{Value, json};

use super::super::log;
use crate::account::{self, PasswordChange};
use crate::audit::actions::export;
use crate::audit::logs::{Logs, Reader};
use crate::identity::{NewPassword, OfferedPassword};
use crate::member::{self, Invite};
use crate::operator::command;
use crate::role::{self, NewRole, RoleTitle, TenantRole};
use crate::second_factor::actions::{remove, renew_codes};
use crate::service_account::{self, AccountName, keys};
use crate::session::{Scope, actions::logout, manage, refresh::refresh};
use crate::team::{self, NewTeam, TeamName};
use crate::tenant::{self, Access, AccessChange};
use crate::tests::app::App;
use crate::tests::bench::{Bench, House, PASSWORD, anonymous, ctx, key_of, service_ctx};
use crate::{break_glass, delegation, impersonation, key, login_policy, master, purge};

/// Action, target, before and after.
pub(super) type Entry = (String, String, Option<Value>, Option<Value>);

const ADA: &str = "ada@acme.example";
const EVE: &str = "eve@acme.example";
const ROOT: &str = "root@rowhouse.example";

fn entry(action: &str, target: impl ToString, before: Option<Value>, after: Option<Value>) -> Entry {
    (action.to_owned(), target.to_string(), before, after)
}

fn why() -> Text<500> {
    Text::parse_required("ticket 7").unwrap()
}

fn password() -> OfferedPassword {
    OfferedPassword::parse(PASSWORD).unwrap()
}

fn invite(email: &str) -> Invite {
    Invite {
        email: email.parse().unwrap(),
        role: TenantRole::BuiltIn(Role::User),
        request: None,
    }
}

/// Does it all, and answers what some of the entries say, to the letter.
pub(super) async fn play(bench: &Bench) -> Vec<Entry> {
    let house = bench.house("acme").await;
    let admin = bench.ctx_of(house.admin, house.tenant).await;
    let ada = bench.member(&house, ADA, Role::User).await;
    let mut expected = teams(bench, &admin, ada).await;
    expected.extend(roles(bench, &admin).await);
    expected.extend(members(bench, &house, &admin).await);
    programs(bench, &admin).await;
    sessions(bench, &house).await;
    account(bench).await;
    platform(bench, &house, &admin, ada).await;
    expected.extend(upkeep(bench, &admin, &house, ada).await);
    member::actions::remove(&admin, &bench.state, ada, None).await.unwrap();
    expected.extend(end_of_tenant(bench).await);
    expected
}

async fn teams(bench: &Bench, by: &Ctx, user: UserId) -> Vec<Entry> {
    let state = &bench.state;
    let new = |name: &str| NewTeam {
        name: TeamName::parse_required(name).unwrap(),
        parent: None,
        request: None,
    };
    let north = team::actions::create(by, state, &new("North")).await.unwrap().id;
    let south = team::actions::create(by, state, &new("South")).await.unwrap().id;
    let moved = team::Change {
        id: north,
        name: Some(TeamName::parse_required("Nord").unwrap()),
        parent: Some(Some(south)),
        etag: None,
    };
    team::actions::update(by, state, &moved).await.unwrap();
    for manages in [false, true] {
        let set = team::actions::set_member(by, state, north, user, manages).await;
        set.unwrap();
    }
    team::actions::remove_member(by, state, north, user).await.unwrap();
    team::actions::delete(by, state, north, None).await.unwrap();
    let was = json!({ "display_name": "North", "parent_id": null });
    let is = json!({ "display_name": "Nord", "parent_id": south });
    let member = |manages: bool| Some(json!({ "user_id": user, "manager": manages }));
    vec![
        entry("team.create", north, None, Some(was.clone())),
        entry("team.update", north, Some(was), Some(is.clone())),
        entry("team.set_member", north, None, member(false)),
        entry("team.set_member", north, member(false), member(true)),
        entry("team.remove_member", north, member(true), None),
        entry("team.delete", north, Some(is), None),
    ]
}

async fn roles(bench: &Bench, by: &Ctx) -> Vec<Entry> {
    let state = &bench.state;
    let new = NewRole {
        name: "auditor".parse().unwrap(),
        title: RoleTitle::parse_required("Auditor").unwrap(),
        grants: Grants::read(["contacts:read"]),
        request: None,
    };
    role::actions::create(by, state, &new).await.unwrap();
    let change = role::Change {
        name: new.name.clone(),
        title: None,
        grants: Some(Grants::read(["reports:read"])),
        etag: None,
        only_look: false,
    };
    role::actions::update(by, state, &change).await.unwrap();
    role::actions::delete(by, state, &new.name, None).await.unwrap();
    let permits = |permission: &str| Some(json!({ "permissions": [permission] }));
    vec![
        entry("role.create", "auditor", None, permits("contacts:read")),
        entry("role.delete", "auditor", permits("reports:read"), None),
    ]
}

async fn members(bench: &Bench, house: &House, by: &Ctx) -> Vec<Entry> {
    let state = &bench.state;
    let accepted = member::actions::invite(by, state, &invite(EVE)).await.unwrap().id;
    let eve = bench.accept(accepted, PASSWORD).await.unwrap().user;
    let revoked = member::actions::invite(by, state, &invite("bob@acme.example")).await;
    let revoked = revoked.unwrap().id;
    member::actions::revoke_invitation(by, state, revoked).await.unwrap();
    let promoted = member::Change {
        user: eve,
        role: Some(TenantRole::BuiltIn(Role::Manager)),
        state: None,
        etag: None,
    };
    member::actions::update(by, state, &promoted).await.unwrap();
    let own = bench.ctx_of(eve, house.tenant).await;
    member::actions::leave(&own, state, house.tenant).await.unwrap();
    let role = Some(json!({ "role": "user" }));
    let joined = json!({ "role": "user", "user": eve.to_string() });
    vec![
        entry("invitation.create", accepted, None, role.clone()),
        entry("invitation.accept", accepted, None, Some(joined)),
        entry("identity.create", eve, None, None),
        entry("invitation.revoke", revoked, role, None),
    ]
}

async fn programs(bench: &Bench, by: &Ctx) {
    let state = &bench.state;
    let program = bench.program(by, "Importer", TenantRole::BuiltIn(Role::User)).await;
    let renamed = service_account::Change {
        id: program,
        name: Some(AccountName::parse_required("Exporter").unwrap()),
        role: None,
        state: None,
        etag: None,
    };
    service_account::actions::update(by, state, &renamed).await.unwrap();
    let (made, _) = keys::create(by, state, &key_of(program, 30)).await.unwrap();
    keys::revoke(by, state, made.id).await.unwrap();
    let deleted = service_account::actions::delete(by, state, program, None).await;
    deleted.unwrap();
}

async fn sessions(bench: &Bench, house: &House) {
    let state = &bench.state;
    let login = async || bench.login(ADA, PASSWORD, None).await.unwrap();
    let (first, second) = (login().await, login().await);
    let own = Bench::ctx_in(&first);
    manage::switch(&own, state, house.tenant).await.unwrap();
    manage::revoke(&own, state, second.session.id).await.unwrap();
    manage::revoke_all(&own, state, Scope::Others).await.unwrap();
    logout(&own, state).await.unwrap();
    // A token that was used, and whose successor was, is somebody else's.
    let stolen = login().await;
    let next = refresh(&anonymous(), state, &stolen.refresh_token).await.unwrap();
    refresh(&anonymous(), state, &next.refresh_token).await.unwrap();
    assert!(refresh(&anonymous(), state, &stolen.refresh_token).await.is_err());
}

async fn account(bench: &Bench) {
    let (state, db) = (&bench.state, &bench.state.db);
    let own = Bench::ctx_in(&bench.login(ADA, PASSWORD, None).await.unwrap());
    let app = App::set_up(bench, &own, PASSWORD).await;
    let codes = renew_codes(&own, state, &password(), &app.recovery(0)).await.unwrap();
    let code = codes.expose().remove(0).parse().unwrap();
    remove(&own, state, &password(), &code).await.unwrap();
    let change = PasswordChange {
        current: password(),
        new: NewPassword::parse("battery horse correct").unwrap(),
    };
    account::password::change(&own, state, &change).await.unwrap();
    let ada = ADA.parse().unwrap();
    break_glass::recover(db, &ada, &why(), |_| Ok(())).await.unwrap();
    assert!(break_glass::disable(db, &ada, &why()).await.unwrap());
    assert!(break_glass::enable(db, &ada, &why()).await.unwrap());
}

async fn platform(bench: &Bench, house: &House, admin: &Ctx, user: UserId) {
    let (state, db) = (&bench.state, &bench.state.db);
    let password = bench.operator(ROOT).await;
    let root = Bench::ctx_in(&bench.login(ROOT, &password, None).await.unwrap());
    let start = impersonation::Start {
        tenant: house.tenant,
        user,
        reason: why(),
        lasts: Duration::from_secs(600),
    };
    let started = impersonation::actions::start(&root, state, &start).await.unwrap();
    let session = started.opened.session;
    impersonation::actions::end(&root, state, session).await.unwrap();
    // What they have handed on as a member ends with the role.
    let program = bench.program(admin, "Importer", TenantRole::BuiltIn(Role::User)).await;
    keys::create(admin, state, &key_of(program, 30)).await.unwrap();
    member::actions::invite(admin, state, &invite("bob@acme.example"))
        .await
        .unwrap();
    let colleague = house.email.parse().unwrap();
    command::grant(db, &colleague, &why(), |_| Ok(())).await.unwrap();
    assert!(command::revoke(db, &colleague, &why()).await.unwrap());
}

async fn upkeep(bench: &Bench, admin: &Ctx, house: &House, user: UserId) -> Vec<Entry> {
    let state = &bench.state;
    let policy = login_policy::Change {
        password_length_min: Some(Some(16)),
        ..login_policy::Change::default()
    };
    login_policy::actions::update(admin, state, &policy).await.unwrap();
    let work = delegation::Work {
        job: ReportId::generate().to_string().parse().unwrap(),
        tenant: house.tenant,
        user,
        platform: false,
    };
    let name = ServiceName::Worker;
    let worker = ctx(Principal::Service { name }, None);
    delegation::actions::issue_job_token(&worker, state, &work)
        .await
        .unwrap();
    let logs = Arc::new(Logs::new(log(bench), Vec::new()));
    let reader = Reader::of_tenant(admin, state).await.unwrap();
    let exported = export(reader, state, logs, ServiceName::Auth, 3).await;
    drop(exported.unwrap());
    let next = key::actions::rotate(&service_ctx(), state).await.unwrap();
    key::actions::revoke(&service_ctx(), state, next.id, &why())
        .await
        .unwrap();
    let resealed = master::reseal(&state.db, &master::master_keys("A")).await.unwrap();
    let resealed = json!({ "secrets": resealed.secrets, "resealed": resealed.resealed, "unopened": 0 });
    vec![
        entry("audit.export", "auth", None, Some(json!({ "after_number": 3 }))),
        entry("master_key.reseal", "", None, Some(resealed)),
    ]
}

async fn end_of_tenant(bench: &Bench) -> Vec<Entry> {
    let gone = bench.house("globex").await;
    let operation = OperationId::generate();
    let change = AccessChange {
        tenant: gone.tenant,
        access: Access::Suspended,
        operation,
    };
    let suspended = tenant::actions::set_access(&service_ctx(), &bench.state, &change).await;
    suspended.unwrap();
    while !purge::purge(&service_ctx(), &bench.state, gone.tenant, operation)
        .await
        .unwrap()
        .done
    {}
    let by = operation.to_string();
    let (was, is) = (
        json!({ "access": "allowed" }),
        json!({ "access": "suspended", "operation": by }),
    );
    vec![
        entry("tenant.set_access", gone.tenant, Some(was), Some(is)),
        entry("tenant.purge", gone.tenant, None, Some(json!({ "operation": by }))),
    ]
}

//! A database of its own, this service's state on it, and the usual people.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use rowhouse_audit::{ControlLog, Refusals};
use rowhouse_auth_kit::Role;
use rowhouse_cache::Cache;
use rowhouse_client::LimitsClient;
use rowhouse_config::Secret;
use rowhouse_context::{Ctx, Principal, RequestId, ServiceName};
use rowhouse_db::ControlDb;
use rowhouse_db::paging::PageTokens;
use rowhouse_devkit::cluster::Kind;
use rowhouse_devkit::fixture::Databases;
use rowhouse_devkit::servers::Login;
use rowhouse_mq::Wake;
use rowhouse_types::{
    ApiKeyId, InvitationId, Limits, OperationId, ServiceAccountId, SessionId, TeamId, TenantId, UserId,
};
use serde_json::Value;
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, PgPool};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::attempt::origin::ClosedOrigins;
use crate::audit::TABLE;
use crate::error::Error;
use crate::identity::{DisplayName, Hasher, OfferedPassword};
use crate::invitation::{self, Acceptance, Joined};
use crate::key::{Schedule, Signing};
use crate::link::{LinkTokens, Token};
use crate::master::{self, Purpose, master_keys};
use crate::member::Invite;
use crate::rights::{Clock, News, Query, Renewal, Rights, Standing, Version};
use crate::role::TenantRole;
use crate::service_account::{AccountName, NewAccount, NewKey};
use crate::session::{Attempt, Pair};
use crate::state::State;
use crate::team::{self, NewTeam, TeamName};
use crate::tenant::{Access, AccessChange, Founding, TenantName};
use crate::{mail, member, operator, rights, service_account, session, tenant};

/// Long enough for anything on a busy machine; only a test that fails waits for it.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// Connections of one process.
pub(crate) const CONNECTIONS: u32 = 12;

/// Everybody's password.
pub(crate) const PASSWORD: &str = "correct horse battery";

/// Keys are published for a minute before they sign, and replaced after three months.
pub(crate) const SCHEDULE: Schedule = Schedule {
    published: Duration::from_secs(60),
    replaced: Some(Duration::from_secs(90 * 86_400)),
};

/// What one test works with.
pub(crate) struct Bench {
    pub(crate) state: Arc<State>,
    /// For looking, and for planting faults.
    pub(crate) superuser: PgPool,
    databases: Databases,
}

/// An entry about guesses that failed: whose log, what it was about, from where, what it says of why.
pub(crate) type Told = (Option<Uuid>, String, Option<String>, Value);

/// A tenant that is open, and its administrator.
#[derive(Clone, Debug)]
pub(crate) struct House {
    pub(crate) tenant: TenantId,
    pub(crate) admin: UserId,
    pub(crate) email: String,
}

// === impl Bench ===

impl Bench {
    pub(crate) async fn start(name: &str) -> Self {
        rowhouse_server::provider::install();
        let databases = Databases::create_only(Kind::Control, name).await.unwrap();
        let superuser = PgPoolOptions::new().max_connections(4);
        let superuser = superuser.connect_lazy(&databases.control_superuser_url()).unwrap();
        let state = Self::state_on(&databases, "A").await;
        Self {
            state,
            superuser,
            databases,
        }
    }

    /// Another process of the service.
    pub(crate) async fn replica(&self) -> Arc<State> {
        Self::state_on(&self.databases, "A").await
    }

    /// Another process, with other master keys than `A`, by which everything was made: the first is the present one.
    pub(crate) async fn with_master_keys(&self, keys: &str) -> Arc<State> {
        Self::state_on(&self.databases, keys).await
    }

    /// Another process, for which every tenant's plan has these limits.
    pub(crate) async fn within(&self, limits: Limits) -> Arc<State> {
        Self::state_with(&self.databases, "A", limits, SCHEDULE).await
    }

    /// Another process, which replaces keys as it is told.
    pub(crate) async fn scheduled(&self, schedule: Schedule) -> Arc<State> {
        Self::state_with(&self.databases, "A", Limits::default(), schedule).await
    }

    async fn state_on(databases: &Databases, key: &str) -> Arc<State> {
        Self::state_with(databases, key, Limits::default(), SCHEDULE).await
    }

    async fn state_with(databases: &Databases, key: &str, limits: Limits, schedule: Schedule) -> Arc<State> {
        let url = Secret::new(databases.control_url(Login::ControlAuth));
        let db = ControlDb::connect(&url, CONNECTIONS).await.unwrap();
        let nowhere = Secret::new("redis://127.0.0.1:1".to_owned());
        let master = master_keys(key);
        Arc::new(State {
            hasher: Hasher::new(4).unwrap(),
            invitation_tokens: LinkTokens::new(&master, Purpose::Invitations).unwrap(),
            account_tokens: LinkTokens::new(&master, Purpose::AccountLinks).unwrap(),
            second_factors: master::sealers(&master, Purpose::SecondFactors).unwrap(),
            signing: Signing::new(&master, "rowhouse".to_owned(), schedule).unwrap(),
            clock: Clock::new(db.clone()),
            pages: PageTokens::new(&[7; 32]),
            // Fixed limits ask nobody, Redis neither.
            limits: LimitsClient::fixed(limits, Cache::connect(&nowhere, "none").unwrap()),
            failed_logins: Refusals::new(ServiceName::Auth),
            closed_origins: ClosedOrigins::new(),
            wake: Wake::new(),
            db,
        })
    }

    /// An open tenant with one administrator, `admin@<name>.example`.
    pub(crate) async fn house(&self, name: &str) -> House {
        let (tenant, email) = (TenantId::generate(), format!("admin@{name}.example"));
        let founding = founding(tenant, &email);
        let invitation = tenant::actions::create_first_administrator(&service_ctx(), &self.state, &founding).await;
        let admin = self.accept(invitation.unwrap(), PASSWORD).await.unwrap().user;
        self.set_access(tenant, Access::Allowed).await;
        House { tenant, admin, email }
    }

    pub(crate) async fn set_access(&self, tenant: TenantId, access: Access) {
        let change = AccessChange {
            tenant,
            access,
            operation: OperationId::generate(),
        };
        tenant::actions::set_access(&service_ctx(), &self.state, &change)
            .await
            .unwrap();
    }

    /// A member with a role.
    pub(crate) async fn member(&self, house: &House, email: &str, role: Role) -> UserId {
        let invite = Invite {
            email: email.parse().unwrap(),
            role: TenantRole::BuiltIn(role),
            request: None,
        };
        let ctx = self.ctx_of(house.admin, house.tenant).await;
        let sent = member::actions::invite(&ctx, &self.state, &invite).await.unwrap();
        self.accept(sent.id, PASSWORD).await.unwrap().user
    }

    /// Makes somebody who has an account a member of another tenant.
    pub(crate) async fn join(&self, house: &House, email: &str, role: Role) {
        self.member(house, email, role).await;
    }

    /// A team of these people, of whom the first manages it.
    pub(crate) async fn team(&self, by: &Ctx, people: &[UserId]) -> TeamId {
        let new = NewTeam {
            name: TeamName::parse_required("A team").unwrap(),
            parent: None,
            request: None,
        };
        let id = team::actions::create(by, &self.state, &new).await.unwrap().id;
        for (at, user) in people.iter().enumerate() {
            let set = team::actions::set_member(by, &self.state, id, *user, at == 0).await;
            set.unwrap();
        }
        id
    }

    /// A service account.
    pub(crate) async fn program(&self, by: &Ctx, name: &str, role: TenantRole) -> ServiceAccountId {
        let name = AccountName::parse_required(name).unwrap();
        let request = None;
        let new = NewAccount { name, role, request };
        let made = service_account::actions::create(by, &self.state, &new).await;
        made.unwrap().id
    }

    /// The context of a call by a service account, with one of its keys.
    pub(crate) fn ctx_with(tenant: TenantId, account: ServiceAccountId, key: ApiKeyId) -> Ctx {
        let principal = Principal::Member {
            user: service_account::user_of(account),
            session: service_account::session_of(key),
            tenant,
        };
        ctx(principal, Some(tenant))
    }

    /// Reads the mail of an invitation and accepts it.
    pub(crate) async fn accept(&self, invitation: InvitationId, password: &str) -> Result<Joined, Error> {
        let mail = mail::actions::invitation_mail(&service_ctx(), &self.state, invitation).await?;
        invitation::accept(&anonymous(), &self.state, &acceptance(mail.token, password)).await
    }

    pub(crate) async fn login(&self, email: &str, password: &str, tenant: Option<TenantId>) -> Result<Pair, Error> {
        let password = OfferedPassword::parse(password).unwrap();
        let attempt = Attempt {
            email: email.parse().unwrap(),
            password,
            tenant,
            second_factor: None,
            device: None,
        };
        session::actions::login(&anonymous(), &self.state, &attempt).await
    }

    /// The context of a call by a member, with a session that exists.
    pub(crate) async fn ctx_of(&self, user: UserId, tenant: TenantId) -> Ctx {
        let session = SessionId::generate();
        let sql = format!(
            "INSERT INTO auth.sessions (id, identity_id, tenant_id, expires_at) \
             VALUES ('{}', '{}', '{}', now() + interval '1 day')",
            session.uuid(),
            user.uuid(),
            tenant.uuid()
        );
        self.execute(&sql).await;
        ctx(Principal::Member { user, session, tenant }, Some(tenant))
    }

    /// The context of a call in the session of a log-in.
    pub(crate) fn ctx_in(pair: &Pair) -> Ctx {
        let (user, session) = (pair.session.user, pair.session.id);
        let principal = match pair.session.tenant {
            Some(tenant) => Principal::Member { user, session, tenant },
            None => Principal::Operator { user, session },
        };
        ctx(principal, pair.session.tenant)
    }

    /// Whether a session may still act.
    pub(crate) async fn standing(&self, pair: &Pair) -> Standing {
        let session = pair.session;
        let query = Query {
            user: session.user,
            session: Some(session.id),
            tenant: session.tenant,
            platform: session.tenant.is_none(),
            key: None,
            by: None,
        };
        self.rights(query).await.standing
    }

    /// What somebody may do now.
    pub(crate) async fn rights(&self, query: Query) -> Rights {
        rights::actions::rights_now(&anonymous(), &self.state, &query)
            .await
            .unwrap()
    }

    /// Makes an operator.
    pub(crate) async fn operator(&self, email: &str) -> String {
        let mut password = String::new();
        let email = email.parse().unwrap();
        let keep = |secret: &str| {
            password = secret.to_owned();
            Ok(())
        };
        operator::command::bootstrap(&self.state.db, &email, keep)
            .await
            .unwrap();
        password
    }

    /// Writes the guesses that were counted, and reads those at one RPC back.
    pub(crate) async fn told(&self, rpc: &str) -> Vec<Told> {
        let stop = CancellationToken::new();
        stop.cancel();
        let log = ControlLog::new(self.state.db.pool().clone(), TABLE);
        self.state.failed_logins.run(&log, stop).await;
        let rows = "SELECT tenant_id, target, address, after FROM auth.audit \
            WHERE action = $1 AND outcome = 'refused' AND actor = 'anonymous' \
            ORDER BY tenant_id NULLS LAST, target, address, after->>'reason'";
        let told = sqlx::query_as(rows).bind(rpc);
        told.fetch_all(&self.superuser).await.unwrap()
    }

    /// What the last entry of an action about `target` names as ended with it: keys, and invitations.
    pub(crate) async fn named_as_ended(&self, action: &str, target: impl ToString) -> (Value, Value) {
        let last = "SELECT after->'keys_ended', after->'invitations_ended' FROM auth.audit \
            WHERE action = $1 AND target = $2 AND outcome = 'done' ORDER BY id DESC LIMIT 1";
        let last = sqlx::query_as(last).bind(action).bind(target.to_string());
        last.fetch_one(&self.superuser).await.unwrap()
    }

    pub(crate) async fn execute(&self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
            .execute(&self.superuser)
            .await
            .unwrap();
    }

    pub(crate) async fn count(&self, sql: &str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned()))
            .fetch_one(&self.superuser)
            .await
            .unwrap()
    }

    /// Waits until somebody waits for a lock of the database.
    pub(crate) async fn until_somebody_waits(&self) {
        self.until_waiting(1).await;
    }

    /// Waits until a call waits for a lock of the database; where it ends before, the test does. What it answers is not shown:
    /// it may be secret.
    pub(crate) async fn until_it_waits<T, E: Debug>(&self, call: &mut JoinHandle<Result<T, E>>) {
        tokio::select! {
            () = self.until_somebody_waits() => {}
            ended = call => panic!("it did not wait: {:?}", ended.map(Result::err)),
        }
    }

    /// Waits until so many wait for a lock of the database.
    pub(crate) async fn until_waiting(&self, many: i64) {
        let waiting =
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        while self.count(waiting).await < many {
            tokio::task::yield_now().await;
        }
    }

    /// What a change answers, and whose rights it says have changed. It is made while another service holds a lease, and must
    /// not answer before that service has confirmed it.
    pub(crate) async fn acknowledged<T: Debug + Send + 'static>(
        &self,
        change: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> (T, Vec<String>) {
        let mut holder = Renewal {
            instance: Uuid::now_v7(),
            service: "crm",
            confirmed: Version(0),
            wait: Duration::ZERO,
        };
        holder.confirmed = self.renew(&holder).await.version;
        self.renew(&holder).await;
        // So long that only the confirmation can end the wait; a renewal makes it short again.
        let lasts = "UPDATE auth.leases SET expires_at = now() + interval '1 hour'";
        self.execute(lasts).await;
        let changing = tokio::spawn(change);
        let news = loop {
            let news = self.renew(&holder).await;
            if news.version > holder.confirmed {
                break news;
            }
        };
        // Who waited for nobody would have answered during these.
        for _ in 0..3 {
            self.execute(lasts).await;
        }
        assert!(!changing.is_finished(), "it must not be acknowledged yet");
        holder.confirmed = news.version;
        self.renew(&holder).await;
        (changing.await.unwrap().unwrap(), news.subjects)
    }

    async fn renew(&self, holder: &Renewal) -> News {
        let renewed = rights::actions::renew_lease(&anonymous(), &self.state, holder).await;
        renewed.unwrap()
    }

    /// What came of two calls that meet: the second begins when the first waits for these rows, and the rows are let go when the
    /// second waits too, for them or for the first.
    pub(crate) async fn meet<A: Debug + Send + 'static, B: Debug + Send + 'static>(
        &self,
        rows: &str,
        first: impl Future<Output = A> + Send + 'static,
        second: impl Future<Output = B> + Send + 'static,
    ) -> (A, B) {
        let mut holding = self.superuser.begin().await.unwrap();
        let hold = format!("SELECT FROM {rows} FOR UPDATE");
        sqlx::raw_sql(AssertSqlSafe(hold)).execute(&mut *holding).await.unwrap();
        let mut first = tokio::spawn(first);
        tokio::select! {
            () = self.until_waiting(1) => {}
            done = &mut first => panic!("the first did not wait: {done:?}"),
        }
        let mut second = tokio::spawn(second);
        tokio::select! {
            () = self.until_waiting(2) => {}
            done = &mut second => panic!("the second did not wait: {done:?}"),
        }
        holding.rollback().await.unwrap();
        (first.await.unwrap(), second.await.unwrap())
    }

    /// Everything that the schema holds, as text.
    pub(crate) async fn dump(&self) -> String {
        self.dump_without(&[]).await
    }

    /// Everything that the schema holds but some tables, as text.
    pub(crate) async fn dump_without(&self, set_aside: &[&str]) -> String {
        let tables: Vec<String> =
            sqlx::query_scalar("SELECT table_name::text FROM information_schema.tables WHERE table_schema = 'auth'")
                .fetch_all(&self.superuser)
                .await
                .unwrap();
        let mut all = String::new();
        for table in tables.iter().filter(|table| !set_aside.contains(&table.as_str())) {
            let sql = format!("SELECT coalesce(string_agg(row::text, E'\\n'), '') FROM auth.{table} AS row");
            let rows: String = sqlx::query_scalar(AssertSqlSafe(sql))
                .fetch_one(&self.superuser)
                .await
                .unwrap();
            all.push_str(&rows);
        }
        all
    }
}

/// What an entry about guesses says of why.
pub(crate) fn why(reason: &str, times: u64) -> Value {
    serde_json::json!({ "reason": reason, "permission": null, "times": times })
}

pub(crate) fn founding(tenant: TenantId, email: &str) -> Founding {
    Founding {
        tenant,
        name: TenantName::parse_required("Acme").unwrap(),
        email: email.parse().unwrap(),
        operation: OperationId::generate(),
    }
}

pub(crate) fn acceptance(token: Token, password: &str) -> Acceptance {
    Acceptance {
        token,
        display_name: DisplayName::parse_required("Somebody").unwrap(),
        password: OfferedPassword::parse(password).unwrap(),
        device: None,
    }
}

/// A key that a call makes which is not repeated.
pub(crate) fn key_of(account: ServiceAccountId, days: i32) -> NewKey {
    let request = None;
    NewKey { account, days, request }
}

pub(crate) fn ctx(principal: Principal, tenant: Option<TenantId>) -> Ctx {
    within(principal, tenant, LONG)
}

pub(crate) fn within(principal: Principal, tenant: Option<TenantId>, time: Duration) -> Ctx {
    Ctx::new(RequestId::generate(), principal, tenant, Instant::now() + time)
}

pub(crate) fn anonymous() -> Ctx {
    ctx(Principal::Anonymous, None)
}

pub(crate) fn service_ctx() -> Ctx {
    ctx(
        Principal::Service {
            name: ServiceName::Tenant,
        },
        None,
    )
}

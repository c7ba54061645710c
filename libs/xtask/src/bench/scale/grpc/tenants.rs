//! Tenants that have never signed up, and who calls for them.
//!
//! crm builds their homes by order, as it always does. Everything else is planted: the directory's rows and auth's, a contact
//! in each home, and a key that signs tokens here. So many sign-ups and log-ins would take a quarter of an hour, and would leave
//! audit entries to seal and events to relay, at which the services would be working while they are measured.
//!
//! One person is a member of all tenants. Sessions, tokens and rights are each tenant's own all the same, and no service
//! remembers anything by person: crm asks auth about each membership and session as it would about strangers'.

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use rowhouse_auth_kit::token::{ACCESS_TOKEN_LIFETIME_MAX_S, ACCESS_TOKEN_TYPE};
use rowhouse_auth_kit::{AccessClaims, SigningKey};
use rowhouse_devkit::caller::Caller;
use rowhouse_devkit::cluster;
use rowhouse_devkit::settings::DATA_SERVER;
use rowhouse_devkit::suite::Suite;
use rowhouse_proto::common::v1::Home;
use rowhouse_types::{ContactId, SessionId, TenantId, UserId};
use uuid::Uuid;

use crate::bench::CONNECTIONS;
use crate::bench::homes::{build, plant};
use crate::bench::orders::Orders;

/// Homes that crm builds at once, where nothing else is said.
const BUILT_AT_ONCE: usize = 3;
/// Tenants in one statement. Each adds one to its server's count, and passes the versions of that row which the statement has
/// left behind.
const PLANTED_AT_ONCE: usize = 500;
/// The issuer that services believe where nothing else is said.
const ISSUER: &str = "rowhouse";
/// The name of the planted key, and what it is made from.
const KEY: &str = "bench";
const SEED: [u8; 32] = [7; 32];

/// A server takes 5,000 where nothing else is said.
const MAKE_ROOM: &str = "UPDATE tenant.servers SET tenants_max = 1000000";

const PUBLISH_KEY: &str = "INSERT INTO auth.signing_keys (kid, public_key, sealed_private_key, state) \
    VALUES ($1, $2, '', 'published')";

const PERSON: &str = "INSERT INTO auth.identities (id, email, display_name, password_hash) \
    VALUES ($1, 'ada@bench.example', 'Ada', '')";

/// A tenant begins as provisioning: the directory admits no other.
const SIGN_UP: &str = "INSERT INTO tenant.tenants (tenant_id, slug, display_name, placement, server, state) \
    SELECT id, 'bench-' || id::text, 'Bench Ltd', 'schema', $2, 'provisioning' FROM unnest($1::uuid[]) AS id";

const ACTIVATE: &str = "UPDATE tenant.tenants SET state = 'active' WHERE tenant_id = ANY ($1)";

const HOUSE: &str = "INSERT INTO tenant.homes (tenant_id, participant, server, placement, generation, version, state) \
    SELECT id, 'crm', $2, 'schema', generation, version, 'active' \
    FROM unnest($1::uuid[], $3::bigint[], $4::integer[]) AS home (id, generation, version)";

const ALLOW: &str = "INSERT INTO auth.tenants (id, display_name, access) \
    SELECT id, 'Bench Ltd', 'allowed' FROM unnest($1::uuid[]) AS id";

const JOIN: &str = "INSERT INTO auth.memberships (tenant_id, identity_id, role) \
    SELECT id, $2, 'tenant_admin' FROM unnest($1::uuid[]) AS id";

/// A session has its tenant's number.
const LOG_IN: &str = "INSERT INTO auth.sessions (id, identity_id, tenant_id, expires_at) \
    SELECT id, $2, id, now() + interval '1 day' FROM unnest($1::uuid[]) AS id";

/// Tenants with homes, each with one contact that has the tenant's number.
pub(super) struct Tenants {
    ids: Vec<TenantId>,
    person: UserId,
    key: SigningKey,
}

/// The person as a member of one tenant.
pub(super) struct Member {
    pub(super) caller: Caller,
    /// The tenant's contact.
    pub(super) contact: String,
}

// === impl Tenants ===

impl Tenants {
    pub(super) async fn plant(suite: &Suite, count: usize) -> Result<Self> {
        let begun = Instant::now();
        let tenants = Self {
            ids: (0..count).map(|_| TenantId::generate()).collect(),
            person: UserId::generate(),
            key: SigningKey::from_seed(&SEED)?,
        };
        let orders = Arc::new(Orders::of(suite)?);
        let homes = build(&tenants.ids, BUILT_AT_ONCE, move |tenant| {
            let orders = Arc::clone(&orders);
            async move { orders.prepare(tenant).await }
        });
        tenants.register(suite, &homes.await?).await?;
        let person = tenants.person.uuid();
        plant(&suite.databases().data_superuser_url(), &tenants.ids, |tenant| {
            let number = tenant.uuid();
            let home = number.simple();
            format!(
                "INSERT INTO t_{home}.contacts (tenant_id, id, display_name, email, phone, company, job_title, owner_id,
                     revision, created_at, updated_at)
                 VALUES ('{number}', '{number}', 'Grace Hopper', 'grace@bench.example', '', '', '', '{person}', 1, now(),
                     now())"
            )
        })
        .await?;
        println!("built {count} homes in {:.0} s", begun.elapsed().as_secs_f64());
        Ok(tenants)
    }

    /// What tenant and auth know of them.
    async fn register(&self, suite: &Suite, homes: &[Home]) -> Result<()> {
        let control = cluster::connect(&suite.databases().control_superuser_url()).await?;
        let person = self.person.uuid();
        control.execute(MAKE_ROOM, &[]).await?;
        let public = self.key.public();
        control
            .execute(PUBLISH_KEY, &[&KEY, &public.bytes().as_slice()])
            .await?;
        control.execute(PERSON, &[&person]).await?;
        for homes in homes.chunks(PLANTED_AT_ONCE) {
            let ids = homes.iter().map(|home| Ok(home.tenant_id.parse::<TenantId>()?.uuid()));
            let ids: Vec<Uuid> = ids.collect::<Result<_>>()?;
            let generations: Vec<i64> = homes.iter().map(|home| home.generation).collect();
            let versions: Vec<i32> = homes.iter().map(|home| home.version).collect();
            control.execute(SIGN_UP, &[&ids, &DATA_SERVER]).await?;
            control.execute(ACTIVATE, &[&ids]).await?;
            control
                .execute(HOUSE, &[&ids, &DATA_SERVER, &generations, &versions])
                .await?;
            control.execute(ALLOW, &[&ids]).await?;
            control.execute(JOIN, &[&ids, &person]).await?;
            control.execute(LOG_IN, &[&ids, &person]).await?;
        }
        control.batch_execute("VACUUM (ANALYZE)").await.context("vacuum")
    }

    /// A member of each of the first `count` tenants, over a few connections, as clients' processes have them.
    ///
    /// Tokens are as long valid as services let them be: a quarter of an hour, longer than a run with its warm-up.
    pub(super) fn members(&self, suite: &Suite, count: usize) -> Result<Vec<Member>> {
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let connections = (0..CONNECTIONS).map(|_| Ok(Caller::anonymous(suite.endpoints()?)));
        let connections: Vec<Caller> = connections.collect::<Result<_>>()?;
        let members = connections.iter().cycle().zip(self.ids.iter().take(count));
        let member = |(connection, tenant): (&Caller, &TenantId)| {
            let number = tenant.uuid();
            let session = SessionId::from_uuid(number);
            let lifetime_s = ACCESS_TOKEN_LIFETIME_MAX_S;
            let claims = AccessClaims::for_session(ISSUER, self.person, session, Some(*tenant), now_s, lifetime_s);
            Ok(Member {
                caller: connection.with_token(&self.key.sign(ACCESS_TOKEN_TYPE, KEY, &claims)?)?,
                contact: ContactId::from_uuid(number).to_string(),
            })
        };
        members.map(member).collect()
    }
}

//! What it saves to keep statements prepared in a database of a tenant's own: `GetContact`'s statement by `TenantTx`, straight to
//! PostgreSQL, without names and with them.

use std::collections::BTreeMap;
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rowhouse_config::Secret;
use rowhouse_config::secret::SecretKey;
use rowhouse_context::{Ctx, Principal, RequestId, ServiceName};
use rowhouse_db::testing::StaticDirectory;
use rowhouse_db::{
    Error, FromRow, Home, Lanes, MasterKeys, Mode, OwnDatabases, Row, Statement, TenantDb, TenantDbConfig, Type,
};
use rowhouse_devkit::cluster;
use rowhouse_devkit::resident::Resident;
use rowhouse_devkit::servers::Login;
use rowhouse_devkit::settings::DATA_SERVER;
use rowhouse_types::{ContactId, HomeState, Placement, TenantId};
use tokio::time::Instant;
use uuid::Uuid;

use super::load::{self, Measured};
use super::tenants::Tenants;
use super::{CALLERS, Figure};

/// Longer than any call takes.
const DEADLINE: Duration = Duration::from_secs(60);
/// Long enough for each connection to have met the statement.
const WARM_UP: Duration = Duration::from_secs(2);

/// What the two lines are called.
const NAMES: [&str; 2] = ["TenantTx, GetContact, unnamed", "TenantTx, GetContact, kept"];

/// A contact's name.
struct Name;

impl FromRow for Name {
    const COLUMNS: &'static [(&'static str, Type)] = &[("display_name", Type::TEXT)];

    fn from_row(row: &Row) -> Result<Self, Error> {
        row.get::<String>("display_name").map(|_| Self)
    }
}

/// crm's own.
const GET: Statement<Name> = Statement::new(
    "contact.get",
    include_str!("../../../../services/crm/src/contact/sql/get.sql"),
    &[Type::UUID, Type::UUID_ARRAY],
);

/// Two lines, of the first of them: unnamed, and kept.
pub(super) async fn figures(resident: &Resident, tenants: &Tenants, duration: Duration) -> Result<[Figure; 2]> {
    let tenant = tenants.tenants.first().context("a tenant")?;
    let member = tenants.members.iter().next().context("a member")?;
    let id = tenant.id.parse::<TenantId>()?;
    let contacts = member
        .contacts
        .iter()
        .map(|contact| Ok(contact.parse::<ContactId>()?.uuid()));
    let contacts: Arc<[Uuid]> = contacts.collect::<Result<_>>()?;
    let unnamed = read(resident, id, &contacts, false, duration).await?;
    let kept = read(resident, id, &contacts, true, duration).await?;
    let [unnamed_name, kept_name] = NAMES;
    Ok([unnamed.figure(unnamed_name, None), kept.figure(kept_name, None)])
}

/// How many times as many calls a second the kept statement makes; none where the two lines are not there.
pub(super) fn ratio(figures: &[Figure]) -> Option<f64> {
    let line = |name| figures.iter().find(|figure| figure.name == name);
    let [unnamed, kept] = NAMES.map(line);
    Some(kept?.per_second / unnamed?.per_second)
}

async fn read(
    resident: &Resident,
    tenant: TenantId,
    contacts: &Arc<[Uuid]>,
    keeps_statements: bool,
    duration: Duration,
) -> Result<Measured> {
    let db = connect(resident, tenant, keeps_statements).await?;
    let contacts = Arc::clone(contacts);
    let get = move |db: TenantDb, number: usize| {
        let contact = contacts.get(number % contacts.len().max(1)).copied();
        async move {
            let principal = Principal::Service { name: ServiceName::Crm };
            let ctx = Ctx::new(
                RequestId::generate(),
                principal,
                Some(tenant),
                Instant::now() + DEADLINE,
            );
            let mut tx = db.begin_single(&ctx, Mode::Read).await?;
            let everybodys: Option<Vec<Uuid>> = None;
            tx.fetch_one(&GET, &[&contact.context("a contact")?, &everybodys])
                .await?;
            Ok(())
        }
    };
    load::repeat(slice::from_ref(&db), CALLERS, WARM_UP, get.clone()).await?;
    let measured = load::repeat(slice::from_ref(&db), CALLERS, duration, get).await;
    db.shutdown().await;
    measured
}

/// As many connections as crm has.
async fn connect(resident: &Resident, tenant: TenantId, keeps_statements: bool) -> Result<TenantDb> {
    let settings = resident.settings();
    let url = settings.servers.login_url(Login::App, cluster::DATA);
    let key = SecretKey::from_base64(settings.data_master_key()).context("a key is 32 bytes of base64")?;
    let config = TenantDbConfig {
        participant: ServiceName::Crm,
        urls: BTreeMap::from([(DATA_SERVER.to_owned(), Secret::new(url))]),
        pool_size_max: 1,
        own_databases: OwnDatabases {
            keeps_statements,
            ..OwnDatabases::default()
        },
        master_keys: MasterKeys::from(key),
        lanes: Lanes::OFF,
        versions: 0..=i32::MAX,
    };
    let home = Home {
        tenant,
        server: DATA_SERVER.parse()?,
        placement: Placement::Database,
        generation: 1,
        version: 1,
        state: HomeState::Active,
        transactions_max: None,
    };
    Ok(TenantDb::connect(config, Arc::new(StaticDirectory::new([home]))).await?)
}

//! T06: tenants with hostile slugs and names sign up at once, in every placement. No two share a schema, a database or a prefix of
//! keys in Redis, and what is refused is refused plainly.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Result, ensure};
use rowhouse_devkit::torture::{Dice, Torture};
use rowhouse_devkit::{cluster, journey};
use rowhouse_proto::common::v1::Placement;
use rowhouse_proto::crm::v1::ListContactsRequest;
use rowhouse_proto::tenant::v1::{CreateTenantRequest, Tenant};
use rowhouse_types::TenantId;
use tokio::task::JoinSet;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use tonic::Code;
use uuid::Uuid;

use crate::support::database;
use crate::support::redis::Keys;
use crate::support::world::World;

/// Sign-ups of a round, in the short form and in the long one: ten rounds make the catalogue's 10,000.
const SIGN_UPS: [usize; 2] = [120, 1_000];

/// Sign-ups at once.
const AT_ONCE: usize = 16;

/// Sign-ups of a round that ask for a database of their own: a good name each, so that each gets one. It takes about a second.
const DATABASES: usize = 3;

/// Tenants in which something is done before Redis is looked at: what they leave there must not have grown old by then.
const LOOKED_AT_ONCE: usize = 50;

/// Length of a tenant's id.
const ID_BYTES: usize = "tenant_".len() + 26;

/// Bytes of a name that PostgreSQL keeps (NAMEDATALEN - 1).
const NAME_BYTES_MAX: usize = 63;

/// What was answered to the sign-ups: each slug's winners, and how many were refused with each code.
#[derive(Default)]
struct Answers {
    winners: BTreeMap<String, Vec<(TenantId, Placement)>>,
    refused: BTreeMap<i32, usize>,
}

// === impl Answers ===

impl Answers {
    fn tenants(&self) -> impl Iterator<Item = (TenantId, Placement)> {
        self.winners.values().flatten().copied()
    }

    /// Those who have a database of their own.
    fn in_databases(&self) -> Vec<TenantId> {
        let own = self
            .tenants()
            .filter(|(_, placement)| *placement == Placement::Database);
        own.map(|(tenant, _)| tenant).collect()
    }
}

/// A slug that somebody has thought about.
///
/// `variety`: how many there are of a kind, so that some are asked for twice.
fn slug(dice: &mut Dice, variety: usize) -> String {
    let number = dice.below(variety);
    match dice.below(9) {
        // Alike up to a byte near the bound, on either side of it.
        0 => format!("{}{number:04}", "a".repeat(56 + dice.below(8))),
        1 => format!("t-{}{number:04}", "b".repeat(54 + dice.below(8))),
        2 => [
            "public",
            "pg_catalog",
            "rowhouse",
            "pooled_01",
            "select",
            "ext",
            "template1",
        ][dice.below(7)]
        .to_owned(),
        3 => format!("acme{number}'; DROP SCHEMA rowhouse CASCADE; --"),
        4 => format!("Acme-{number}"),
        // One letter, composed and decomposed; one that is not seen; one that looks like another.
        5 => [
            "acm\u{e9}",
            "acme\u{301}",
            "ac\u{200b}me",
            "\u{430}cme",
            "acme\0",
            "%s%n",
            "../acme",
        ][dice.below(7)]
        .to_owned(),
        6 => format!(
            "t-{}",
            Uuid::from_u128(u128::try_from(number).unwrap_or_default()).simple()
        ),
        _ => format!("acme-{number}"),
    }
}

fn display_name(dice: &mut Dice) -> String {
    [
        "Robert'); DROP TABLE contacts;--",
        "\u{202e}dtL emcA",
        "{{ 7 * 7 }} <script>alert(1)</script>",
        "=HYPERLINK(\"x\")",
        "nul\0",
        "",
        "\u{1F600}",
        "line\r\nbreak",
    ][dice.below(8)]
    .to_owned()
}

/// What sign-up number `number` asks for. Some ask for the same slug, and some for slugs that are one when they are cut, each
/// with a good name: whatever the dice say, there are some of every kind.
fn ask(dice: &mut Dice, variety: usize, number: usize) -> (String, String) {
    if placement(number) == Placement::Database {
        return (format!("{}{number:04}", "d".repeat(58)), "Acme".to_owned());
    }
    match number % 10 {
        0 => ("acme".to_owned(), "Acme".to_owned()),
        5 => (format!("{}{number:04}", "a".repeat(58)), "Acme".to_owned()),
        _ => (slug(dice, variety), display_name(dice)),
    }
}

fn placement(number: usize) -> Placement {
    if number % 40 == 7 && number < 40 * DATABASES {
        Placement::Database
    } else if number.is_multiple_of(4) {
        Placement::Shared
    } else {
        Placement::Schema
    }
}

async fn sign_up(
    world: &World,
    slug: &str,
    display_name: String,
    number: usize,
) -> Result<(TenantId, Placement), tonic::Status> {
    let placement = placement(number);
    let request = CreateTenantRequest {
        tenant: Some(Tenant {
            slug: slug.to_owned(),
            display_name,
            placement: placement.into(),
            ..Tenant::default()
        }),
        administrator_email: format!("ada-{number}@names.example"),
        request_id: Uuid::new_v4().to_string(),
        ..CreateTenantRequest::default()
    };
    let tenant = world.operator.tenants().create_tenant(request).await?.into_inner();
    // What was asked for, byte by byte.
    assert_eq!(tenant.slug, slug);
    Ok((tenant.id.parse().expect("a tenant's id"), placement))
}

async fn sign_ups(world: &Arc<World>, mut dice: Dice, count: usize) -> Result<Answers> {
    let mut answers = Answers::default();
    let mut running = JoinSet::new();
    let mut begun = 0;
    while begun < count || !running.is_empty() {
        while begun < count && running.len() < AT_ONCE {
            let (number, world) = (begun, world.clone());
            let (slug, name) = ask(&mut dice, count / 3, number);
            running.spawn(async move {
                let answer = sign_up(&world, &slug, name, number).await;
                (slug, answer)
            });
            begun += 1;
        }
        let Some(answered) = running.join_next().await else {
            break;
        };
        match answered? {
            (slug, Ok(tenant)) => answers.winners.entry(slug).or_default().push(tenant),
            (slug, Err(status)) => {
                ensure!(
                    matches!(status.code(), Code::InvalidArgument | Code::AlreadyExists),
                    "{slug:?}: {status:?}"
                );
                *answers.refused.entry(status.code().into()).or_default() += 1;
            }
        }
    }
    Ok(answers)
}

/// Names that become one when PostgreSQL cuts them.
fn collisions<'a>(names: impl Iterator<Item = &'a String>) -> usize {
    let (mut all, mut kept) = (0, BTreeSet::new());
    for name in names {
        all += 1;
        let schema = format!("tenant_{name}");
        kept.insert(schema.get(..NAME_BYTES_MAX).unwrap_or(&schema).to_owned());
    }
    all - kept.len()
}

async fn round(torture: &mut Torture, dice: Dice) -> Result<()> {
    let world = Arc::new(World::start("hostile_names").await?);
    let [short, long] = SIGN_UPS;
    let count = torture.size(short, long);
    let answers = sign_ups(&world, dice, count).await?;
    torture.trials(count);
    for (slug, winners) in &answers.winners {
        ensure!(winners.len() == 1, "{slug} was given {} times", winners.len());
    }
    torture.count("tenants", answers.winners.len());
    for (code, refused) in &answers.refused {
        let name = if *code == i32::from(Code::AlreadyExists) {
            "taken already"
        } else {
            "refused as invalid"
        };
        torture.count(name, *refused);
    }
    ensure!(
        answers.winners.len() > 10 && answers.refused.len() == 2,
        "too few of a kind"
    );

    // Otherwise nothing would have been shared by whoever names schemas after slugs.
    ensure!(
        collisions(answers.winners.keys()) > 0,
        "the slugs are not hostile enough"
    );

    let data = cluster::connect(&world.suite.databases().data_superuser_url()).await?;
    schemas_are_apart(&data, &answers).await?;
    for tenant in answers.in_databases() {
        alone_in_its_database(&world, tenant).await?;
    }
    keys_are_apart(&world, &answers).await?;
    a_shared_schema_is_noticed(&data, &answers).await
}

/// What the data server's registry and its catalogue say of the tenants.
async fn schemas_are_apart(data: &Client, answers: &Answers) -> Result<()> {
    let sql = "SELECT count(*) FILTER (WHERE placement = 'schema'), count(DISTINCT schema_name), count(*),
            (SELECT count(*) FROM pg_namespace WHERE nspname ~ '^t_[0-9a-f]{32}$'),
            (SELECT count(*) FROM rowhouse.homes AS home JOIN rowhouse.houses AS own USING (house_id)
             WHERE own.placement = 'schema' AND own.schema_name <> 't_' || replace(home.tenant_id::text, '-', '')),
            (SELECT count(*) FROM rowhouse.homes),
            (SELECT count(DISTINCT datname) FROM rowhouse.databases JOIN pg_database ON datname = database_name
             WHERE database_name = 't_' || replace(tenant_id::text, '-', ''))
        FROM rowhouse.houses";
    let row = data.query_one(sql, &[]).await?;
    let [own, names, houses, schemas, strange, homes, databases]: [i64; 7] = std::array::from_fn(|at| row.get(at));
    ensure!(names == houses && schemas == own && strange == 0, "{row:?}");
    // Of who has a database of their own, a line stands here too.
    ensure!(usize::try_from(homes)? == answers.tenants().count(), "{homes} homes");
    let in_databases = answers.in_databases().len();
    ensure!(
        in_databases == DATABASES && usize::try_from(databases)? == DATABASES,
        "{databases} databases of {in_databases} tenants"
    );
    Ok(())
}

/// Nobody else lives in a tenant's own database.
async fn alone_in_its_database(world: &World, tenant: TenantId) -> Result<()> {
    let (own, schema) = database::home(world.suite.databases(), Placement::Database, tenant).await?;
    let sql = "SELECT home.tenant_id, house.schema_name, (SELECT count(*) FROM pg_namespace WHERE nspname ~ '^t_[0-9a-f]{32}$')
        FROM rowhouse.homes AS home JOIN rowhouse.houses AS house USING (house_id)";
    let row = own.query_one(sql, &[]).await?;
    let (found, name, schemas): (Uuid, String, i64) = (row.get(0), row.get(1), row.get(2));
    ensure!(found == tenant.uuid() && name == schema && schemas == 1, "{row:?}");
    Ok(())
}

/// The control: the registry refuses to give two tenants one schema, and where it is kept from that, it is seen.
async fn a_shared_schema_is_noticed(data: &Client, answers: &Answers) -> Result<()> {
    let share = "UPDATE rowhouse.houses
        SET schema_name = (SELECT min(schema_name) FROM rowhouse.houses WHERE placement = 'schema')
        WHERE schema_name = (SELECT max(schema_name) FROM rowhouse.houses WHERE placement = 'schema')";
    let refused = data.batch_execute(share).await.err();
    ensure!(
        refused.as_ref().and_then(|error| error.code()) == Some(&SqlState::UNIQUE_VIOLATION),
        "two tenants can be given one schema: {refused:?}"
    );
    let unguarded = format!("BEGIN; ALTER TABLE rowhouse.houses DROP CONSTRAINT houses_schema_name_key; {share}");
    data.batch_execute(&unguarded).await?;
    let seen = schemas_are_apart(data, answers).await;
    data.batch_execute("ROLLBACK").await?;
    ensure!(seen.is_err(), "a schema of two tenants is not noticed");
    schemas_are_apart(data, answers).await
}

/// Something is done in each tenant, and what the services remember of it is its own.
async fn keys_are_apart(world: &World, answers: &Answers) -> Result<()> {
    let prefix = world.suite.redis_prefix();
    let mut redis = Keys::of(&world.suite).await?;
    let tenants: Vec<TenantId> = answers.tenants().map(|(tenant, _)| tenant).collect();
    let mut shared = 0;
    for some in tenants.chunks(LOOKED_AT_ONCE) {
        for tenant in some {
            one_contact(world, *tenant).await?;
        }
        let keys = redis.values().await?;
        let strange = misplaced(prefix, &keys);
        ensure!(strange.is_empty(), "{strange:?}");
        for tenant in some {
            let own = format!("{prefix}:{tenant}:");
            ensure!(
                keys.iter().any(|(name, _)| name.starts_with(&own)),
                "nothing is remembered of {tenant}"
            );
        }
        let without: BTreeSet<_> = keys.iter().filter_map(|(name, _)| behind_owner(prefix, name)).collect();
        shared += keys.len() - without.len();
    }
    // The controls: but for the tenants in them, names of keys would have been the same; and a key in which another tenant stands
    // is noticed, in its name and in its value.
    ensure!(shared > 0, "no two tenants have keys that are alike");
    let [one, other] = [tenants[0], tenants[1]];
    for (name, value) in [
        (format!("{one}:rights:{other}"), "{}".to_owned()),
        (format!("{one}:limits:plan"), format!("{{\"tenant\":\"{other}\"}}")),
        ("acme:limits:plan".to_owned(), "{}".to_owned()),
    ] {
        let planted = [(format!("{prefix}:{name}"), value.clone())];
        redis.plant(&name, &value).await?;
        let found = redis.values().await?.into_iter().filter(|key| planted.contains(key));
        let found: Vec<_> = found.collect();
        ensure!(misplaced(prefix, &found).len() == 1, "not noticed: {planted:?}");
    }
    Ok(())
}

/// The operator adds a contact in a tenant; nobody else's is there.
async fn one_contact(world: &World, tenant: TenantId) -> Result<()> {
    let operator = world.operator.in_tenant(&tenant.to_string(), "a test of names")?;
    let contact = journey::create_contact(&operator, &format!("of {tenant}"), "").await?;
    let listed = operator
        .contacts()
        .list_contacts(ListContactsRequest::default())
        .await?;
    let listed = listed.into_inner().contacts;
    ensure!(listed == [contact], "{tenant}: {listed:?}");
    Ok(())
}

/// A key's name behind its owner.
fn behind_owner<'a>(prefix: &str, name: &'a str) -> Option<&'a str> {
    Some(name.strip_prefix(prefix)?.strip_prefix(':')?.split_once(':')?.1)
}

/// Keys that begin with no tenant's id and are not the platform's, and those in which another tenant stands than the one that they
/// begin with.
fn misplaced(prefix: &str, keys: &[(String, String)]) -> Vec<String> {
    let is_misplaced = |name: &str, value: &str| {
        let own = name.strip_prefix(prefix).and_then(|rest| rest.strip_prefix(':'));
        let Some((owner, rest)) = own.and_then(|rest| rest.split_once(':')) else {
            return true;
        };
        let is_known = owner == "platform" || owner.parse::<TenantId>().is_ok();
        !is_known || tenants_in(rest).chain(tenants_in(value)).any(|tenant| tenant != owner)
    };
    let misplaced = keys.iter().filter(|(name, value)| is_misplaced(name, value));
    misplaced.map(|(name, value)| format!("{name} {value}")).collect()
}

/// The ids of tenants in a text.
fn tenants_in(text: &str) -> impl Iterator<Item = &str> {
    let candidates = text.match_indices("tenant_");
    let candidates = candidates.filter_map(|(at, _)| text.get(at..at + ID_BYTES));
    candidates.filter(|id| id.parse::<TenantId>().is_ok())
}

#[tokio::test]
async fn hostile_names_share_nothing() -> Result<()> {
    let mut torture = Torture::begin("T06", "sign-ups");
    while let Some(dice) = torture.round() {
        round(&mut torture, dice).await?;
    }
    Ok(())
}

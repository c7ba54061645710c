//! T06: tenants with hostile slugs and names sign up at once. No two share a schema, and what is refused is refused plainly.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Result, ensure};
use rowhouse_devkit::cluster;
use rowhouse_devkit::torture::{Dice, Torture};
use rowhouse_proto::common::v1::Placement;
use rowhouse_proto::tenant::v1::{CreateTenantRequest, Tenant};
use rowhouse_types::TenantId;
use tokio::task::JoinSet;
use tonic::Code;
use uuid::Uuid;

use crate::support::world::World;

/// Sign-ups of a round, in the short form and in the long one: ten rounds make the catalogue's 10,000.
const SIGN_UPS: [usize; 2] = [120, 1_000];

/// Sign-ups at once.
const AT_ONCE: usize = 16;

/// Bytes of a name that PostgreSQL keeps (NAMEDATALEN - 1).
const NAME_BYTES_MAX: usize = 63;

/// What was answered to the sign-ups: each slug's winners, and how many were refused with each code.
#[derive(Default)]
struct Answers {
    winners: BTreeMap<String, Vec<TenantId>>,
    refused: BTreeMap<i32, usize>,
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
    match number % 10 {
        0 => ("acme".to_owned(), "Acme".to_owned()),
        5 => (format!("{}{number:04}", "a".repeat(58)), "Acme".to_owned()),
        _ => (slug(dice, variety), display_name(dice)),
    }
}

async fn sign_up(world: &World, slug: &str, display_name: String, number: usize) -> Result<TenantId, tonic::Status> {
    let placement = if number.is_multiple_of(4) {
        Placement::Shared
    } else {
        Placement::Schema
    };
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
    Ok(tenant.id.parse().expect("a tenant's id"))
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

    let data = cluster::connect(&world.suite.databases().data_superuser_url()).await?;
    let sql = "SELECT count(*) FILTER (WHERE placement = 'schema'), count(DISTINCT schema_name), count(*),
            (SELECT count(*) FROM pg_namespace WHERE nspname ~ '^t_[0-9a-f]{32}$'),
            (SELECT count(*) FROM rowhouse.homes AS home JOIN rowhouse.houses AS own USING (house_id)
             WHERE own.placement = 'schema' AND own.schema_name <> 't_' || replace(home.tenant_id::text, '-', '')),
            (SELECT count(*) FROM rowhouse.homes)
        FROM rowhouse.houses";
    let row = data.query_one(sql, &[]).await?;
    let [own, names, houses, schemas, strange, homes]: [i64; 6] = std::array::from_fn(|at| row.get(at));
    ensure!(names == houses && schemas == own && strange == 0, "{row:?}");
    ensure!(usize::try_from(homes)? == answers.winners.len(), "{homes} homes");
    // The control: schemas named after the slugs that were accepted would have been shared.
    ensure!(
        collisions(answers.winners.keys()) > 0,
        "the slugs are not hostile enough"
    );
    Ok(())
}

#[tokio::test]
async fn hostile_names_share_nothing() -> Result<()> {
    let mut torture = Torture::begin("T06", "sign-ups");
    while let Some(dice) = torture.round() {
        round(&mut torture, dice).await?;
    }
    Ok(())
}

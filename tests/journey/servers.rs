//! Two data servers, each a cluster with a PgBouncer of its own: the second is registered while the suite runs, takes what the
//! first does not, and is left by tenants that are purged.

use anyhow::{Result, ensure};
use rowhouse_devkit::settings::{DATA_SERVER, DataServer, SECOND_DATA_SERVER};
use rowhouse_devkit::suite::Options;
use rowhouse_devkit::{cluster, journey};
use rowhouse_proto::common::v1::Placement;
use rowhouse_proto::tenant::v1::{
    ActivateServerRequest, CreateTenantRequest, DeleteTenantRequest, DrainServerRequest, GetServerRequest,
    PurgeTenantRequest, RegisterServerRequest, Server, Tenant, TenantState, UpdateServerRequest,
};
use rowhouse_proto::well_known::FieldMask;
use rowhouse_types::TenantId;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use uuid::Uuid;

use super::main_job::main_job_of;
use crate::support::world::{PLACEMENTS, World, slug_in};

fn registration(name: &str) -> RegisterServerRequest {
    RegisterServerRequest {
        server: Some(Server {
            name: name.to_owned(),
            labels: [("region".to_owned(), "eu".to_owned())].into(),
            ..Server::default()
        }),
    }
}

/// Registers the second data server, in region `eu`.
pub(super) async fn register_second(world: &World) -> Result<()> {
    let request = registration(SECOND_DATA_SERVER);
    world.operator.servers().register_server(request).await?;
    Ok(())
}

/// A tenant to create, without a wish for a server, or in a region.
pub(super) fn creation((placement, slug): (Placement, &str), region: Option<&str>) -> CreateTenantRequest {
    let labels = region.map(|region| ("region".to_owned(), region.to_owned()));
    CreateTenantRequest {
        tenant: Some(Tenant {
            slug: slug.to_owned(),
            display_name: "Acme Ltd".to_owned(),
            placement: placement.into(),
            ..Tenant::default()
        }),
        administrator_email: administrator(slug),
        request_id: Uuid::new_v4().to_string(),
        server_labels: labels.into_iter().collect(),
        ..CreateTenantRequest::default()
    }
}

async fn create(world: &World, placed: (Placement, &str), region: Option<&str>) -> std::result::Result<Tenant, Status> {
    let request = creation(placed, region);
    Ok(world.operator.tenants().create_tenant(request).await?.into_inner())
}

fn administrator(slug: &str) -> String {
    format!("ada@{slug}.example")
}

fn reason_of(status: &Status) -> Option<String> {
    let details = status.get_error_details();
    details.error_info().map(|info| info.reason.clone())
}

/// What a data server's cluster has of a tenant: lines in the registry, of which homes, and schemas, databases and logins of its
/// own.
#[derive(Debug, Default, PartialEq, Eq)]
struct Traces {
    lines: i64,
    homes: i64,
    schemas: i64,
    databases: i64,
    logins: i64,
}

impl Traces {
    async fn of(server: &DataServer, tenant: &Tenant) -> Result<Self> {
        let tenant: TenantId = tenant.id.parse()?;
        let client = cluster::connect(&server.superuser_url()).await?;
        let sql = "SELECT
            (SELECT count(*) FROM rowhouse.homes WHERE tenant_id = $1),
            (SELECT count(*) FROM rowhouse.homes WHERE tenant_id = $1 AND house_id IS NOT NULL),
            (SELECT count(*) FROM pg_namespace WHERE nspname = $2),
            (SELECT count(*) FROM pg_database WHERE datname = $2)
                + (SELECT count(*) FROM rowhouse.databases WHERE tenant_id = $1),
            (SELECT count(*) FROM pg_roles WHERE rolname = $2)";
        let own = format!("t_{}", tenant.uuid().simple());
        let row = client.query_one(sql, &[&tenant.uuid(), &own]).await?;
        Ok(Self {
            lines: row.get(0),
            homes: row.get(1),
            schemas: row.get(2),
            databases: row.get(3),
            logins: row.get(4),
        })
    }

    /// Of a tenant that has lived there: the line keeps its operations in order.
    fn left() -> Self {
        Self {
            lines: 1,
            ..Self::default()
        }
    }

    /// Of a tenant that lives there. The home in a database of its own stands in the registry of that one.
    fn expected(placement: Placement) -> Self {
        let (own_schema, own_database) = (
            i64::from(placement == Placement::Schema),
            i64::from(placement == Placement::Database),
        );
        Self {
            homes: 1 - own_database,
            schemas: own_schema,
            // In the catalogue, and in the registry.
            databases: 2 * own_database,
            logins: own_database,
            ..Self::left()
        }
    }
}

/// A tenant is on the second server and nothing of it is on the first.
pub(super) async fn is_there_alone(world: &World, tenant: &Tenant) -> Result<()> {
    let databases = world.suite.databases();
    let (first, second) = (
        Traces::of(&databases.data_server(DATA_SERVER)?, tenant).await?,
        Traces::of(&databases.data_server(SECOND_DATA_SERVER)?, tenant).await?,
    );
    ensure!(tenant.server == SECOND_DATA_SERVER, "{tenant:?}");
    ensure!(first == Traces::default(), "{first:?}");
    ensure!(second == Traces::expected(tenant.placement()), "{second:?}");
    Ok(())
}

/// The first server takes as many tenants as it has.
async fn fill_first(world: &World) -> Result<()> {
    let mut servers = world.operator.servers();
    let name = DATA_SERVER.to_owned();
    let known = servers.get_server(GetServerRequest { name }).await?.into_inner();
    ensure!(known.tenants == 1, "without a wish it is the emptier one: {known:?}");
    let update = UpdateServerRequest {
        server: Some(Server {
            tenants_max: known.tenants,
            ..known
        }),
        update_mask: Some(FieldMask {
            paths: vec!["tenants_max".to_owned()],
        }),
    };
    servers.update_server(update).await?;
    Ok(())
}

/// Purges a tenant of the second server.
async fn purge(world: &World, tenant: &Tenant) -> Result<()> {
    let (mut tenants, id, reason) = (world.operator.tenants(), tenant.id.clone(), "a test".to_owned());
    let delete = DeleteTenantRequest {
        id: id.clone(),
        reason: reason.clone(),
        ..DeleteTenantRequest::default()
    };
    tenants.delete_tenant(delete).await?;
    let slug = tenant.slug.clone();
    let purged = tenants.purge_tenant(PurgeTenantRequest { id, reason, slug }).await?;
    ensure!(purged.get_ref().state() == TenantState::Purged, "{purged:?}");
    has_left(world, tenant).await
}

/// The second server has a line of a tenant that was purged; the first never had.
pub(super) async fn has_left(world: &World, tenant: &Tenant) -> Result<()> {
    for (server, expected) in [(DATA_SERVER, Traces::default()), (SECOND_DATA_SERVER, Traces::left())] {
        let traces = Traces::of(&world.suite.databases().data_server(server)?, tenant).await?;
        ensure!(traces == expected, "{server}: {traces:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_second_server_is_registered_does_the_main_job_in_every_placement_and_is_left() -> Result<()> {
    let options = Options {
        second_data_server: true,
        ..Options::default()
    };
    let world = World::start_with("servers", options).await?;
    let mut servers = world.operator.servers();
    let stranger = servers.register_server(registration("data9")).await.unwrap_err();
    assert_eq!(stranger.code(), Code::FailedPrecondition);
    assert_eq!(reason_of(&stranger).as_deref(), Some("SERVER_NOT_READY"));
    register_second(&world).await?;

    // By label.
    let mut placed = Vec::new();
    for placement in PLACEMENTS {
        let slug = slug_in(placement, "acme");
        let tenant = create(&world, (placement, &slug), Some("eu")).await?;
        main_job_of(&world, &tenant, &administrator(&slug)).await?;
        is_there_alone(&world, &tenant).await?;
        placed.push(tenant);
    }
    let nowhere = create(&world, (Placement::Schema, "nowhere"), Some("us"))
        .await
        .unwrap_err();
    assert_eq!(reason_of(&nowhere).as_deref(), Some("NO_SERVER_FITS"));

    // By capacity, which decides where nobody has a wish.
    let first = create(&world, (Placement::Schema, "first"), None).await?;
    assert_eq!(first.server, DATA_SERVER);
    fill_first(&world).await?;
    for placement in PLACEMENTS {
        let tenant = create(&world, (placement, &slug_in(placement, "full")), None).await?;
        is_there_alone(&world, &tenant).await?;
        placed.push(tenant);
    }
    let name = SECOND_DATA_SERVER.to_owned();
    let counted = servers
        .get_server(GetServerRequest { name })
        .await?
        .into_inner()
        .tenants;
    assert_eq!(usize::try_from(counted)?, placed.len());

    for tenant in &placed {
        // One in shared tables stays, and notices nothing.
        if tenant.placement() != Placement::Shared && tenant.slug.starts_with("acme") {
            purge(&world, tenant).await?;
        }
    }
    let shared = placed.iter().find(|tenant| tenant.placement() == Placement::Shared);
    let shared = shared.expect("a tenant in every placement");
    let ada = world.log_in(&shared.id, &administrator(&shared.slug)).await?;
    journey::create_contact(&ada.caller, "A Contact", "").await?;

    // Drained, it takes nobody, wish or none.
    let (name, reason) = (SECOND_DATA_SERVER.to_owned(), "a test".to_owned());
    servers.drain_server(DrainServerRequest { name, reason }).await?;
    let late = create(&world, (Placement::Schema, "late"), Some("eu"))
        .await
        .unwrap_err();
    assert_eq!(reason_of(&late).as_deref(), Some("NO_SERVER_FITS"));
    let (name, reason) = (SECOND_DATA_SERVER.to_owned(), "a test".to_owned());
    servers.activate_server(ActivateServerRequest { name, reason }).await?;
    let late = create(&world, (Placement::Schema, "late"), Some("eu")).await?;
    is_there_alone(&world, &late).await
}

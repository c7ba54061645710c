//! The calls that steps make: to every participant's `provision` process and to auth.
//!
//! A participant is one line in `app.rs`; nothing here knows which there are.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use rowhouse_cache::Cache;
use rowhouse_client::Peer;
use rowhouse_context::{Ctx, ServiceName};
use rowhouse_proto::auth::v1 as auth;
use rowhouse_proto::auth::v1::provisioning_service_client::ProvisioningServiceClient;
use rowhouse_proto::common::v1 as common;
use rowhouse_proto::common::v1::tenant_participant_service_client::TenantParticipantServiceClient;
use rowhouse_proto::common::v1::tenant_records_service_client::TenantRecordsServiceClient;
use rowhouse_status::Failure;
use rowhouse_types::{HomeState, Placement, ServerName, TenantId};
use tokio::time::sleep;
use tonic::{Response, Status};

use super::Held;
use crate::directory::Home;
use crate::plan::store::Due;
use crate::purge::Removal;
use crate::spare::Stock;
use crate::tenant::wire::placement_to_wire;

/// Pause before a keeper is asked again that has just removed nothing: it passes over records that somebody else is changing,
/// which takes milliseconds.
const KEEPER_PAUSE: Duration = Duration::from_millis(100);

/// The other services, as operations need them.
#[derive(Clone, Debug)]
pub(crate) struct Peers {
    auth: Peer,
    participants: BTreeMap<ServiceName, Peer>,
    keepers: BTreeMap<ServiceName, Peer>,
    cache: Cache,
}

/// What auth shall do with a tenant's members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// They may act.
    Allowed,
    /// Nobody may.
    Suspended,
}

/// What is asked of every participant.
#[derive(Clone, Copy, Debug)]
enum Order {
    Prepare,
    Freeze,
    Restrict,
    Thaw,
}

// === impl Peers ===

impl Peers {
    /// `participants`: the `provision` processes of the services that hold tenants' data. `keepers`: the services that keep
    /// records of tenants outside their homes. `cache`: where all of them keep values of tenants.
    pub(crate) fn new(
        auth: Peer,
        participants: BTreeMap<ServiceName, Peer>,
        keepers: BTreeMap<ServiceName, Peer>,
        cache: Cache,
    ) -> Self {
        Self {
            auth,
            participants,
            keepers,
            cache,
        }
    }

    /// Every participant builds a home ahead, or brings the one that it has built to its newest version.
    ///
    /// `tenant`: who is to have it. `stock`: where.
    pub(crate) async fn prepare_spare(&self, ctx: &Ctx, tenant: TenantId, stock: &Stock) -> Result<(), Failure> {
        let calls = self.participants.iter().map(|(name, peer)| async move {
            let request = common::PrepareSpareRequest {
                tenant_id: tenant.to_string(),
                server: stock.server.to_string(),
                placement: placement_to_wire(stock.placement).into(),
            };
            let mut client = TenantParticipantServiceClient::new(peer.channel());
            let answer = client.prepare_spare(rowhouse_client::request(ctx, request)).await;
            let home = answer.map_err(rowhouse_client::failure)?.into_inner();
            if home.tenant_id != tenant.to_string() || home.state() != common::HomeState::Spare {
                return Err(Failure::internal(format!(
                    "{name} answered with another home than the spare"
                )));
            }
            Ok(())
        });
        join_all(calls).await.into_iter().collect()
    }

    /// The services that hold tenants' data.
    pub(crate) fn participants(&self) -> impl Iterator<Item = ServiceName> {
        self.participants.keys().copied()
    }

    /// A participant's `provision` process.
    pub(crate) fn participant(&self, name: ServiceName) -> Option<&Peer> {
        self.participants.get(&name)
    }

    /// Every participant makes the tenant's home ready.
    pub(crate) async fn prepare(&self, ctx: &Ctx, held: &Held) -> Result<Vec<Home>, Failure> {
        self.order(ctx, held, Order::Prepare).await
    }

    /// Every participant closes the tenant's home, and answers when no older transaction is left.
    pub(crate) async fn freeze(&self, ctx: &Ctx, held: &Held) -> Result<Vec<Home>, Failure> {
        self.order(ctx, held, Order::Freeze).await
    }

    /// Every participant refuses writes to the tenant's home, and answers when no older transaction is left.
    pub(crate) async fn restrict(&self, ctx: &Ctx, held: &Held) -> Result<Vec<Home>, Failure> {
        self.order(ctx, held, Order::Restrict).await
    }

    /// Every participant opens the tenant's home.
    pub(crate) async fn thaw(&self, ctx: &Ctx, held: &Held) -> Result<Vec<Home>, Failure> {
        self.order(ctx, held, Order::Thaw).await
    }

    /// Every participant drops the tenant's home; answers what became of the logins where it had a database of its own.
    pub(crate) async fn drop_homes(&self, ctx: &Ctx, held: &Held) -> Result<Vec<Removal>, Failure> {
        let calls = self.participants.iter().map(|(name, peer)| async move {
            let request = common::DropRequest {
                tenant_id: held.tenant.to_string(),
                server: held.server.to_string(),
            };
            let mut client = TenantParticipantServiceClient::new(peer.channel());
            let answer = client.drop(rowhouse_client::request(ctx, request)).await;
            let is_left = answer.map_err(rowhouse_client::failure)?.into_inner().login_left;
            let kind = if is_left { "logins_left" } else { "logins" };
            Ok((held.placement == Placement::Database).then(|| Removal {
                holder: name.to_string(),
                kind: kind.to_owned(),
                count: 1,
            }))
        });
        let logins: Result<Vec<_>, Failure> = join_all(calls).await.into_iter().collect();
        Ok(logins?.into_iter().flatten().collect())
    }

    /// Every keeper removes its records of the tenant; answers what they were, those of earlier calls included.
    pub(crate) async fn erase(&self, ctx: &Ctx, held: &Held) -> Result<Vec<Removal>, Failure> {
        let calls = self.keepers.iter().map(|(name, peer)| async move {
            let mut client = TenantRecordsServiceClient::new(peer.channel());
            let mut before = 0;
            loop {
                let request = common::PurgeRecordsRequest {
                    tenant_id: held.tenant.to_string(),
                    operation_id: held.id.to_string(),
                };
                let answer = client.purge_records(rowhouse_client::request(ctx, request)).await;
                let answer = answer.map_err(rowhouse_client::failure)?.into_inner();
                if answer.done {
                    return Ok(answer.removed.into_iter().map(|records| Removal {
                        holder: name.to_string(),
                        kind: records.kind,
                        count: records.count,
                    }));
                }
                let so_far: i64 = answer.removed.iter().map(|records| records.count).sum();
                if so_far <= before {
                    sleep(KEEPER_PAUSE).await;
                }
                before = so_far;
            }
        });
        let removed: Result<Vec<_>, Failure> = join_all(calls).await.into_iter().collect();
        Ok(removed?.into_iter().flatten().collect())
    }

    /// The tenant's keys go from Redis.
    pub(crate) async fn forget(&self, held: &Held) -> Result<Vec<Removal>, Failure> {
        let count = self.cache.purge(held.tenant).await;
        let count = count.ok_or_else(|| Failure::unavailable("cache", "Redis did not remove the tenant's keys"))?;
        Ok(vec![Removal {
            holder: "cache".to_owned(),
            kind: "keys".to_owned(),
            count: i64::try_from(count).unwrap_or(i64::MAX),
        }])
    }

    /// auth makes the tenant known and invites its first administrator.
    pub(crate) async fn invite(&self, ctx: &Ctx, held: &Held) -> Result<(), Failure> {
        let email = held.administrator.clone();
        let email = email.ok_or_else(|| Failure::internal("the operation has lost its administrator's address"))?;
        let request = auth::CreateFirstAdministratorRequest {
            tenant_id: held.tenant.to_string(),
            tenant_display_name: held.display_name.clone(),
            email,
            operation_id: held.id.to_string(),
        };
        let mut client = ProvisioningServiceClient::new(self.auth.channel());
        let answer = client
            .create_first_administrator(rowhouse_client::request(ctx, request))
            .await;
        answer.map(drop).map_err(rowhouse_client::failure)
    }

    /// auth allows or refuses the tenant's members; it answers when no service honours the old state any more.
    pub(crate) async fn set_access(&self, ctx: &Ctx, held: &Held, access: Access) -> Result<(), Failure> {
        let access = match access {
            Access::Allowed => auth::TenantAccess::Allowed,
            Access::Suspended => auth::TenantAccess::Suspended,
        };
        let request = auth::SetTenantStateRequest {
            tenant_id: held.tenant.to_string(),
            access: access.into(),
            operation_id: held.id.to_string(),
        };
        let mut client = ProvisioningServiceClient::new(self.auth.channel());
        let answer = client.set_tenant_state(rowhouse_client::request(ctx, request)).await;
        answer.map(drop).map_err(rowhouse_client::failure)
    }

    /// A participant keeps a tenant's statement timeout.
    pub(crate) async fn set_limits(&self, ctx: &Ctx, due: &Due) -> Result<(), Failure> {
        let peer = self.participants.get(&due.participant);
        let peer = peer.ok_or_else(|| Failure::internal(format!("{} is no participant", due.participant)))?;
        let request = common::SetLimitsRequest {
            tenant_id: due.tenant.to_string(),
            server: due.server.to_string(),
            order_id: due.order.to_string(),
            statement_timeout_ms: due.statement_timeout_ms,
        };
        let mut client = TenantParticipantServiceClient::new(peer.channel());
        let answer = client.set_limits(rowhouse_client::request(ctx, request)).await;
        answer.map(drop).map_err(rowhouse_client::failure)
    }

    /// Every participant can build homes on a data server.
    ///
    /// # Errors
    /// What the first that cannot says.
    pub(crate) async fn check_server(&self, ctx: &Ctx, server: &ServerName) -> Result<(), Failure> {
        let calls = self.participants.values().map(|peer| async move {
            let request = common::CheckServerRequest {
                server: server.to_string(),
            };
            let mut client = TenantParticipantServiceClient::new(peer.channel());
            let answer = client.check_server(rowhouse_client::request(ctx, request)).await;
            answer.map(drop).map_err(rowhouse_client::failure)
        });
        join_all(calls).await.into_iter().collect()
    }

    /// Asks all participants at once. Each is waited for even where another has failed, so that a participant that is
    /// away keeps no other from closing.
    async fn order(&self, ctx: &Ctx, held: &Held, order: Order) -> Result<Vec<Home>, Failure> {
        let calls = self.participants.iter().map(|(name, peer)| async move {
            let answer = call(peer, ctx, held, order).await.map_err(rowhouse_client::failure)?;
            read(held, *name, &answer.into_inner())
        });
        join_all(calls).await.into_iter().collect()
    }
}

async fn call(peer: &Peer, ctx: &Ctx, held: &Held, order: Order) -> Result<Response<common::Home>, Status> {
    let mut client = TenantParticipantServiceClient::new(peer.channel());
    let (tenant_id, server) = (held.tenant.to_string(), held.server.to_string());
    let operation_id = held.id.to_string();
    match order {
        Order::Prepare => {
            let request = common::PrepareRequest {
                tenant_id,
                server,
                placement: placement_to_wire(held.placement).into(),
                operation_id,
            };
            client.prepare(rowhouse_client::request(ctx, request)).await
        }
        Order::Freeze => {
            let request = common::FreezeRequest {
                tenant_id,
                server,
                operation_id,
            };
            client.freeze(rowhouse_client::request(ctx, request)).await
        }
        Order::Restrict => {
            let request = common::RestrictRequest {
                tenant_id,
                server,
                operation_id,
            };
            client.restrict(rowhouse_client::request(ctx, request)).await
        }
        Order::Thaw => {
            let request = common::ThawRequest {
                tenant_id,
                server,
                operation_id,
            };
            client.thaw(rowhouse_client::request(ctx, request)).await
        }
    }
}

/// Reads a participant's answer; one that speaks of another tenant is a fault that must not reach the directory.
fn read(held: &Held, participant: ServiceName, home: &common::Home) -> Result<Home, Failure> {
    let fault = |what: &str| Failure::internal(format!("{participant} answered with a wrong {what}"));
    if home.tenant_id != held.tenant.to_string() {
        return Err(fault("tenant"));
    }
    if home.participant != participant.as_str() {
        return Err(fault("participant"));
    }
    Ok(Home {
        tenant: held.tenant,
        participant,
        server: home.server.parse().map_err(|_| fault("server"))?,
        placement: match home.placement() {
            common::Placement::Schema => Placement::Schema,
            common::Placement::Shared => Placement::Shared,
            common::Placement::Database => Placement::Database,
            common::Placement::Unspecified => return Err(fault("placement")),
        },
        generation: home.generation,
        version: home.version,
        state: match home.state() {
            common::HomeState::Active => HomeState::Active,
            common::HomeState::ReadOnly => HomeState::ReadOnly,
            common::HomeState::Frozen => HomeState::Frozen,
            common::HomeState::Spare | common::HomeState::Unspecified => return Err(fault("state")),
        },
        transactions_max: None,
    })
}

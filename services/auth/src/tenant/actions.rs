//! What provisioning does to a tenant here.

use rowhouse_context::Ctx;
use rowhouse_types::{InvitationId, TenantId};
use serde_json::json;
use sqlx::PgConnection;

use super::{Access, AccessChange, Applied, Founding, store};
use crate::audit::{self, Entry};
use crate::error::Error;
use crate::invitation::{self, Draft};
use crate::rights::{self, Subject, Version};
use crate::role::TenantRole;
use crate::state::State;

/// Makes a tenant known and invites its first administrator; the same operation again answers the same invitation.
pub(crate) async fn create_first_administrator(
    ctx: &Ctx,
    state: &State,
    founding: &Founding,
) -> Result<InvitationId, Error> {
    let mut tx = state.begin().await?;
    store::know(&mut tx, founding.tenant).await?;
    // The lock makes a repeated call wait for the first one, and then find its invitation.
    let known = store::lock(&mut tx, founding.tenant).await?;
    known.ok_or_else(|| gone(founding.tenant))?;
    if let Some((invitation, tenant)) = invitation::of_operation(&mut tx, founding.operation).await? {
        return if tenant == founding.tenant {
            Ok(invitation)
        } else {
            Err(Error::OperationReused)
        };
    }
    store::set_name(&mut tx, founding.tenant, founding.name.as_str()).await?;
    let draft = Draft {
        id: InvitationId::generate(),
        tenant: founding.tenant,
        email: &founding.email,
        role: &TenantRole::ADMINISTRATOR,
        invited_by: None,
        operation: Some(founding.operation),
    };
    let sent = invitation::issue(&mut tx, ctx, state, &draft).await?;
    tx.commit().await?;
    state.wake.notify();
    Ok(sent.id)
}

/// Allows or refuses a tenant, and answers when no service honours the old state.
pub(crate) async fn set_access(ctx: &Ctx, state: &State, change: &AccessChange) -> Result<Version, Error> {
    let mut tx = state.begin().await?;
    let applied = lock_known(&mut tx, change.tenant).await?;
    if !applied.is_followed_by(change.operation) {
        tx.rollback().await?;
        // The first call may still be waiting, or may have lost its answer: this one waits as long.
        let version = Version(applied.version);
        state.clock.acknowledge(ctx, version).await?;
        return Ok(version);
    }
    let entry = Entry::new("tenant.set_access", change.tenant)
        .within(Some(change.tenant))
        .before(json!({ "access": applied.access.as_str() }))
        .after(json!({ "access": change.access.as_str(), "operation": change.operation.to_string() }));
    audit::record(&mut tx, ctx, entry).await?;
    let version = rights::bump(&mut tx, &[Subject::Tenant(change.tenant)]).await?;
    // The tenant's row is locked already, so this waits for nobody while it holds the clock.
    store::set_access(&mut tx, change, version).await?;
    tx.commit().await?;
    // A tenant that opens for the first time takes nothing from anyone: at worst a service refuses it until its next
    // renewal. Signing up would otherwise wait for every holder of a lease.
    let opens = applied.access == Access::Pending && change.access == Access::Allowed;
    if !opens {
        state.clock.acknowledge(ctx, version).await?;
    }
    Ok(version)
}

/// Locks a tenant, which is known by now unless its access is set before anybody was invited to it.
async fn lock_known(conn: &mut PgConnection, tenant: TenantId) -> Result<Applied, Error> {
    if let Some(applied) = store::lock(conn, tenant).await? {
        return Ok(applied);
    }
    store::know(conn, tenant).await?;
    store::lock(conn, tenant).await?.ok_or_else(|| gone(tenant))
}

/// The tenant was purged.
fn gone(tenant: TenantId) -> Error {
    Error::NotFound {
        kind: "tenant",
        id: tenant.to_string(),
    }
}

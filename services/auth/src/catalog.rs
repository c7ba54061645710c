//! The catalogue of permissions: a table that is generated from the protos, and nothing of a tenant.

mod rpc;

use rowhouse_auth_kit::{Grant, Permission, Scope};
use rowhouse_proto::policy::PERMISSIONS;

pub(crate) use rpc::CatalogRpc;

/// Whether a grant gives anything that a role of a tenant can give. One that gives nothing is a mistake: of spelling, or a
/// scope behind what has none.
pub(crate) fn gives_something(grant: &Grant) -> bool {
    let mut of_tenants = PERMISSIONS.iter().filter(|known| known.of_tenants);
    of_tenants.any(|known| {
        let reaches = known.scoped || grant.scope() == Scope::All;
        reaches && Permission::try_from(known.name).is_ok_and(|permission| grant.allows(permission))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_gives_nothing_in_a_tenant_is_told_from_what_does() {
        let gives = |text: &str| gives_something(&text.parse().unwrap());
        for something in [
            "contacts:read",
            "contacts:*@own",
            "reports:read@team",
            "*:read",
            "*:read@own",
            "*:*",
            "roles:create",
        ] {
            assert!(gives(something), "{something}");
        }
        for nothing in [
            "contact:read",
            "contacts:fly",
            "tenants:create",
            "servers:*",
            "*:purge",
            "members:*@team",
            "roles:read@own",
        ] {
            assert!(!gives(nothing), "{nothing}");
        }
    }
}

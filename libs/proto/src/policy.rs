//! What each RPC needs of its caller: a table generated from the method options in `proto/`.

/// Who an RPC is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Audience {
    /// Anyone, without a token.
    Public,
    /// A tenant's member, or a platform operator who names the tenant.
    Tenant,
    /// A platform operator.
    Platform,
    /// Another service of the suite, on the internal listener.
    Internal,
    /// Anyone with a valid token, about themselves.
    OneSelf,
}

/// The policy of one RPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The RPC as HTTP/2 path: `/package.Service/Method`.
    pub path: &'static str,
    /// Who may call at all.
    pub audience: Audience,
    /// Permission needed, as `resource:action`.
    pub permission: Option<&'static str>,
    /// For internal RPCs: which services may call.
    pub callers: &'static [&'static str],
    /// Whether an operator who acts as a member is refused.
    pub refuses_impersonation: bool,
}

/// The policies of all RPCs of the suite, by path in ascending order within a service.
pub const POLICIES: &[Policy] = include!(concat!(env!("OUT_DIR"), "/policy_table.rs"));

/// What somebody may be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permission {
    /// `resource:action`.
    pub name: &'static str,
    /// What who holds it may do.
    pub description: &'static str,
    /// Whether roles of tenants can give it; others are for platform operators.
    pub of_tenants: bool,
    /// Whether it is about records that have an owner, so that it can be given for some of them only.
    pub scoped: bool,
    /// The RPCs that need it, as `package.Service/Method`.
    pub rpcs: &'static [&'static str],
}

/// The permissions of the suite, by name in ascending order.
pub const PERMISSIONS: &[Permission] = include!(concat!(env!("OUT_DIR"), "/permission_table.rs"));

/// Finds what is known of a permission, by its name.
#[must_use]
pub fn permission(name: &str) -> Option<&'static Permission> {
    let at = PERMISSIONS
        .binary_search_by(|permission| permission.name.cmp(name))
        .ok()?;
    PERMISSIONS.get(at)
}

/// Finds the policy of an RPC.
///
/// `path`: the HTTP/2 path, `/package.Service/Method`. `None` for anything that is not an RPC of the suite; callers
/// must then refuse.
#[must_use]
pub fn find(path: &str) -> Option<&'static Policy> {
    POLICIES.iter().find(|policy| policy.path == path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rpc_in_the_descriptors_has_exactly_one_policy() {
        let pool = prost_reflect::DescriptorPool::decode(crate::FILE_DESCRIPTOR_SET).unwrap();
        let mut paths: Vec<String> = pool
            .services()
            .flat_map(|service| service.methods().collect::<Vec<_>>())
            .map(|method| format!("/{}/{}", method.parent_service().full_name(), method.name()))
            .collect();
        let mut known: Vec<&str> = POLICIES.iter().map(|policy| policy.path).collect();
        paths.sort();
        known.sort_unstable();
        assert_eq!(paths, known);
    }

    #[test]
    fn every_permission_that_an_rpc_needs_is_in_the_catalogue_and_no_other() {
        let mut needed: Vec<&str> = POLICIES.iter().filter_map(|policy| policy.permission).collect();
        needed.sort_unstable();
        needed.dedup();
        let known: Vec<&str> = PERMISSIONS.iter().map(|permission| permission.name).collect();
        assert_eq!(needed, known);
        for permission in PERMISSIONS {
            assert!(permission.description.ends_with('.'), "{permission:?}");
            assert!(!permission.rpcs.is_empty(), "{permission:?}");
        }
        let of_tenants = |name| permission(name).unwrap().of_tenants;
        assert!(of_tenants("contacts:export") && !of_tenants("tenants:create"));
        let scoped = |name| permission(name).unwrap().scoped;
        assert!(scoped("contacts:export") && !scoped("members:read"));
    }

    #[test]
    fn an_unknown_path_has_no_policy() {
        assert_eq!(find("/rowhouse.crm.v1.ContactService/GetContact2"), None);
        assert_eq!(find("rowhouse.crm.v1.ContactService/GetContact"), None);
    }
}

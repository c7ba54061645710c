//! Keys that name their owner.

use rowhouse_types::TenantId;

/// A key of the cache. It cannot be made without saying whose it is, so that two tenants never share one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    tenant: Option<TenantId>,
    name: String,
}

// === impl Key ===

impl Key {
    /// A tenant's key.
    ///
    /// `kind`: what is kept, such as `rights`. `name`: which of that kind; any text.
    #[must_use]
    pub fn tenant(tenant: TenantId, kind: &'static str, name: &str) -> Self {
        Self {
            tenant: Some(tenant),
            // The kind has no colon, so what follows the first one is the name, whatever it holds.
            name: format!("{tenant}:{kind}:{name}"),
        }
    }

    /// A key of the platform: nobody's tenant.
    ///
    /// `kind` and `name` as for [`Key::tenant`].
    #[must_use]
    pub fn platform(kind: &'static str, name: &str) -> Self {
        Self {
            tenant: None,
            name: format!("platform:{kind}:{name}"),
        }
    }

    /// The tenant whose key this is.
    #[must_use]
    pub fn owner(&self) -> Option<TenantId> {
        self.tenant
    }

    /// What the keys of a tenant match, and no other: a glob of Redis, in which the prefix stands for itself.
    pub(crate) fn pattern(prefix: &str, tenant: TenantId) -> String {
        let mut pattern = String::with_capacity(prefix.len() + 40);
        for c in prefix.chars() {
            if matches!(c, '*' | '?' | '[' | ']' | '^' | '\\') {
                pattern.push('\\');
            }
            pattern.push(c);
        }
        format!("{pattern}:{tenant}:*")
    }

    /// The key in Redis, behind the prefix of one deployment.
    pub(crate) fn full(&self, prefix: &str) -> String {
        format!("{prefix}:{}", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_pose_as_another_tenants_key() {
        let (one, two) = (TenantId::generate(), TenantId::generate());
        let posing = Key::tenant(one, "rights", &format!("x:{two}:rights:y"));
        assert_ne!(posing.full("p"), Key::tenant(two, "rights", "y").full("p"));
        assert!(posing.full("p").starts_with(&format!("p:{one}:rights:")));
        assert_eq!(posing.owner(), Some(one));
    }

    #[test]
    fn the_platform_is_nobodys_tenant() {
        let key = Key::platform("keys", "jwks");
        assert_eq!((key.owner(), key.full("p").as_str()), (None, "p:platform:keys:jwks"));
    }
}

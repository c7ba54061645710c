//! Rights as they are kept: in memory, and in Redis to save the refill.

use rowhouse_auth_kit::Grants;
use rowhouse_cache::Key;
use rowhouse_context::Impersonator;
use rowhouse_proto::auth::v1 as proto;
use rowhouse_types::{SessionId, TenantId, UserId};
use serde::{Deserialize, Serialize};

use crate::rights::{Rights, RightsQuery, Standing};

/// Rights in Redis. They name whose they are, and that is compared on reading: a key alone is not believed.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StoredRights {
    user: UserId,
    session: Option<SessionId>,
    tenant: Option<TenantId>,
    platform: bool,
    /// Missing in what was stored before keys were revoked: then it is not read.
    key: String,
    version: i64,
    standing: Standing,
    roles: Vec<String>,
    permissions: Vec<String>,
    /// Missing in what was stored before there were teams: then it is not read.
    team: Vec<UserId>,
    /// The operator who acts as the person, and their session.
    #[serde(default)]
    by: Option<(UserId, SessionId)>,
}

/// The key in Redis: the tenant's own where there is one.
pub(crate) fn key(query: &RightsQuery) -> Key {
    let session = query.session.map(|session| session.to_string());
    let session = session.as_deref().unwrap_or("-");
    let side = if query.platform { "p" } else { "m" };
    let (operator, origin) = by_texts(query);
    let name = format!(
        "{}/{session}/{side}/{}/{operator}/{origin}",
        query.user,
        key_text(query)
    );
    match query.tenant {
        Some(tenant) => Key::tenant(tenant, "rights", &name),
        None => Key::platform("rights", &name),
    }
}

/// The ids of the operator who acts as the person and of their own session; empty for none.
fn by_texts(query: &RightsQuery) -> (String, String) {
    let texts = query.by.map(|by| (by.operator.to_string(), by.session.to_string()));
    texts.unwrap_or_default()
}

/// The id of the key; empty for none.
fn key_text(query: &RightsQuery) -> String {
    query.key.map(|key| key.to_string()).unwrap_or_default()
}

// === impl StoredRights ===

impl StoredRights {
    pub(crate) fn new(query: &RightsQuery, rights: &Rights) -> Self {
        Self {
            user: query.user,
            session: query.session,
            tenant: query.tenant,
            platform: query.platform,
            key: key_text(query),
            version: rights.version,
            standing: rights.standing,
            roles: rights.roles.clone(),
            permissions: rights.grants.to_strings(),
            team: rights.team.iter().collect(),
            by: query.by.map(|by| (by.operator, by.session)),
        }
    }

    /// The rights, if they are those of `query`.
    pub(crate) fn open(self, query: &RightsQuery) -> Option<Rights> {
        let whose = RightsQuery {
            user: self.user,
            session: self.session,
            tenant: self.tenant,
            platform: self.platform,
            key: query.key,
            by: self.by.map(|(operator, session)| Impersonator { operator, session }),
        };
        (whose == *query && self.key == key_text(query)).then(|| Rights {
            version: self.version,
            standing: self.standing,
            roles: self.roles,
            grants: Grants::read(self.permissions),
            team: self.team.into_iter().collect(),
        })
    }
}

// === impl Rights ===

impl From<proto::Rights> for Rights {
    fn from(answer: proto::Rights) -> Self {
        let standing = match answer.standing() {
            proto::Standing::Good => Standing::Good,
            proto::Standing::TenantSuspended => Standing::TenantSuspended,
            proto::Standing::TenantUnknown => Standing::TenantUnknown,
            proto::Standing::SecondFactorNotShown => Standing::SecondFactorNotShown,
            proto::Standing::KeyRevoked => Standing::KeyRevoked,
            // A standing that we do not know is none.
            proto::Standing::Revoked | proto::Standing::Unspecified => Standing::Revoked,
        };
        Self {
            version: answer.version,
            standing,
            grants: Grants::read(&answer.permissions),
            // Who cannot be read is not reached.
            team: answer.team_user_ids.iter().filter_map(|id| id.parse().ok()).collect(),
            roles: answer.roles,
        }
    }
}

impl RightsQuery {
    pub(crate) fn to_message(self) -> proto::GetRightsRequest {
        let (operator_id, operator_session_id) = by_texts(&self);
        proto::GetRightsRequest {
            user_id: self.user.to_string(),
            session_id: self.session.map(|session| session.to_string()).unwrap_or_default(),
            tenant_id: self.tenant.map(|tenant| tenant.to_string()).unwrap_or_default(),
            platform: self.platform,
            key_id: key_text(&self),
            operator_id,
            operator_session_id,
        }
    }
}

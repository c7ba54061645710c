//! The claims of an access token.

use rowhouse_context::{Impersonator, Principal, ServiceName};
use rowhouse_types::{SessionId, TenantId, UserId};
use serde::{Deserialize, Deserializer, Serialize};

use crate::jws::Times;
use crate::token::ACCESS_TOKEN_AUDIENCE;

/// The claims of an access token. Four shapes are valid, and no mixture of them:
///
/// - a member: `tenant` and `sid`;
/// - a platform operator: `sid`, no `tenant`;
/// - a platform operator as a member: `tenant` and `sid`, and `act` with the operator and their own session;
/// - a service working for a user: `tenant`, `act` and `job`, no `sid`; `platform` where the user is an operator.
///
/// Claims that are not listed here are ignored, so that auth may add some before all services know them (RFC 7519,
/// section 4). A claim given twice is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessClaims {
    /// Issuer.
    pub iss: String,
    /// Audience: one text, never a list.
    pub aud: String,
    /// The person.
    pub sub: UserId,
    /// The tenant that the token is for.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantId>,
    /// The log-in.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub sid: Option<SessionId>,
    /// Who acts for `sub` (RFC 8693, section 4.1): a service, or a platform operator.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub act: Option<Actor>,
    /// The job that the service acts for.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// In delegated tokens: the user is a platform operator.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub platform: bool,
    /// Issued at, in seconds since 1970.
    pub iat: u64,
    /// Not before, in seconds since 1970.
    pub nbf: u64,
    /// Expires, in seconds since 1970.
    pub exp: u64,
    /// Id of the token.
    pub jti: String,
}

/// Who acts for the subject.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Actor {
    /// Name of the service, or id of the operator.
    pub sub: String,
    /// The operator's own log-in.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub sid: Option<SessionId>,
}

/// Reads a claim that is there. `null` is refused: left out and null must not be two ways to say one thing.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

// === impl AccessClaims ===

impl AccessClaims {
    /// The claims of a person's log-in: a member where `tenant` is given, else a platform operator.
    ///
    /// `issued_at_s`: in seconds since 1970. `lifetime_s`: in seconds.
    #[must_use]
    pub fn for_session(
        issuer: &str,
        user: UserId,
        session: SessionId,
        tenant: Option<TenantId>,
        issued_at_s: u64,
        lifetime_s: u64,
    ) -> Self {
        Self {
            tenant,
            sid: Some(session),
            ..Self::bare(issuer, user, issued_at_s, lifetime_s)
        }
    }

    /// The claims of a platform operator who acts as a member, in a session that was opened for that.
    #[must_use]
    pub fn for_impersonation(
        issuer: &str,
        (user, session): (UserId, SessionId),
        tenant: TenantId,
        by: Impersonator,
        issued_at_s: u64,
        lifetime_s: u64,
    ) -> Self {
        Self {
            act: Some(Actor {
                sub: by.operator.to_string(),
                sid: Some(by.session),
            }),
            ..Self::for_session(issuer, user, session, Some(tenant), issued_at_s, lifetime_s)
        }
    }

    /// The claims of a service that works on a job for a user. `operator`: whether the user is a platform operator.
    #[must_use]
    pub fn for_job(
        issuer: &str,
        (user, operator): (UserId, bool),
        tenant: TenantId,
        (service, job): (ServiceName, &str),
        issued_at_s: u64,
        lifetime_s: u64,
    ) -> Self {
        Self {
            tenant: Some(tenant),
            act: Some(Actor {
                sub: service.as_str().to_owned(),
                sid: None,
            }),
            job: Some(job.to_owned()),
            platform: operator,
            ..Self::bare(issuer, user, issued_at_s, lifetime_s)
        }
    }

    /// Whom the claims speak for; `None` for a mixture of shapes.
    #[must_use]
    pub fn principal(&self) -> Option<Principal> {
        if self.jti.is_empty() {
            return None;
        }
        match (self.tenant, self.sid, &self.act, &self.job, self.platform) {
            (Some(tenant), Some(session), None, None, false) => Some(Principal::Member {
                user: self.sub,
                session,
                tenant,
            }),
            (None, Some(session), None, None, false) => Some(Principal::Operator {
                user: self.sub,
                session,
            }),
            (Some(tenant), Some(session), Some(actor), None, false) => Some(Principal::Impersonated {
                user: self.sub,
                session,
                tenant,
                by: Impersonator {
                    operator: actor.sub.parse().ok()?,
                    session: actor.sid?,
                },
            }),
            (Some(tenant), None, Some(Actor { sub, sid: None }), Some(job), operator) if !job.is_empty() => {
                Some(Principal::Delegate {
                    user: self.sub,
                    tenant,
                    operator,
                    service: sub.parse().ok()?,
                    job: job.clone(),
                })
            }
            _ => None,
        }
    }

    pub(crate) fn times(&self) -> Times {
        Times {
            issued: self.iat,
            not_before: self.nbf,
            expires: self.exp,
        }
    }

    fn bare(issuer: &str, user: UserId, issued_at_s: u64, lifetime_s: u64) -> Self {
        Self {
            iss: issuer.to_owned(),
            aud: ACCESS_TOKEN_AUDIENCE.to_owned(),
            sub: user,
            tenant: None,
            sid: None,
            act: None,
            job: None,
            platform: false,
            iat: issued_at_s,
            nbf: issued_at_s,
            exp: issued_at_s.saturating_add(lifetime_s),
            jti: uuid::Uuid::now_v7().to_string(),
        }
    }
}

//! Who may act at all, by the facts alone.

use rowhouse_auth_kit::{Role, Scope};
use rowhouse_context::Owners;
use rowhouse_types::{SessionId, TenantId, UserId};

use crate::rights::{Facts, Query, Rights, Standing, Version};
use crate::tenant::Access;

fn facts() -> Facts {
    Facts {
        version: Version(7),
        identity_active: true,
        session_live: true,
        second_factor_lacks: false,
        key_good: true,
        member: Some(Role::Manager.into()),
        operator: None,
        access: Some(Access::Allowed),
        team: Owners::from_iter([]),
    }
}

fn query() -> Query {
    Query {
        user: UserId::generate(),
        session: Some(SessionId::generate()),
        tenant: Some(TenantId::generate()),
        platform: false,
        key: None,
        by: None,
    }
}

fn standing(query: Query, facts: Facts) -> Standing {
    Rights::judge(&query, &facts).standing
}

#[test]
fn a_member_in_good_standing_has_the_roles_rights() {
    let rights = Rights::judge(&query(), &facts());
    assert_eq!(
        (rights.standing, rights.role.as_deref()),
        (Standing::Good, Some("manager"))
    );
    assert_eq!(rights.grants.scope("contacts:read"), Some(Scope::Team));
}

#[test]
fn anything_ended_revokes_and_gives_nothing() {
    let ended = [
        Facts {
            identity_active: false,
            ..facts()
        },
        Facts {
            session_live: false,
            ..facts()
        },
        Facts {
            member: None,
            ..facts()
        },
        Facts {
            member: None,
            access: Some(Access::Suspended),
            ..facts()
        },
        Facts {
            member: None,
            operator: Some(Role::SuperAdmin.into()),
            ..facts()
        },
    ];
    for facts in ended {
        let rights = Rights::judge(&query(), &facts);
        assert_eq!(rights.standing, Standing::Revoked, "{facts:?}");
        assert!(rights.grants.scope("contacts:read").is_none());
    }
}

/// Whoever has the key may have signed for a session that has ended as for one that goes on, and it is not they who are told of.
#[test]
fn what_a_key_has_signed_that_is_not_good_is_not_looked_into() {
    for session_live in [true, false] {
        let facts = Facts {
            key_good: false,
            session_live,
            ..facts()
        };
        assert_eq!(standing(query(), facts), Standing::KeyRevoked);
    }
}

#[test]
fn nobody_acts_in_a_tenant_that_is_not_open() {
    let operator = Query {
        platform: true,
        ..query()
    };
    for (access, expected) in [
        (Some(Access::Suspended), Standing::TenantSuspended),
        (Some(Access::Pending), Standing::TenantUnknown),
        (None, Standing::TenantUnknown),
    ] {
        let facts = Facts {
            access,
            operator: Some(Role::SuperAdmin.into()),
            ..facts()
        };
        assert_eq!(standing(query(), facts.clone()), expected);
        assert_eq!(standing(operator, facts.clone()), expected);
        assert_eq!(
            standing(
                Query {
                    tenant: None,
                    ..operator
                },
                facts
            ),
            Standing::Good
        );
    }
}

#[test]
fn a_member_is_no_operator_and_an_operator_no_member() {
    let operator = Facts {
        member: None,
        operator: Some(Role::SuperAdmin.into()),
        ..facts()
    };
    assert_eq!(
        standing(
            Query {
                platform: true,
                ..query()
            },
            operator.clone()
        ),
        Standing::Good
    );
    assert_eq!(standing(query(), operator), Standing::Revoked);
    assert_eq!(
        standing(
            Query {
                platform: true,
                ..query()
            },
            facts()
        ),
        Standing::Revoked
    );
}

#[test]
fn a_delegate_needs_no_session_but_all_the_rest() {
    let delegate = Query {
        session: None,
        ..query()
    };
    assert_eq!(
        standing(
            delegate,
            Facts {
                session_live: false,
                ..facts()
            }
        ),
        Standing::Good
    );
    assert_eq!(
        standing(
            delegate,
            Facts {
                member: None,
                ..facts()
            }
        ),
        Standing::Revoked
    );
}

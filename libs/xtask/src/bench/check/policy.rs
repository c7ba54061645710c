//! A tenant's roles, who holds them, and questions with their answers.
//!
//! What an answer should be is read here from the grants' texts in the plainest way, by nothing that is measured.

use std::sync::Arc;

use rowhouse_auth_kit::{Grants, Role, Scope};
use rowhouse_client::reaches;
use rowhouse_context::Owners;
use rowhouse_proto::policy::{PERMISSIONS, Permission, permission};
use rowhouse_types::UserId;

/// Roles of a tenant's own, as administrators make them.
const CUSTOM: [(&str, &[&str]); 4] = [
    ("auditor", &["audit:*", "contacts:read", "reports:*"]),
    (
        "team_lead",
        &["contacts:*@team", "members:read", "reports:read@team", "teams:*"],
    ),
    (
        "assistant",
        &["contacts:*@own", "contacts:read@team", "reports:run@own"],
    ),
    (
        "desk",
        &[
            "contacts:create",
            "contacts:read",
            "contacts:update@own",
            "members:*",
            "roles:read",
        ],
    ),
];
/// People who hold each role.
const HOLDERS: usize = 20;
/// People in the teams of each.
const MATES: usize = 8;

/// What is asked, and with that the policy: everybody who holds a role is asked about.
pub(super) struct Policy {
    pub(super) questions: Vec<Question>,
}

/// Somebody with a role.
#[derive(Debug)]
pub(super) struct Holder {
    pub(super) user: UserId,
    pub(super) role: String,
    pub(super) grants: Grants,
    mates: Owners,
}

/// Whether somebody may do something, with somebody's record.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) holder: Arc<Holder>,
    /// As it is asked over gRPC.
    pub(super) permission: &'static str,
    owner: Option<UserId>,
    pub(super) relation: Relation,
    /// What the answer should be.
    pub(super) allowed: bool,
}

/// Whose record a question is about, as seen by who asks. Engines that know nothing of teams are told this; ours finds out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Relation {
    /// The permission is about no record with an owner: what has no parts is given whole or not at all.
    Whole,
    /// Whosever.
    Any,
    /// Their own.
    Own,
    /// Of somebody in their teams.
    Mate,
    /// Of somebody else.
    Other,
}

// === impl Policy ===

impl Policy {
    /// The built-in roles of tenants, some of a tenant's own, and every permission asked about every kind of record.
    pub(super) fn new() -> Self {
        let built_in = Role::ALL.into_iter().filter(|role| role.is_of_tenant());
        let built_in = built_in.map(|role| (role.as_str(), role.grants()));
        let custom = CUSTOM.into_iter().map(|(name, grants)| (name, Grants::read(grants)));
        let mut questions = Vec::new();
        for (role, grants) in built_in.chain(custom) {
            let people: Vec<_> = (0..HOLDERS).map(|_| Arc::new(Holder::new(role, &grants))).collect();
            let asked = PERMISSIONS.iter().flat_map(|permission| {
                let relations = Relation::about(permission);
                relations.iter().map(move |relation| (permission, *relation))
            });
            for ((permission, relation), holder) in asked.zip(people.iter().cycle()) {
                questions.push(Question::new(holder, permission, relation));
            }
        }
        Self { questions }
    }
}

// === impl Holder ===

impl Holder {
    fn new(role: &str, grants: &Grants) -> Self {
        Self {
            user: UserId::generate(),
            role: role.to_owned(),
            grants: grants.clone(),
            mates: (0..MATES).map(|_| UserId::generate()).collect(),
        }
    }
}

// === impl Question ===

impl Question {
    fn new(holder: &Arc<Holder>, permission: &Permission, relation: Relation) -> Self {
        let owner = match relation {
            Relation::Whole | Relation::Any => None,
            Relation::Own => Some(holder.user),
            Relation::Mate => holder.mates.iter().next(),
            Relation::Other => Some(UserId::generate()),
        };
        let grants = holder.grants.to_strings();
        Self {
            holder: Arc::clone(holder),
            // The catalogue's own text, which lives as long as the program.
            permission: PERMISSIONS
                .iter()
                .map(|known| known.name)
                .find(|name| *name == permission.name)
                .unwrap_or_default(),
            owner,
            relation,
            allowed: answer(&grants, permission, relation),
        }
    }

    /// Our own decision: the same calls with which auth answers Check once it has read the caller's rights.
    pub(super) fn decide(&self) -> bool {
        let holder = &self.holder;
        permission(self.permission)
            .is_some_and(|permission| reaches(&holder.grants, holder.user, &holder.mates, permission, self.owner))
    }
}

/// What the grants' texts answer, where somebody asks about a record that is theirs or is not. One that is about no record with
/// an owner is given whole or not at all, whoever is named.
pub(super) fn answer(grants: &[String], permission: &Permission, relation: Relation) -> bool {
    let relation = if permission.scoped { relation } else { Relation::Whole };
    grants.iter().any(|grant| gives(grant, permission.name, relation))
}

/// Whether a grant's text gives a permission for such a record.
fn gives(grant: &str, permission: &str, relation: Relation) -> bool {
    let (sides, scope) = grant.split_once('@').unwrap_or((grant, Scope::All.as_str()));
    let side = |at: usize| (sides.split(':').nth(at), permission.split(':').nth(at));
    let covers = |(ours, theirs): (Option<&str>, Option<&str>)| ours == Some("*") || ours == theirs;
    covers(side(0)) && covers(side(1)) && relation.is_within(scope)
}

// === impl Relation ===

impl Relation {
    fn about(permission: &Permission) -> &'static [Self] {
        if permission.scoped {
            &[Self::Any, Self::Own, Self::Mate, Self::Other]
        } else {
            &[Self::Whole]
        }
    }

    fn is_within(self, scope: &str) -> bool {
        match self {
            Self::Any | Self::Own => true,
            Self::Mate => scope != Scope::Own.as_str(),
            Self::Whole | Self::Other => scope == Scope::All.as_str(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_owner_is_given_whole_whoever_is_named() {
        let grants = ["members:read@team".to_owned(), "contacts:read@own".to_owned()];
        let asked = |name: &str, relation| answer(&grants, permission(name).unwrap(), relation);
        assert!(!asked("members:read", Relation::Own));
        assert!(asked("contacts:read", Relation::Own) && !asked("contacts:read", Relation::Other));
    }

    #[test]
    fn our_decision_is_what_the_grants_say() {
        let policy = Policy::new();
        let allowed = policy.questions.iter().filter(|question| question.allowed).count();
        assert!(allowed > 20 && policy.questions.len() - allowed > 20, "{allowed}");
        for question in &policy.questions {
            assert_eq!(question.decide(), question.allowed, "{question:?}");
        }
    }
}

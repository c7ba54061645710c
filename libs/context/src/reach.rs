//! Whose records a call may reach.

use std::sync::Arc;

use rowhouse_types::UserId;

/// Whose records a call may reach, as the stack in front of the services found it for the RPC's permission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Everybody's.
    All,
    /// Those that these people own.
    Owners(Owners),
}

/// Some people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owners {
    /// In order and each once.
    users: Arc<[UserId]>,
}

// === impl Reach ===

impl Reach {
    /// Nobody's records.
    #[must_use]
    pub fn nobody() -> Self {
        Self::owners([])
    }

    /// The records of these people.
    #[must_use]
    pub fn owners(users: impl IntoIterator<Item = UserId>) -> Self {
        Self::Owners(users.into_iter().collect())
    }

    /// Whether a record of `owner` is among them.
    #[must_use]
    pub fn includes(&self, owner: UserId) -> bool {
        match self {
            Self::All => true,
            Self::Owners(owners) => owners.include(owner),
        }
    }
}

// === impl Owners ===

impl Owners {
    /// Them, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = UserId> {
        self.users.iter().copied()
    }

    /// Whether `user` is one of them.
    #[must_use]
    pub fn include(&self, user: UserId) -> bool {
        self.users.binary_search(&user).is_ok()
    }
}

impl FromIterator<UserId> for Owners {
    fn from_iter<I: IntoIterator<Item = UserId>>(users: I) -> Self {
        let mut users: Vec<UserId> = users.into_iter().collect();
        users.sort_unstable();
        users.dedup();
        Self { users: users.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_reached_by_its_owner_alone_or_by_everybody() {
        let people: Vec<UserId> = (0..5).map(|_| UserId::generate()).collect();
        let reach = Reach::owners([people[3], people[0], people[3]]);
        let included: Vec<bool> = people.iter().map(|user| reach.includes(*user)).collect();
        assert_eq!(included, [true, false, false, true, false]);
        assert!(people.iter().all(|user| Reach::All.includes(*user)));
        assert!(people.iter().all(|user| !Reach::nobody().includes(*user)));
    }
}

//! Who gets in line for a hash.
//!
//! The line is short, and whoever comes when it is full is refused: strangers from many addresses can keep it full, each of them
//! within what one address may. So some places beside it are for those of whom there is reason to believe that they are an
//! account's owner, one at a time for each address that is logged in to and one for each account that a session or a link is of:
//! two for an account at most. So nobody takes them all with one account, and strangers take none.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::Error;

/// For whom a password is hashed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asker {
    /// Whoever it may be.
    Stranger,
    /// Somebody who is at a device or a network where the account's owner has been: the digest of its address; or holds a link that
    /// was mailed to an account, or is logged in: the digest of the account. Who accepts an invitation and has no account yet is
    /// a stranger, although the link was mailed to them: anybody who may invite can have as many as they like.
    Known(Vec<u8>),
}

/// The places. Cheap to clone; clones share them.
#[derive(Clone, Debug)]
pub(super) struct Admission {
    /// One permit for each hash that runs or waits, but for those in the reserve.
    anybody: Arc<Semaphore>,
    reserve: Arc<Reserve>,
}

#[derive(Debug)]
struct Reserve {
    places: usize,
    /// The addresses and accounts that have one.
    taken: Mutex<HashSet<Vec<u8>>>,
}

/// A place, until it is dropped: one that anybody may have, or one of the reserve.
#[derive(Debug)]
pub(super) struct Place {
    _common: Option<OwnedSemaphorePermit>,
    _reserved: Option<Reserved>,
}

#[derive(Debug)]
struct Reserved {
    reserve: Arc<Reserve>,
    account: Vec<u8>,
}

// === impl Admission ===

impl Admission {
    /// `places`: for anybody. `reserved`: beside them, for those who are known.
    pub(super) fn new(places: usize, reserved: usize) -> Self {
        Self {
            anybody: Arc::new(Semaphore::new(places)),
            reserve: Arc::new(Reserve {
                places: reserved,
                taken: Mutex::default(),
            }),
        }
    }

    /// A place, where there is one.
    pub(super) fn admit(&self, asker: &Asker) -> Result<Place, Error> {
        if let Ok(permit) = Arc::clone(&self.anybody).try_acquire_owned() {
            return Ok(Place {
                _common: Some(permit),
                _reserved: None,
            });
        }
        let Asker::Known(account) = asker else {
            return Err(Error::Overloaded);
        };
        Ok(Place {
            _common: None,
            _reserved: Some(self.reserved(account)?),
        })
    }

    fn reserved(&self, account: &[u8]) -> Result<Reserved, Error> {
        let mut taken = self.reserve.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.len() >= self.reserve.places || !taken.insert(account.to_vec()) {
            return Err(Error::Overloaded);
        }
        Ok(Reserved {
            reserve: Arc::clone(&self.reserve),
            account: account.to_vec(),
        })
    }

    /// Takes all places that anybody may have, as a flood of strangers does.
    #[cfg(test)]
    pub(super) fn fill(&self) -> Vec<Place> {
        std::iter::from_fn(|| self.admit(&Asker::Stranger).ok()).collect()
    }
}

// === impl Reserved ===

impl Drop for Reserved {
    fn drop(&mut self) {
        let mut taken = self.reserve.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.remove(&self.account);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(account: u8) -> Asker {
        Asker::Known(vec![account])
    }

    #[test]
    fn strangers_take_no_place_of_the_reserve_and_no_account_two() {
        let admission = Admission::new(3, 2);
        let strangers = admission.fill();
        assert_eq!(strangers.len(), 3);
        let first = admission.admit(&known(1)).unwrap();
        assert!(matches!(admission.admit(&known(1)), Err(Error::Overloaded)));
        let second = admission.admit(&known(2)).unwrap();
        assert!(matches!(admission.admit(&known(3)), Err(Error::Overloaded)));
        drop(first);
        // A place that is free again is anybody's who is known.
        let third = admission.admit(&known(3)).unwrap();
        assert!(matches!(admission.admit(&Asker::Stranger), Err(Error::Overloaded)));
        drop((second, third, strangers));
        assert!(admission.reserve.taken.lock().unwrap().is_empty());
        assert_eq!(admission.fill().len(), 3);
    }

    #[test]
    fn who_is_known_takes_a_common_place_while_there_is_one() {
        let admission = Admission::new(1, 1);
        let taken = || admission.reserve.taken.lock().unwrap().len();
        let common = admission.admit(&known(1)).unwrap();
        assert_eq!(taken(), 0);
        let reserved = admission.admit(&known(1)).unwrap();
        assert_eq!(taken(), 1);
        drop((common, reserved));
    }
}

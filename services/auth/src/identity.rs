//! A person: one address, one password, whatever tenants they belong to.

mod admission;
mod argon;
mod guess;
mod keyboard;
mod opaque;
mod password;
mod store;

use rowhouse_types::{Email, Text, UserId};

pub(crate) use admission::Asker;
pub(crate) use guess::Chooser;
pub(crate) use password::{Hasher, NewPassword, OfferedPassword, ParsePasswordError};
#[cfg(test)]
pub(crate) use store::STATEMENTS;
pub(crate) use store::{
    account_at, account_of, hold, hold_all, insert, lock, person, set_active, set_email, set_password,
};

/// Name of a person.
pub(crate) type DisplayName = Text<200>;

/// Who somebody is, for those who may know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Person {
    pub(crate) id: UserId,
    pub(crate) email: String,
    pub(crate) display_name: String,
}

/// An account as the log-in sees it.
pub(crate) struct Account {
    pub(crate) id: UserId,
    pub(crate) email: String,
    pub(crate) display_name: String,
    pub(crate) password_hash: String,
    pub(crate) active: bool,
}

/// A person who is to be added.
pub(crate) struct NewIdentity<'a> {
    pub(crate) id: UserId,
    pub(crate) email: &'a Email,
    pub(crate) display_name: &'a DisplayName,
    pub(crate) password_hash: &'a str,
}

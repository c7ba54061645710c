//! What stores' tests check their statements and homes with. Plain code on a superuser's or the owner's connection; no
//! serving process calls it.
//!
//! - [`directory`]: a directory that knows what it is told, [`StaticDirectory`].
//! - [`statements`]: whether statements fit the schema, [`check_statements`].
//! - [`audit`]: whether every wall of a home stands, [`audit_home`].
//! - [`logins`]: the login of a tenant's own database, [`own_login`], what seals its password, [`master_keys`], and by small pages
//!   sealing all of them anew, [`reseal_logins_by`], and giving them, [`migrate_own_platforms_by`].
//! - [`upkeep`]: what homes forget, by small pages and parts, [`forget_by`].

pub mod audit;
pub mod directory;
pub mod logins;
pub mod statements;
pub mod upkeep;

pub use audit::audit_home;
pub use directory::StaticDirectory;
pub use logins::{master_keys, migrate_own_platforms_by, own_login, reseal_logins_by};
pub use statements::check_statements;
pub use upkeep::forget_by;

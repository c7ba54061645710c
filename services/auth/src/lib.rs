//! Who people are and what they may do.
//!
//! - [`config`] holds the variables of each subcommand.
//! - [`App`] is the wiring. [`commands`]: what is done by command line, beside the database.
//! - `identity`: persons and their passwords.
//! - `invitation`: how somebody becomes a member.
//! - `account`: one's own account; serves `AccountService`.
//! - `member`: who belongs to a tenant, in which role.
//! - `role`: what members of a tenant can be; serves `RoleService`. `catalog`: what roles are made of.
//! - `team`: teams of members, which nest; serves `TeamService`.
//! - `authz`: who may do what, and why; serves `AuthzService`.
//! - `service_account`: programs that act in a tenant, and their API keys; serves `ServiceAccountService`.
//! - `session`: log-ins and refresh tokens; serves `AuthService`.
//! - `second_factor`: codes of an authenticator app beside the password.
//! - `login_policy`: what a tenant asks of its members' log-ins; serves `LoginPolicyService`.
//! - `attempt`: who guesses waits.
//! - `key`: the keys that sign access tokens.
//! - `rights`: what a principal may do, and the lease protocol by which changes are acknowledged.
//! - `tenant`: what auth knows of tenants; serves `ProvisioningService`.
//! - `impersonation`: operators who act as a member; serves `ImpersonationService`.
//! - `purge`: the end of a tenant; serves `TenantRecordsService`.
//! - `delegation`: tokens for jobs.
//! - `mail`: what mails need.
//! - `operator`: platform operators, by RPC and by command; serves `OperatorService`.
//! - `break_glass`: the way back for who has lost everything, and accounts that are closed.
//! - `handed_on`: what ends with the rights of whoever made it.
//! - `audit`, `request`, `rounds`, `housekeeping`, `by_command`, `master`, `random`, `state`, `error`: what these stand on.

mod account;
mod account_mail;
mod app;
mod attempt;
mod audit;
mod authz;
mod break_glass;
mod by_command;
mod catalog;
pub mod commands;
pub mod config;
mod delegation;
mod error;
mod handed_on;
mod housekeeping;
mod identity;
mod impersonation;
mod invitation;
mod key;
mod link;
mod login_policy;
mod mail;
mod master;
mod member;
mod operator;
mod purge;
mod random;
mod request;
mod rights;
mod role;
mod rounds;
mod second_factor;
mod service_account;
mod session;
mod state;
mod team;
mod tenant;
#[cfg(test)]
mod tests;
mod wire;

pub use app::App;

/// The migrations of schema `auth` in the control database.
pub static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("migrations/control");

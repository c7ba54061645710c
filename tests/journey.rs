//! Whole jobs on the running suite, as its users do them.

mod account;
mod audit;
mod grpcurl;
mod impersonation;
mod kill;
mod leaver;
mod lifecycle;
mod main_job;
mod migrations;
mod operators;
mod plans;
mod roles;
mod second_factor;
mod servers;
mod service_accounts;
mod spares;

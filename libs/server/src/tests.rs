//! The whole server on loopback ports.

mod abuse;
mod admin;
mod drain;
mod reflection;
mod suite;

//! The lease protocol on a real database, as its issuer.

mod leases;
mod protocol;

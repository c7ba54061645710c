//! Rights: the rules by themselves, and the lease protocol on a real database, as its issuer.

mod leases;
mod protocol;
mod rules;

//! SCRAM-SHA-256 verifiers of the stack's own passwords.

use anyhow::{Context, Result};
use aws_lc_rs::digest;
use rowhouse_seal::scram::{self, SALT_BYTES};

/// Iterations make guessing a human's password slow. Ours are 192 random bits, which nobody guesses, and PostgreSQL's
/// 4,096 cost an unoptimised client 45 ms for every connection that a test opens.
const ITERATIONS: u32 = 32;

/// The verifier of a random password. The salt is taken from the password, so that PostgreSQL and PgBouncer get the
/// same one: then PgBouncer needs no password to log in with what a client has proved.
pub(crate) fn verifier(password: &str) -> Result<String> {
    let salt = digest::digest(&digest::SHA256, format!("salt of {password}").as_bytes());
    let salt = salt
        .as_ref()
        .get(..SALT_BYTES)
        .context("SHA-256 is longer than a salt")?;
    Ok(scram::verifier(password, salt, ITERATIONS)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verifier_is_the_same_each_time_and_another_for_another_password() {
        assert_eq!(verifier("a").unwrap(), verifier("a").unwrap());
        assert_ne!(verifier("a").unwrap(), verifier("b").unwrap());
    }
}

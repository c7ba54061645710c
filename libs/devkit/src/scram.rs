//! SCRAM-SHA-256 verifiers (RFC 5802, RFC 7677) as PostgreSQL and PgBouncer keep them.

use std::num::NonZeroU32;

use anyhow::{Context, Result};
use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Iterations make guessing a human's password slow. Ours are 192 random bits, which nobody guesses, and PostgreSQL's
/// 4,096 cost an unoptimised client 45 ms for every connection that a test opens.
const ITERATIONS: u32 = 32;
/// As many bytes as PostgreSQL's own salts have.
const SALT_BYTES: usize = 16;

/// The verifier of a random password. The salt is taken from the password, so that PostgreSQL and PgBouncer get the
/// same one: then PgBouncer needs no password to log in with what a client has proved.
pub(crate) fn verifier(password: &str) -> Result<String> {
    let salt = digest::digest(&digest::SHA256, format!("salt of {password}").as_bytes());
    let salt = salt
        .as_ref()
        .get(..SALT_BYTES)
        .context("SHA-256 is longer than a salt")?;
    verifier_of(password, salt, ITERATIONS)
}

fn verifier_of(password: &str, salt: &[u8], iterations: u32) -> Result<String> {
    let count = NonZeroU32::new(iterations).context("at least one iteration")?;
    let mut salted = [0; digest::SHA256_OUTPUT_LEN];
    pbkdf2::derive(
        pbkdf2::PBKDF2_HMAC_SHA256,
        count,
        salt,
        password.as_bytes(),
        &mut salted,
    );
    let key = hmac::Key::new(hmac::HMAC_SHA256, &salted);
    let stored = digest::digest(&digest::SHA256, hmac::sign(&key, b"Client Key").as_ref());
    let server = hmac::sign(&key, b"Server Key");
    let [salt, stored, server] = [salt, stored.as_ref(), server.as_ref()].map(|bytes| STANDARD.encode(bytes));
    Ok(format!("SCRAM-SHA-256${iterations}:{salt}${stored}:{server}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verifier_is_the_same_each_time_and_another_for_another_password() {
        assert_eq!(verifier("a").unwrap(), verifier("a").unwrap());
        assert_ne!(verifier("a").unwrap(), verifier("b").unwrap());
    }

    #[test]
    fn the_example_of_rfc_7677_is_met() {
        // RFC 7677, 3: user `user`, password `pencil`. The server's key there signs `v=` of the exchange.
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let verifier = verifier_of("pencil", &salt, 4096).unwrap();
        let server_key = STANDARD.decode(verifier.rsplit(':').next().unwrap()).unwrap();
        let exchange = "n=user,r=rOprNGfwEbeRWgbNEkqO,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                        s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &server_key), exchange.as_bytes());
        assert_eq!(
            STANDARD.encode(signature.as_ref()),
            "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
        );
    }
}

//! SCRAM-SHA-256 verifiers (RFC 5802, RFC 7677) as PostgreSQL and `PgBouncer` keep them: made here, so that no statement
//! holds a password.

use std::num::NonZeroU32;

use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::Error;

/// Bytes of PostgreSQL's own salts.
pub const SALT_BYTES: usize = 16;

/// The verifier of a password in ASCII, which needs no `SASLprep`.
///
/// `salt`: [`SALT_BYTES`] random bytes. `iterations`: PostgreSQL's own are 4,096, which RFC 7677 asks for at least; they make
/// guessing slow, which matters where people choose the password.
///
/// # Errors
/// [`Error::Derivation`] for no iterations.
pub fn verifier(password: &str, salt: &[u8], iterations: u32) -> Result<String, Error> {
    let count = NonZeroU32::new(iterations).ok_or(Error::Derivation)?;
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
    fn the_example_of_rfc_7677_is_met() {
        // RFC 7677, 3: user `user`, password `pencil`. The server's key there signs `v=` of the exchange.
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let verifier = verifier("pencil", &salt, 4096).unwrap();
        let server_key = STANDARD.decode(verifier.rsplit(':').next().unwrap()).unwrap();
        let exchange = "n=user,r=rOprNGfwEbeRWgbNEkqO,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                        s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &server_key), exchange.as_bytes());
        assert_eq!(
            STANDARD.encode(signature.as_ref()),
            "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
        );
    }

    #[test]
    fn another_password_and_another_salt_give_another_verifier() {
        let of = |password, salt| verifier(password, salt, 1).unwrap();
        assert_eq!(of("a", &[1; SALT_BYTES]), of("a", &[1; SALT_BYTES]));
        assert_ne!(of("a", &[1; SALT_BYTES]), of("b", &[1; SALT_BYTES]));
        assert_ne!(of("a", &[1; SALT_BYTES]), of("a", &[2; SALT_BYTES]));
        assert!(verifier("a", &[], 0).is_err());
    }
}

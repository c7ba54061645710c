//! Random secrets, from the operating system's generator by way of the suite's crypto back end.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The generator gave nothing.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the random number generator failed")]
pub(crate) struct RandomError;

/// 256 random bits.
pub(crate) fn bytes() -> Result<[u8; 32], RandomError> {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| RandomError)?;
    Ok(bytes)
}

/// 256 random bits as text: 43 characters of base64url.
pub(crate) fn text() -> Result<String, RandomError> {
    bytes().map(|bytes| URL_SAFE_NO_PAD.encode(bytes))
}

/// SHA-256: under which secrets of 256 random bits are kept. They need no salt and no slow hash, nobody can guess them.
pub(crate) fn sha256(secret: &str) -> Vec<u8> {
    digest(&SHA256, secret.as_bytes()).as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_secrets_differ_and_have_43_characters() {
        let (one, two) = (text().unwrap(), text().unwrap());
        assert_ne!(one, two);
        assert_eq!(one.len(), 43);
        assert_ne!(sha256(&one), sha256(&two));
    }
}

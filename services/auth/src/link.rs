//! Secrets of links in mails: derived when the mail is written, kept nowhere.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rowhouse_config::Secret;
use rowhouse_config::secret::SecretKey;
use rowhouse_types::Id;

use crate::error::Error;
use crate::master::{self, Purpose};
use crate::random;

/// Longest token that is looked at, in bytes; ours have 43.
const TOKEN_BYTES_MAX: usize = 128;

/// The secret of a link.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    text: Secret,
}

/// The text cannot be a token of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be the token from the mail's link")]
pub(crate) struct ParseTokenError;

/// Derives the tokens of one kind of links.
#[derive(Debug)]
pub(crate) struct LinkTokens {
    key: hmac::Key,
}

// === impl LinkTokens ===

impl LinkTokens {
    pub(crate) fn new(master: &SecretKey, purpose: Purpose) -> Result<Self, Error> {
        let key = master::derive(master, purpose)?;
        Ok(Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, &key),
        })
    }

    /// The token of a link: HMAC of the id of what it is about and a nonce. Nobody stores it; whoever holds the key and
    /// the row can make it again.
    pub(crate) fn token<K>(&self, id: Id<K>, nonce: &[u8]) -> Token {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(id.uuid().as_bytes());
        context.update(nonce);
        Token {
            text: Secret::new(URL_SAFE_NO_PAD.encode(context.sign())),
        }
    }

    /// The token of a row that is to be mailed. One that nobody could use must not be: then the key is not the one that
    /// the row was made with.
    pub(crate) fn mailed<K>(&self, id: Id<K>, nonce: &[u8], token_hash: &[u8]) -> Result<Token, Error> {
        let token = self.token(id, nonce);
        if token.hash() == token_hash {
            Ok(token)
        } else {
            Err(Error::fault(
                "a link's token cannot be derived: was the master key changed?",
            ))
        }
    }
}

// === impl Token ===

impl Token {
    pub(crate) fn parse(text: &str) -> Result<Self, ParseTokenError> {
        if text.is_empty() || text.len() > TOKEN_BYTES_MAX {
            return Err(ParseTokenError);
        }
        Ok(Self {
            text: Secret::new(text.to_owned()),
        })
    }

    /// The text for the link. It goes nowhere else.
    pub(crate) fn expose(&self) -> &str {
        self.text.expose()
    }

    pub(crate) fn hash(&self) -> Vec<u8> {
        random::sha256(self.text.expose())
    }
}

#[cfg(test)]
mod tests {
    use rowhouse_types::InvitationId;

    use super::*;

    #[test]
    fn a_token_follows_from_key_purpose_id_and_nonce_and_from_nothing_less() {
        let tokens = |first: &str, purpose| {
            let master = SecretKey::from_base64(&format!("{first}{}=", "A".repeat(42))).unwrap();
            LinkTokens::new(&master, purpose).unwrap()
        };
        let (one, other) = (InvitationId::generate(), InvitationId::generate());
        let token = |first, purpose, id, nonce: &[u8]| tokens(first, purpose).token(id, nonce).expose().to_owned();
        let invitation = |first, id, nonce| token(first, Purpose::Invitations, id, nonce);
        assert_eq!(invitation("A", one, &[1; 32]), invitation("A", one, &[1; 32]));
        assert_ne!(invitation("A", one, &[1; 32]), invitation("B", one, &[1; 32]));
        assert_ne!(invitation("A", one, &[1; 32]), invitation("A", other, &[1; 32]));
        assert_ne!(invitation("A", one, &[1; 32]), invitation("A", one, &[2; 32]));
        assert_ne!(
            invitation("A", one, &[1; 32]),
            token("A", Purpose::AccountLinks, one, &[1; 32])
        );
        assert_eq!(invitation("A", one, &[1; 32]).len(), 43);
    }

    #[test]
    fn a_token_does_not_print() {
        assert!(!format!("{:?}", Token::parse("hunter2").unwrap()).contains("hunter2"));
        assert!(Token::parse("").is_err() && Token::parse(&"a".repeat(129)).is_err());
    }
}

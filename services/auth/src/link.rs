//! Secrets of links in mails: derived when the mail is written, kept nowhere.

use std::iter;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rowhouse_config::Secret;
use rowhouse_seal::MasterKeys;
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
    /// Of mails that are still to be written of links that were made before the key was replaced.
    previous: Vec<hmac::Key>,
}

// === impl LinkTokens ===

impl LinkTokens {
    pub(crate) fn new(master: &MasterKeys, purpose: Purpose) -> Result<Self, Error> {
        let key = |master| -> Result<hmac::Key, Error> {
            Ok(hmac::Key::new(hmac::HMAC_SHA256, &master::derive(master, purpose)?))
        };
        Ok(Self {
            key: key(&master.present)?,
            previous: master.previous.iter().map(key).collect::<Result<_, _>>()?,
        })
    }

    /// The token of a link: HMAC of the id of what it is about and a nonce. Nobody stores it; whoever holds the key and
    /// the row can make it again.
    pub(crate) fn token<K>(&self, id: Id<K>, nonce: &[u8]) -> Token {
        Self::token_of(&self.key, id, nonce)
    }

    fn token_of<K>(key: &hmac::Key, id: Id<K>, nonce: &[u8]) -> Token {
        let mut context = hmac::Context::with_key(key);
        context.update(id.uuid().as_bytes());
        context.update(nonce);
        Token {
            text: Secret::new(URL_SAFE_NO_PAD.encode(context.sign())),
        }
    }

    /// The token of a row that is to be mailed. One that nobody could use must not be: then the row was made with none of the
    /// keys.
    pub(crate) fn mailed<K>(&self, id: Id<K>, nonce: &[u8], token_hash: &[u8]) -> Result<Token, Error> {
        iter::once(&self.key)
            .chain(&self.previous)
            .map(|key| Self::token_of(key, id, nonce))
            .find(|token| token.hash() == token_hash)
            .ok_or_else(|| Error::fault("a link's token cannot be derived: was the master key changed?"))
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
    use crate::master::master_keys;

    /// A link is made, the key is replaced, and then its mail is written.
    #[test]
    fn a_link_from_before_the_key_was_replaced_is_mailed_while_the_previous_one_is_there() {
        let tokens = |keys| LinkTokens::new(&master_keys(keys), Purpose::Invitations).unwrap();
        let (id, nonce) = (InvitationId::generate(), [1; 32]);
        let made = tokens("A").token(id, &nonce);
        let mailed = tokens("BCA").mailed(id, &nonce, &made.hash()).unwrap();
        assert_eq!(mailed.expose(), made.expose());
        assert!(tokens("BC").mailed(id, &nonce, &made.hash()).is_err());
        assert_ne!(
            tokens("BA").token(id, &nonce).expose(),
            made.expose(),
            "what is new is by the new key"
        );
    }

    #[test]
    fn a_token_follows_from_key_purpose_id_and_nonce_and_from_nothing_less() {
        let tokens = |first: &str, purpose| LinkTokens::new(&master_keys(first), purpose).unwrap();
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

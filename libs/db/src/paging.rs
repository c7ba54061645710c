//! Pages by keyset (AIP-158): the page token holds the sort values of the last row, sealed so that a client can neither
//! read meaning into it nor use it for another list, filter, tenant or user.

use std::fmt;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rowhouse_types::{TenantId, UserId};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Rows of a page where the client does not say.
pub const PAGE_SIZE_DEFAULT: u32 = 50;

/// Rows of a page at most (AIP-158: more is not refused, but cut).
pub const PAGE_SIZE_MAX: u32 = 1_000;

/// Longest page token that is looked at, in bytes: sort values are short.
const TOKEN_BYTES_MAX: usize = 4_096;

/// Bytes of an HMAC-SHA-256.
const TAG_BYTES: usize = 32;

/// Seals and opens page tokens. Cheap to clone.
#[derive(Clone)]
pub struct PageTokens {
    key: hmac::Key,
}

/// What a page token is good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageScope {
    /// The method that gave it, such as `ListContacts`.
    pub method: &'static str,
    /// The tenant whose list it is; none for lists of the platform.
    pub tenant: Option<TenantId>,
    /// The person who got it.
    pub user: Option<UserId>,
    /// Everything else that must be the same for the next page: filter and order, in one spelling.
    pub fingerprint: Vec<u8>,
}

/// One page of a list, while it is being read.
#[derive(Debug)]
pub struct Paging<'a, C> {
    tokens: &'a PageTokens,
    scope: PageScope,
    after: Option<C>,
    size: u32,
}

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// What is on it.
    pub items: Vec<T>,
    /// What the next page is asked for with; empty on the last.
    pub next_page_token: String,
}

/// The text is not a page token that this suite gave for this list. Nothing says why: that would help to forge one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be the next_page_token of the page before, with the same filter and order")]
pub struct InvalidPageToken;

/// The page size is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must not be negative")]
pub struct InvalidPageSize;

/// The page size to use: 50 for 0, at most 1,000.
///
/// # Errors
/// [`InvalidPageSize`] for a negative one (AIP-158).
pub fn page_size(requested: i32) -> Result<u32, InvalidPageSize> {
    match u32::try_from(requested) {
        Ok(0) => Ok(PAGE_SIZE_DEFAULT),
        Ok(size) => Ok(size.min(PAGE_SIZE_MAX)),
        Err(_) => Err(InvalidPageSize),
    }
}

// === impl PageTokens ===

impl PageTokens {
    /// `key`: 32 bytes, the same in every process of a service.
    #[must_use]
    pub fn new(key: &[u8]) -> Self {
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, key),
        }
    }

    /// Begins a page of at most `size` rows. `token`: of the page before, or empty for the first.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn begin<C: DeserializeOwned>(
        &self,
        scope: PageScope,
        size: u32,
        token: &str,
    ) -> Result<Paging<'_, C>, InvalidPageToken> {
        let after = match token {
            "" => None,
            token => Some(self.open(&scope, token)?),
        };
        Ok(Paging {
            tokens: self,
            scope,
            after,
            size,
        })
    }

    /// The token of the page after `cursor`, the sort values of the last row. Empty, which means no further page, where
    /// the cursor cannot be written as JSON, as no cursor of this suite does.
    #[must_use]
    pub fn seal(&self, scope: &PageScope, cursor: &impl Serialize) -> String {
        let Ok(body) = serde_json::to_vec(cursor) else {
            tracing::error!(method = scope.method, "a page cursor cannot be written as JSON");
            return String::new();
        };
        let tag = hmac::sign(&self.key, &scope.sealed(&body));
        let mut token = tag.as_ref().to_vec();
        token.extend_from_slice(&body);
        URL_SAFE_NO_PAD.encode(token)
    }

    /// The cursor inside a token.
    ///
    /// # Errors
    /// [`InvalidPageToken`] for a token that was forged, or given for another list, filter, tenant or user.
    pub fn open<C: DeserializeOwned>(&self, scope: &PageScope, token: &str) -> Result<C, InvalidPageToken> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(InvalidPageToken);
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| InvalidPageToken)?;
        let (tag, body) = bytes.split_at_checked(TAG_BYTES).ok_or(InvalidPageToken)?;
        hmac::verify(&self.key, &scope.sealed(body), tag).map_err(|_| InvalidPageToken)?;
        serde_json::from_slice(body).map_err(|_| InvalidPageToken)
    }
}

// === impl Paging ===

impl<C: Serialize> Paging<'_, C> {
    /// The sort values after which the page begins; none for the first.
    #[must_use]
    pub fn after(&self) -> Option<&C> {
        self.after.as_ref()
    }

    /// How many rows to read: one more than the page holds tells whether there is a next one.
    #[must_use]
    pub fn limit(&self) -> i64 {
        i64::from(self.size).saturating_add(1)
    }

    /// The page, of at most [`Self::limit`] rows that were read. `cursor`: the sort values of a row.
    pub fn finish<T>(self, mut rows: Vec<T>, cursor: impl FnOnce(&T) -> C) -> Page<T> {
        let size = usize::try_from(self.size).unwrap_or(usize::MAX);
        let more = rows.len() > size;
        rows.truncate(size);
        let next_page_token = match rows.last() {
            Some(last) if more => self.tokens.seal(&self.scope, &cursor(last)),
            _ => String::new(),
        };
        Page {
            items: rows,
            next_page_token,
        }
    }
}

impl fmt::Debug for PageTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageTokens").finish_non_exhaustive()
    }
}

// === impl PageScope ===

impl PageScope {
    /// What the HMAC covers. Every part has its length in front, so that no two scopes give the same bytes.
    fn sealed(&self, body: &[u8]) -> Vec<u8> {
        let tenant = self.tenant.map(|tenant| tenant.uuid());
        let user = self.user.map(|user| user.uuid());
        let parts: [&[u8]; 5] = [
            self.method.as_bytes(),
            tenant.as_ref().map_or(&[], |uuid| uuid.as_bytes()),
            user.as_ref().map_or(&[], |uuid| uuid.as_bytes()),
            &self.fingerprint,
            body,
        ];
        let mut bytes = b"rowhouse page token 1".to_vec();
        for part in parts {
            bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
            bytes.extend_from_slice(part);
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope() -> PageScope {
        PageScope {
            method: "ListNotes",
            tenant: Some(TenantId::generate()),
            user: Some(UserId::generate()),
            fingerprint: b"filter=;order=id".to_vec(),
        }
    }

    #[test]
    fn a_cursor_comes_back() {
        let (tokens, scope) = (PageTokens::new(&[7; 32]), scope());
        let token = tokens.seal(&scope, &("a@example.test", 7));
        assert_eq!(tokens.open(&scope, &token), Ok(("a@example.test".to_owned(), 7)));
    }

    #[test]
    fn pages_follow_each_other_and_the_last_says_so() {
        let (tokens, scope) = (PageTokens::new(&[7; 32]), scope());
        let rows = [1, 2, 3, 4, 5, 6];
        let (mut seen, mut token, mut pages) = (Vec::new(), String::new(), 0);
        loop {
            let paging = tokens.begin::<i32>(scope.clone(), 2, &token).unwrap();
            let after = paging.after().copied().unwrap_or_default();
            let limit = usize::try_from(paging.limit()).unwrap();
            let read = rows.iter().copied().filter(|row| *row > after).take(limit).collect();
            let page = paging.finish(read, |last| *last);
            seen.extend(page.items);
            pages += 1;
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(
            (seen.as_slice(), pages),
            (rows.as_slice(), 3),
            "six rows are three full pages"
        );
        assert!(tokens.begin::<i32>(scope, 2, "forged").is_err());
    }

    #[test]
    fn another_scope_is_refused() {
        let (tokens, scope) = (PageTokens::new(&[7; 32]), scope());
        let token = tokens.seal(&scope, &1);
        let others = [
            PageScope {
                method: "ListTenants",
                ..scope.clone()
            },
            PageScope {
                tenant: Some(TenantId::generate()),
                ..scope.clone()
            },
            PageScope {
                tenant: None,
                ..scope.clone()
            },
            PageScope {
                user: Some(UserId::generate()),
                ..scope.clone()
            },
            PageScope {
                fingerprint: b"filter=x".to_vec(),
                ..scope.clone()
            },
        ];
        for other in others {
            assert_eq!(tokens.open::<i32>(&other, &token), Err(InvalidPageToken), "{other:?}");
        }
        assert_eq!(tokens.open::<i32>(&scope, &token), Ok(1), "the control");
    }

    #[test]
    fn every_changed_byte_and_every_other_key_is_refused() {
        let (tokens, scope) = (PageTokens::new(&[7; 32]), scope());
        let token = tokens.seal(&scope, &123_456);
        let bytes = URL_SAFE_NO_PAD.decode(&token).unwrap();
        for at in 0..bytes.len() {
            let mut forged = bytes.clone();
            forged[at] ^= 1;
            let forged = URL_SAFE_NO_PAD.encode(forged);
            assert_eq!(tokens.open::<i64>(&scope, &forged), Err(InvalidPageToken), "byte {at}");
        }
        assert!(PageTokens::new(&[8; 32]).open::<i64>(&scope, &token).is_err());
        for garbage in ["", "x", "====", "\u{e4}", &"A".repeat(5_000)] {
            assert!(tokens.open::<i64>(&scope, garbage).is_err(), "{garbage}");
        }
    }

    #[test]
    fn page_sizes_have_a_default_and_a_bound() {
        assert_eq!(page_size(0), Ok(50));
        assert_eq!(page_size(7), Ok(7));
        assert_eq!(page_size(i32::MAX), Ok(1_000));
        assert_eq!(page_size(-1), Err(InvalidPageSize));
    }
}

//! What is stored around a value.
//!
//! A pooled connection that answers a caller with another caller's value would hand one tenant's data to another. The
//! value therefore says under which key and for which tenant it was stored, and whoever reads it compares.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::Key;

/// Raised whenever the form of the envelope changes: an older or newer copy of a service then misses.
const FORM: u8 = 1;

#[derive(Serialize)]
struct Sealed<'a, T> {
    form: u8,
    key: &'a str,
    tenant: Option<String>,
    value: &'a T,
}

#[derive(Deserialize)]
struct Opened {
    form: u8,
    key: String,
    tenant: Option<String>,
    // Given its type only once the key is known to be the right one.
    value: serde_json::Value,
}

/// Why what was read is not the value that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Not an envelope, or one of another form, or a value of another shape.
    #[error("the cached value has another form")]
    Form,
    /// An envelope of another key or tenant. This must not happen.
    #[error("the cached value belongs to another key")]
    Foreign,
}

/// The bytes to store.
pub(crate) fn seal<T: Serialize>(key: &Key, full: &str, value: &T) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&Sealed {
        form: FORM,
        key: full,
        tenant: key.owner().map(|tenant| tenant.to_string()),
        value,
    })
}

/// The value, if the bytes are this key's.
pub(crate) fn open<T: DeserializeOwned>(key: &Key, full: &str, bytes: &[u8]) -> Result<T, OpenError> {
    let opened: Opened = serde_json::from_slice(bytes).map_err(|_| OpenError::Form)?;
    if opened.form != FORM {
        return Err(OpenError::Form);
    }
    if opened.key != full || opened.tenant != key.owner().map(|tenant| tenant.to_string()) {
        return Err(OpenError::Foreign);
    }
    serde_json::from_value(opened.value).map_err(|_| OpenError::Form)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rowhouse_types::TenantId;

    #[test]
    fn what_was_stored_is_read_back() {
        let key = Key::tenant(TenantId::generate(), "rights", "user");
        let bytes = seal(&key, "full", &vec!["contacts:read"]).unwrap();
        assert_eq!(
            open::<Vec<String>>(&key, "full", &bytes),
            Ok(vec!["contacts:read".to_owned()])
        );
    }

    #[test]
    fn a_value_of_another_key_or_tenant_is_refused() {
        let (key, other) = (
            Key::tenant(TenantId::generate(), "rights", "user"),
            Key::tenant(TenantId::generate(), "rights", "user"),
        );
        let bytes = seal(&key, "full", &1).unwrap();
        assert_eq!(open::<i32>(&key, "fuller", &bytes), Err(OpenError::Foreign));
        assert_eq!(open::<i32>(&other, "full", &bytes), Err(OpenError::Foreign));
    }

    #[test]
    fn garbage_and_other_shapes_are_refused() {
        let key = Key::platform("keys", "jwks");
        let bytes = seal(&key, "full", &"text").unwrap();
        assert_eq!(open::<i32>(&key, "full", &bytes), Err(OpenError::Form));
        for garbage in [&b""[..], b"null", b"{\"form\":2}", b"\xff\xfe", b"[[[[[[[[["] {
            assert_eq!(open::<i32>(&key, "full", garbage), Err(OpenError::Form));
        }
    }
}

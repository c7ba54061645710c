//! The three files of a service's folder.

use std::path::Path;

use crate::material::CertificateError;

/// How often they are read until two readings are the same. Each takes less than a millisecond.
const READINGS_MAX: usize = 10;

/// What the files hold, in PEM. It holds a private key, so it has no `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Files {
    /// The service's own certificate, then those that lead to an authority.
    pub(crate) chain: Vec<u8>,
    pub(crate) key: Vec<u8>,
    /// Whom others are known by.
    pub(crate) authorities: Vec<u8>,
}

// === impl Files ===

impl Files {
    /// Reads them until nothing changes in between: some might be of before and some of after.
    pub(crate) async fn read(folder: &Path) -> Result<Self, CertificateError> {
        let mut last = Self::read_once(folder).await?;
        for _ in 1..READINGS_MAX {
            let next = Self::read_once(folder).await?;
            if next == last {
                return Ok(next);
            }
            last = next;
        }
        Err(CertificateError::Changing)
    }

    /// The same certificate, beside the authorities of others.
    pub(crate) fn with_authorities_of(&self, other: &Self) -> Self {
        Self {
            chain: self.chain.clone(),
            key: self.key.clone(),
            authorities: other.authorities.clone(),
        }
    }

    /// Names as in a `kubernetes.io/tls` Secret.
    async fn read_once(folder: &Path) -> Result<Self, CertificateError> {
        Ok(Self {
            chain: read(folder, "tls.crt").await?,
            key: read(folder, "tls.key").await?,
            authorities: read(folder, "ca.crt").await?,
        })
    }
}

async fn read(folder: &Path, file: &'static str) -> Result<Vec<u8>, CertificateError> {
    let read = tokio::fs::read(folder.join(file)).await;
    read.map_err(|fault| CertificateError::Read { file, fault })
}

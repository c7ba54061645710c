//! The three files of a service's folder.

use std::io;
use std::path::Path;

/// What the files hold, in PEM. It holds a private key, so it has no `Debug`.
#[derive(PartialEq, Eq)]
pub(crate) struct Files {
    /// The service's own certificate, then those that lead to an authority.
    pub(crate) chain: Vec<u8>,
    pub(crate) key: Vec<u8>,
    /// Whom others are known by.
    pub(crate) authorities: Vec<u8>,
}

impl Files {
    /// Names as in a `kubernetes.io/tls` Secret.
    const NAMES: [&str; 3] = ["tls.crt", "tls.key", "ca.crt"];

    pub(crate) async fn read(folder: &Path) -> io::Result<Self> {
        let [chain, key, authorities] = Self::NAMES.map(|name| folder.join(name));
        Ok(Self {
            chain: tokio::fs::read(chain).await?,
            key: tokio::fs::read(key).await?,
            authorities: tokio::fs::read(authorities).await?,
        })
    }
}

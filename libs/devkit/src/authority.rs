//! An authority of a test's own, and the certificates that it gives to services.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

use crate::secrets::{random_word, write_private};

/// How long certificates hold that nobody wants shorter: longer than any test.
const LIFETIME: Duration = Duration::from_secs(3_600);

/// An authority.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

/// A certificate and its key, in PEM.
#[derive(Clone)]
pub struct Issued {
    /// The certificate.
    pub certificate: String,
    /// Its private key.
    pub key: String,
}

impl Authority {
    /// An authority with a key of its own. `name`: for whoever reads an error.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn new(name: &str) -> Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?.pem();
        Ok(Self {
            issuer: Issuer::new(params, key),
            certificate,
        })
    }

    /// Its own certificate, in PEM: what `ca.crt` holds.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// A certificate with DNS names, such as `crm.rowhouse.internal`, for an hour.
    ///
    /// # Errors
    /// When a name is none.
    pub fn issue(&self, names: &[&str]) -> Result<Issued> {
        let now = SystemTime::now();
        self.issue_for(names, now - LIFETIME, now + LIFETIME)
    }

    /// As [`Self::issue`], good from `from` to `until`.
    ///
    /// # Errors
    /// As [`Self::issue`].
    pub fn issue_for(&self, names: &[&str], from: SystemTime, until: SystemTime) -> Result<Issued> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names)?;
        params.not_before = from.into();
        params.not_after = until.into();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer).context("a certificate")?;
        Ok(Issued {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }
}

impl Issued {
    /// Makes the folder of `ROWHOUSE_TLS_DIR`, or puts another in its place in one step, as Kubernetes does: it is a `link`.
    /// `trusted`: whom its owner knows others by.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, link: &Path, trusted: &[&Authority]) -> Result<()> {
        let folder = link.with_extension(random_word());
        fs::create_dir_all(&folder)?;
        let authorities: String = trusted.iter().map(|authority| authority.certificate.as_str()).collect();
        write_private(&folder.join("ca.crt"), authorities.as_bytes())?;
        write_private(&folder.join("tls.crt"), self.certificate.as_bytes())?;
        write_private(&folder.join("tls.key"), self.key.as_bytes())?;
        let next = folder.with_extension("next");
        symlink(&folder, &next)?;
        Ok(fs::rename(next, link)?)
    }
}

// It holds a private key.
impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issued").finish_non_exhaustive()
    }
}

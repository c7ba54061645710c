//! Who this process is to the other services: what it shows when it calls them.

use rowhouse_auth_kit::{KeyError, ServiceSigner};
use rowhouse_config::section;
use rowhouse_context::ServiceName;
use rowhouse_tls::{CertificateError, Certificates};

/// What this process shows when it calls another service: its certificate over TLS, else a token. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Identity {
    name: ServiceName,
    signer: Option<ServiceSigner>,
    certificates: Option<Certificates>,
}

/// What this process should show cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The key of its tokens.
    #[error("ROWHOUSE_SERVICE_KEY cannot be used")]
    Key(#[from] KeyError),
    /// Its certificates.
    #[error("ROWHOUSE_TLS_DIR cannot be used")]
    Certificates(#[from] CertificateError),
}

// === impl Identity ===

impl Identity {
    /// The identity of service `name`, as it is configured.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub async fn load(name: ServiceName, section: &section::Identity) -> Result<Self, IdentityError> {
        let signer = section.key.as_ref().map(|seed| ServiceSigner::new(name, seed.expose()));
        let certificates = match &section.tls {
            Some(tls) => Some(Certificates::load(name, tls).await?),
            None => None,
        };
        Ok(Self {
            name,
            signer: signer.transpose()?,
            certificates,
        })
    }

    /// Which service we are.
    #[must_use]
    pub fn name(&self) -> ServiceName {
        self.name
    }

    /// What tokens are made with, where there are some.
    #[must_use]
    pub fn signer(&self) -> Option<&ServiceSigner> {
        self.signer.as_ref()
    }

    /// What is shown over TLS, where it is configured. Others are met with them too: for `Security`.
    #[must_use]
    pub fn certificates(&self) -> Option<&Certificates> {
        self.certificates.as_ref()
    }
}

/// Tokens alone.
impl From<ServiceSigner> for Identity {
    fn from(signer: ServiceSigner) -> Self {
        Self {
            name: signer.name(),
            signer: Some(signer),
            certificates: None,
        }
    }
}

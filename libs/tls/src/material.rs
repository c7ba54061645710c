//! What the files say, checked as a peer would check it.

use std::fmt;
use std::io;
use std::sync::Arc;

use rowhouse_context::ServiceName;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::files::Files;
use crate::name::{self, NoName};

/// HTTP/2 (RFC 9113, 3.2).
const PROTOCOL: &[u8] = b"h2";

/// What a service shows and whom it trusts.
pub(crate) struct Material {
    pub(crate) server: Arc<ServerConfig>,
    pub(crate) client: Arc<ClientConfig>,
    /// When the service's own certificate ends, in seconds since 1970.
    pub(crate) expires: i64,
    /// Why a peer with the same authorities would not take the certificate now.
    pub(crate) flaw: Option<rustls::Error>,
}

/// The files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// One of them cannot be read.
    #[error("{file} cannot be read: {fault}")]
    Read {
        /// Which.
        file: &'static str,
        /// What the system says.
        fault: io::Error,
    },
    /// They were written while they were read, and may not belong together.
    #[error("the files change each time they are read")]
    Changing,
    /// One of them is not what its name says.
    #[error("{file} holds no {what} in PEM")]
    Damaged {
        /// Which.
        file: &'static str,
        /// What it should hold.
        what: &'static str,
    },
    /// They do not fit together, or are not valid now.
    #[error("the certificate cannot be used: {0}")]
    Refused(rustls::Error),
    /// An authority cannot be trusted, or there is none.
    #[error("the authorities cannot be used: {0}")]
    Authorities(rustls::server::VerifierBuilderError),
    /// The certificate names no service.
    #[error(transparent)]
    NoName(#[from] NoName),
    /// It is another service's.
    #[error("the certificate is of service {0}")]
    Foreign(ServiceName),
}

// === impl Material ===

impl Material {
    /// Reads the files of service `own`. The certificate is its own and fits its key; whether it holds now, `flaw` says.
    pub(crate) fn read(files: &Files, own: ServiceName) -> Result<Self, CertificateError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let chain = certificates(&files.chain, "tls.crt")?;
        let key = PrivateKeyDer::from_pem_slice(&files.key).map_err(|_| damaged("tls.key", "private key"))?;
        let mut authorities = RootCertStore::empty();
        for authority in certificates(&files.authorities, "ca.crt")? {
            authorities.add(authority)?;
        }
        let authorities = Arc::new(authorities);
        let (leaf, between) = chain.split_first().ok_or(damaged("tls.crt", "certificate"))?;
        let named = name::read(leaf)?;
        if named != own {
            return Err(CertificateError::Foreign(named));
        }
        let expires = expires(leaf)?;
        let clients = WebPkiClientVerifier::builder_with_provider(authorities.clone(), provider.clone()).build()?;
        let servers = WebPkiServerVerifier::builder_with_provider(authorities, provider.clone()).build()?;
        // As those who are called and those who call will.
        let called = servers.verify_server_cert(leaf, between, &server_name(own)?, &[], UnixTime::now());
        let calls = clients.verify_client_cert(leaf, between, UnixTime::now());
        let flaw = called.err().or(calls.err());
        let own = Arc::new(CertifiedKey::from_der(chain, key, &provider)?);
        Ok(Self {
            server: Arc::new(server(provider.clone(), clients, own.clone())?),
            client: Arc::new(client(provider, servers, own)?),
            expires,
            flaw,
        })
    }
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Material")
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

/// The name that the service must show.
pub(crate) fn server_name(service: ServiceName) -> Result<ServerName<'static>, rustls::Error> {
    let name = ServerName::try_from(name::of(service));
    name.map_err(|_| rustls::Error::General("a service's name is a DNS name".to_owned()))
}

fn server(
    provider: Arc<CryptoProvider>,
    clients: Arc<dyn ClientCertVerifier>,
    own: Arc<CertifiedKey>,
) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(own)));
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    // A resumed session is not asked for its certificate again, which may have ended since.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn client(
    provider: Arc<CryptoProvider>,
    servers: Arc<WebPkiServerVerifier>,
    own: Arc<CertifiedKey>,
) -> Result<ClientConfig, rustls::Error> {
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_webpki_verifier(servers)
        .with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(own)));
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn certificates(pem: &[u8], file: &'static str) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match read {
        Ok(read) if !read.is_empty() => Ok(read),
        _ => Err(damaged(file, "certificate")),
    }
}

fn expires(certificate: &[u8]) -> Result<i64, CertificateError> {
    let (_, certificate) = X509Certificate::from_der(certificate).map_err(|_| damaged("tls.crt", "certificate"))?;
    Ok(certificate.validity().not_after.timestamp())
}

fn damaged(file: &'static str, what: &'static str) -> CertificateError {
    CertificateError::Damaged { file, what }
}

// Written out: an error that shows its cause in its own text must not have it as a source too.
impl From<rustls::Error> for CertificateError {
    fn from(error: rustls::Error) -> Self {
        Self::Refused(error)
    }
}

impl From<rustls::server::VerifierBuilderError> for CertificateError {
    fn from(error: rustls::server::VerifierBuilderError) -> Self {
        Self::Authorities(error)
    }
}

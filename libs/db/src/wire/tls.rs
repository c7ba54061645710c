//! TLS towards PostgreSQL and `PgBouncer`: rustls on aws-lc-rs, certificates always verified.

use std::fs;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres_rustls::MakeRustlsConnect;

/// What a URL says about TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wish {
    wanted: bool,
    unknown: bool,
    /// Percent-decoding is not needed for a path that an operator chooses.
    root_certificates: Option<String>,
}

/// Takes what concerns TLS out of the URL's parameters: the driver does not know all of libpq's words for it.
pub(super) fn split(url: &str) -> (String, Wish) {
    let mut wish = Wish::default();
    let Some((base, query)) = url.split_once('?') else {
        return (url.to_owned(), wish);
    };
    let mut kept = Vec::new();
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        match parameter.split_once('=') {
            Some(("sslmode", "disable" | "allow" | "prefer")) => wish.wanted = false,
            Some(("sslmode", "require" | "verify-ca" | "verify-full")) => wish.wanted = true,
            Some(("sslmode", _)) => wish.unknown = true,
            Some(("sslrootcert", file)) => wish.root_certificates = Some(file.to_owned()),
            _ => kept.push(parameter),
        }
    }
    if kept.is_empty() {
        (base.to_owned(), wish)
    } else {
        (format!("{base}?{}", kept.join("&")), wish)
    }
}

/// A connector where TLS is asked for.
pub(super) fn connector(wish: &Wish) -> Result<Option<MakeRustlsConnect>, String> {
    if wish.unknown {
        return Err("unknown sslmode".to_owned());
    }
    if !wish.wanted {
        return Ok(None);
    }
    let mut roots = RootCertStore::empty();
    if let Some(file) = &wish.root_certificates {
        let pem = fs::read(file).map_err(|error| format!("sslrootcert cannot be read: {error}"))?;
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate.map_err(|error| format!("sslrootcert is not PEM: {error}"))?;
            roots
                .add(certificate)
                .map_err(|error| format!("sslrootcert: {error}"))?;
        }
    } else {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Some(MakeRustlsConnect::new(config)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_libpq_are_taken_out_of_the_url() {
        let (url, wish) = split("postgres://u:p@h:1/d?sslmode=verify-full&sslrootcert=/ca.pem&connect_timeout=3");
        assert_eq!(url, "postgres://u:p@h:1/d?connect_timeout=3");
        assert!(wish.wanted);
        assert_eq!(wish.root_certificates.as_deref(), Some("/ca.pem"));
        let (url, wish) = split("postgres://u:p@h:1/d?sslmode=disable");
        assert_eq!(url, "postgres://u:p@h:1/d");
        assert!(connector(&wish).unwrap().is_none());
    }

    #[test]
    fn an_unknown_word_is_refused_and_not_taken_as_no() {
        let (_, wish) = split("postgres://h/d?sslmode=requires");
        assert!(connector(&wish).is_err());
    }

    #[test]
    fn tls_is_built_with_public_authorities() {
        let (_, wish) = split("postgres://h/d?sslmode=require");
        assert!(connector(&wish).unwrap().is_some());
    }
}

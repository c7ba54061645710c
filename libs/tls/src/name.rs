//! The name of a service in its certificate: `crm.rowhouse.internal`, a DNS name among the subject's alternative names
//! (RFC 5280, 4.2.1.6). It says who the service is and not where it runs: nobody resolves it, and `internal` is reserved for
//! private use (ICANN, 2024).

use rowhouse_context::ServiceName;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// What the names of services end in.
const SUFFIX: &str = ".rowhouse.internal";

/// The certificate names no service, or more than one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the certificate must have one DNS name of the form <service>{SUFFIX}")]
pub struct NoName;

/// The name that the certificate of a service must have.
#[must_use]
pub fn of(service: ServiceName) -> String {
    format!("{service}{SUFFIX}")
}

/// Whose certificate this is. It must have been verified: anybody can write a name into one.
///
/// `certificate`: in DER.
///
/// # Errors
/// [`NoName`].
pub fn read(certificate: &[u8]) -> Result<ServiceName, NoName> {
    let (_, certificate) = X509Certificate::from_der(certificate).map_err(|_| NoName)?;
    let names = certificate
        .subject_alternative_name()
        .map_err(|_| NoName)?
        .ok_or(NoName)?;
    // DNS names are the same in upper case (RFC 4343).
    let mut ours = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => name.to_ascii_lowercase().strip_suffix(SUFFIX).map(str::to_owned),
        _ => None,
    });
    match (ours.next(), ours.next()) {
        (Some(service), None) => service.parse().map_err(|_| NoName),
        _ => Err(NoName),
    }
}

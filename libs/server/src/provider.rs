//! The one TLS provider of the process.

/// Installs aws-lc-rs as rustls's provider for the whole process. Clients of servers (PostgreSQL, Redis, RabbitMQ,
/// SMTP, OTLP) take it from there. A second call changes nothing.
pub fn install() {
    let _already_installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

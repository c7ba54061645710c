//! Nobody sees another tenant's byte, and nobody acts with rights that were taken.

mod certificates;
mod end_of_tenant;
mod foreign_ids;
mod hostile_names;
mod hostile_texts;
mod hostile_tokens;
mod impersonation;
mod interleaved;
mod keys;
mod refresh_families;
mod revocation;
mod secrets;
mod tenant_metadata;

//! Tests on the real services.

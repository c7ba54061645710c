//! The statements fit the schema, and the schema keeps the rules of tenants' tables (T08).

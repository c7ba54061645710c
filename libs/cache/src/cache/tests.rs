//! The cache against a real Redis.

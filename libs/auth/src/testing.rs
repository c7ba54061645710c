//! Hostile tokens, for tests of whatever verifies tokens.

//! Logging in and out, and refreshing, on a real database.

mod login;
mod refresh;

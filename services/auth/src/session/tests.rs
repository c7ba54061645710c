//! Logging in and out, and refreshing, on a real database.

mod failed;
mod families;
mod login;
mod refresh;
mod timing;

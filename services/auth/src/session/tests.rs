//! Logging in and out, and refreshing, on a real database.

mod bounds;
mod ends;
mod failed;
mod families;
mod login;
mod prune;
mod refresh;
mod timing;

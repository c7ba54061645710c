//! What the tests on the running suite share.

pub(crate) mod collector;
pub(crate) mod cut;
pub(crate) mod database;
pub(crate) mod letters;
pub(crate) mod own_redis;
pub(crate) mod raw;
pub(crate) mod redis;
pub(crate) mod second_factor;
pub(crate) mod services;
pub(crate) mod world;

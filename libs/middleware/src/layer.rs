//! The layers, one per file. Each is a function for `axum::middleware::from_fn_with_state`; their order stands in
//! [`crate::stack`] and nowhere else.

pub(crate) mod authentication;
pub(crate) mod authorisation;
pub(crate) mod catch_panic;
pub(crate) mod completion;
pub(crate) mod deadline;
pub(crate) mod load_shed;
pub(crate) mod metadata_size;
pub(crate) mod metrics;
pub(crate) mod own_task;
pub(crate) mod policy;
pub(crate) mod quota;
pub(crate) mod refusal;
pub(crate) mod request_id;
pub(crate) mod span;
pub(crate) mod tenant;

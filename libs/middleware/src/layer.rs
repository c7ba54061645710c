//! The layers, one per file: each a function of the request and of [`Next`], what lies inside of it. Their order stands in
//! [`crate::stack`] and nowhere else.

use std::future::Future;

use axum::extract::Request;
use axum::response::Response;

use crate::body::Inner;

pub(crate) mod access;
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

/// What lies inside of a layer. Known to the compiler, so that all layers together are one future: `axum::middleware` would box
/// each and clone whatever lies inside of it.
pub(crate) trait Next: Send {
    /// The body of its answers.
    type Body: Inner;

    /// Answers the call. The request is boxed: a layer's future has room for its arguments twice, and is moved into the one of the
    /// layer outside.
    fn run(self, request: Box<Request>) -> impl Future<Output = Response<Self::Body>> + Send;
}

impl<F, Fut, B> Next for F
where
    F: FnOnce(Box<Request>) -> Fut + Send,
    Fut: Future<Output = Response<B>> + Send,
    B: Inner,
{
    type Body = B;

    fn run(self, request: Box<Request>) -> impl Future<Output = Response<B>> + Send {
        self(request)
    }
}

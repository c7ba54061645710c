//! What the tests of calls with a request id have in common.

use std::fmt::Debug;

use rowhouse_status::{Failure, Reason};

use super::bench::Bench;
use crate::error::Error;

/// What a call answers whose caller does not hear it and calls again: twice at once, and later.
pub(crate) async fn answers_alike<T, F>(bench: &Bench, call: impl Fn() -> F) -> T
where
    T: Debug + PartialEq + Send + 'static,
    F: Future<Output = Result<T, Error>> + Send + 'static,
{
    let (first, second) = bench.meet("auth.tenants", call(), call()).await;
    let first = first.unwrap();
    assert_eq!(second.unwrap(), first, "of two at once");
    assert_eq!(call().await.unwrap(), first, "later");
    first
}

/// Whether the request id of a call that was refused was another's.
pub(crate) fn is_reused<T: Debug>(answer: Result<T, Error>) {
    let refused = answer.unwrap_err();
    assert!(matches!(refused, Error::RequestIdReused), "{refused:?}");
    let refused = Failure::from(refused);
    assert_eq!(refused.reason(), Reason::RequestIdReused);
    assert_eq!(refused.violations()[0].field, "request_id");
}

/// The 24 hours are over in which calls may be repeated.
pub(crate) async fn a_day_passes(bench: &Bench) {
    let over = "UPDATE auth.requests SET expires_at = now() - interval '1 s'";
    bench.execute(over).await;
}

//! Completes the statuses that others made: tonic's own for an empty body, a size, an unknown method; a handler's
//! without details.

use axum::extract::Request;
use axum::response::Response;
use http::HeaderMap;
use rowhouse_context::RequestId;
use rowhouse_status::wire;
use tonic::{Code, Status};

use crate::body::{Watch, Watched, unwatched, watched};
use crate::layer::Next;
use crate::layer::metrics::code_of;

/// Adds what is missing to every status that is not OK, in headers (nothing was sent yet) or trailers.
pub(crate) async fn layer<N: Next>(request: Box<Request>, next: N) -> Response<Watched<N::Body, Completed>> {
    let id = request.extensions().get::<RequestId>().cloned();
    let id = id.unwrap_or_else(RequestId::generate);
    let response = next.run(request).await;
    match (failed(response.headers()), code_of(response.headers())) {
        (Some(status), _) => wire::complete(status, id.as_str()).into_http(),
        (None, Some(_)) => unwatched(response),
        (None, None) => watched(response, Completed { id }),
    }
}

/// The status in headers or trailers that is not OK. Only then is it read, which copies them.
fn failed(headers: &HeaderMap) -> Option<Status> {
    code_of(headers).filter(|code| *code != Code::Ok)?;
    Status::from_header_map(headers)
}

pub(crate) struct Completed {
    id: RequestId,
}

impl Watch for Completed {
    fn trailers(&mut self, trailers: HeaderMap) -> HeaderMap {
        let Some(status) = failed(&trailers) else {
            return trailers;
        };
        let mut completed = HeaderMap::new();
        match wire::complete(status, self.id.as_str()).add_header(&mut completed) {
            Ok(()) => completed,
            Err(_) => trailers,
        }
    }
}

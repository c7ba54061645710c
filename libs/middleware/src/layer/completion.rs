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

/// Adds what is missing to every status that is not OK, in headers (nothing was sent yet) or trailers.
pub(crate) async fn layer<N: Next>(request: Box<Request>, next: N) -> Response<Watched<N::Body, Completed>> {
    let id = request.extensions().get::<RequestId>().cloned();
    let id = id.unwrap_or_else(RequestId::generate);
    let response = next.run(request).await;
    match Status::from_header_map(response.headers()) {
        Some(status) if status.code() != Code::Ok => wire::complete(status, id.as_str()).into_http(),
        Some(_) => unwatched(response),
        None => watched(response, Completed { id }),
    }
}

pub(crate) struct Completed {
    id: RequestId,
}

impl Watch for Completed {
    fn trailers(&mut self, trailers: HeaderMap) -> HeaderMap {
        match Status::from_header_map(&trailers) {
            Some(status) if status.code() != Code::Ok => {
                let mut completed = HeaderMap::new();
                match wire::complete(status, self.id.as_str()).add_header(&mut completed) {
                    Ok(()) => completed,
                    Err(_) => trailers,
                }
            }
            _ => trailers,
        }
    }
}

//! The deadline of a call: what the client asks for, capped. tonic's own answers CANCELLED and ignores what it cannot
//! read; this one answers DEADLINE_EXCEEDED and refuses it.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::HeaderMap;
use http_body::Frame;
use rowhouse_context::metadata;
use rowhouse_status::{Failure, Reason};
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};
use tonic::Status;

use crate::answer;
use crate::body::{Inner, Item, Watch, Watched, watched};
use crate::layer::Next;
use crate::stack::Shared;

/// Longest time for a request's message to arrive, whatever the deadline: a slow sender holds a place that others wait
/// for. 4 MiB in this time are 1.7 Mbit/s.
const RECEIVE_TIME_MAX: Duration = Duration::from_secs(20);

/// Most digits of `grpc-timeout` (gRPC over HTTP/2, `TimeoutValue`).
const DIGITS_MAX: usize = 8;

/// When the call ends, in the request's extensions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    pub(crate) at: Instant,
}

/// Ends the call at its deadline: before the answer, within a stream, and while the request still arrives.
pub(crate) async fn layer<N: Next>(
    shared: &Shared,
    mut request: Box<Request>,
    next: N,
) -> Response<Watched<N::Body, Sending>> {
    let time = match read(request.headers()) {
        Ok(asked) => asked.map_or(shared.limits.deadline_max, |asked| {
            asked.min(shared.limits.deadline_max)
        }),
        Err(failure) => return answer::refuse(failure),
    };
    if time.is_zero() {
        return answer::refuse(expired());
    }
    let now = Instant::now();
    let at = now + time;
    request.extensions_mut().insert(Deadline { at });
    let receive_until = Bound::new(at.min(now + RECEIVE_TIME_MAX));
    let body = std::mem::take(request.body_mut());
    *request.body_mut() = Body::new(Watched::new(body, Some(Receiving { bound: receive_until })));
    match timeout_at(at, next.run(request)).await {
        Ok(response) => watched(response, Sending { bound: Bound::new(at) }),
        Err(_) => answer::refuse(expired()),
    }
}

fn expired() -> Failure {
    Failure::new(Reason::DeadlineExceeded, "the call did not finish within its deadline")
}

/// Reads `grpc-timeout`: 1 to 8 digits and a unit. A value that the format allows is never refused for its size.
fn read(headers: &HeaderMap) -> Result<Option<Duration>, Failure> {
    let mut values = headers.get_all(metadata::GRPC_TIMEOUT).iter();
    let time = match (values.next(), values.next()) {
        (None, _) => return Ok(None),
        (Some(value), None) => value.to_str().ok().and_then(parse),
        (Some(_), Some(_)) => None,
    };
    time.map(Some).ok_or_else(|| {
        Failure::new(
            Reason::MetadataInvalid,
            "grpc-timeout must be sent once: 1 to 8 digits and one of H M S m u n",
        )
    })
}

fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if !(1..=DIGITS_MAX).contains(&digits.len()) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(number.saturating_mul(3_600))),
        "M" => Some(Duration::from_secs(number.saturating_mul(60))),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

/// The body of an answer: at the deadline its stream ends with a status.
pub(crate) struct Sending {
    bound: Bound,
}

/// The body of a request: at its bound the handler that reads it hears of it.
struct Receiving {
    bound: Bound,
}

/// A time until which may be waited. Nearly every body is there when it is asked for and needs no timer.
struct Bound {
    at: Instant,
    sleep: Option<Pin<Box<Sleep>>>,
}

// === impl Sending ===

impl Watch for Sending {
    fn poll(&mut self, inner: Pin<&mut impl Inner>, cx: &mut Context<'_>) -> Poll<Item> {
        if let Poll::Ready(item) = inner.poll_frame(cx) {
            return Poll::Ready(item);
        }
        let over = self.bound.poll(cx);
        over.map(|()| Some(Ok(Frame::trailers(answer::trailers(expired())))))
    }
}

// === impl Receiving ===

impl Watch for Receiving {
    fn poll(&mut self, inner: Pin<&mut impl Inner>, cx: &mut Context<'_>) -> Poll<Item> {
        if let Poll::Ready(item) = inner.poll_frame(cx) {
            return Poll::Ready(item);
        }
        let over = self.bound.poll(cx);
        over.map(|()| Some(Err(axum::Error::new(Status::from(expired())))))
    }
}

// === impl Bound ===

impl Bound {
    fn new(at: Instant) -> Self {
        Self { at, sleep: None }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(self.at)));
        sleep.as_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_format_allows_is_read() {
        for (text, time) in [
            ("0n", Duration::ZERO),
            ("1n", Duration::from_nanos(1)),
            ("250m", Duration::from_millis(250)),
            ("99999999u", Duration::from_micros(99_999_999)),
            ("2M", Duration::from_secs(120)),
            ("99999999H", Duration::from_secs(99_999_999 * 3_600)),
        ] {
            assert_eq!(parse(text), Some(time), "{text}");
        }
    }

    #[test]
    fn what_it_does_not_allow_is_refused() {
        for text in [
            "",
            "n",
            "1",
            "1 S",
            "-1S",
            "+1S",
            "1.5S",
            "1s",
            "1h",
            "123456789n",
            "1Sn",
            "\u{661}S",
            "1\u{e4}",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}

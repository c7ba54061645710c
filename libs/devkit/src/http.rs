//! Plain HTTP on loopback: RabbitMQ's management API and the services' admin ports.

use std::time::Duration;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Everything asked here is answered from memory on the same machine.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Sends a request without a body and returns status and text.
///
/// # Errors
/// When there is no answer within 10 s.
pub async fn request(method: &'static str, url: &str) -> Result<(u16, String)> {
    let url = url.to_owned();
    tokio::task::spawn_blocking(move || blocking_request(method, &url)).await?
}

/// What the one who answers takes for the time: the `Date` of its answer (RFC 9110, section 6.6.1).
///
/// # Errors
/// When there is no answer within 10 s, or it does not say.
pub async fn date(url: &str) -> Result<String> {
    let url = url.to_owned();
    let answer = tokio::task::spawn_blocking(move || send("GET", &url)).await??;
    let date = answer.headers().get("date").context("the answer has no date")?;
    Ok(date.to_str()?.to_owned())
}

/// As [`request`], blocking, for use in `Drop`. User and password in the URL are sent as basic authentication.
///
/// # Errors
/// As [`request`].
pub fn blocking_request(method: &str, url: &str) -> Result<(u16, String)> {
    let mut answer = send(method, url)?;
    let text = answer.body_mut().read_to_string()?;
    Ok((answer.status().as_u16(), text))
}

fn send(method: &str, url: &str) -> Result<ureq::http::Response<ureq::Body>> {
    let (address, credentials) = split_credentials(url);
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(TIMEOUT))
        .http_status_as_error(false)
        // A proxy of the machine has no business with loopback.
        .proxy(None)
        .allow_non_standard_methods(true)
        .build()
        .into();
    let mut builder = ureq::http::Request::builder().method(method).uri(&address);
    if let Some(credentials) = credentials {
        builder = builder.header("authorization", format!("Basic {}", STANDARD.encode(credentials)));
    }
    let request = builder.header("content-type", "application/json").body(())?;
    agent.run(request).with_context(|| format!("{method} {address}"))
}

fn split_credentials(url: &str) -> (String, Option<&str>) {
    let split = url.split_once("://").and_then(|(scheme, rest)| {
        let (credentials, address) = rest.split_once('@')?;
        (!credentials.contains('/')).then(|| (format!("{scheme}://{address}"), Some(credentials)))
    });
    split.unwrap_or_else(|| (url.to_owned(), None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_leave_the_address() {
        let (address, credentials) = split_credentials("http://me:secret@127.0.0.1:1/api");
        assert_eq!(
            (address.as_str(), credentials),
            ("http://127.0.0.1:1/api", Some("me:secret"))
        );
        assert_eq!(
            split_credentials("http://127.0.0.1/a@b"),
            ("http://127.0.0.1/a@b".to_owned(), None)
        );
    }
}

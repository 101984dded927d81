//! The key set behind a URL.

use std::error::Error;
use std::time::Duration;

use reqwest::header::ACCEPT;
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode, Url};

use super::key_set::KeySet;

/// The largest key set, in bytes.
pub(super) const KEY_SET_BYTES_MAX: usize = 1 << 20;

/// The longest time that a key set has to arrive.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);

/// Returns a client for the key set behind a URL.
///
/// # Errors
///
/// The client cannot be created. The error says why.
pub(super) fn client(url: &Url) -> Result<Client, String> {
    // reqwest uses the process-wide provider, which may have been installed already.
    let _result = rustls::crypto::ring::default_provider().install_default();
    let builder = Client::builder();
    // What is meant for this machine must not pass a proxy, which could put in keys of its own.
    let builder = if url.scheme() == "http" { builder.no_proxy() } else { builder };
    builder
        .timeout(FETCH_TIMEOUT)
        // A redirect could leave TLS.
        .redirect(Policy::none())
        .user_agent(concat!("callpark/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| format!("cannot create an HTTP client: {error}"))
}

/// Returns the key set behind a URL.
///
/// # Errors
///
/// The key set did not arrive, or the answer is not one. The error says why.
pub(super) async fn fetch(client: &Client, url: &Url) -> Result<KeySet, String> {
    let request =
        client.get(url.clone()).header(ACCEPT, "application/jwk-set+json, application/json");
    let mut response = request.send().await.map_err(reason)?;
    if response.status() != StatusCode::OK {
        return Err(format!("the answer has the status {}, not 200", response.status()));
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(reason)? {
        if body.len() + chunk.len() > KEY_SET_BYTES_MAX {
            return Err("the answer is larger than 1 MiB".to_owned());
        }
        body.extend_from_slice(&chunk);
    }
    KeySet::parse(&body)
}

/// Returns an error with its causes, without the URL.
fn reason(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

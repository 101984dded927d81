//! Bodies and statuses of HTTP responses.

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::Response;
use rmcp::transport::streamable_http_client::StreamableHttpError;

use super::excerpt::excerpt;
use super::http_request::unexpected;
use crate::exec::LINE_BYTES_MAX;

/// The part of the body of an error that is read, in bytes.
const BEGINNING_BYTES: usize = 64 << 10;

/// Reads a whole body.
pub(super) async fn read_body(
    mut response: Response,
) -> Result<Bytes, StreamableHttpError<reqwest::Error>> {
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > LINE_BYTES_MAX {
            return Err(unexpected(too_large()));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// Reads the beginning of a body, as far as it comes.
pub(super) async fn read_beginning(mut response: Response) -> Bytes {
    let mut body = BytesMut::new();
    while body.len() < BEGINNING_BYTES
        && let Ok(Some(chunk)) = response.chunk().await
    {
        body.extend_from_slice(&chunk);
    }
    body.truncate(BEGINNING_BYTES);
    body.freeze()
}

/// Returns the end of a sentence about a message that is too large.
pub(super) fn too_large() -> String {
    format!("it sent a message of more than {} MiB", LINE_BYTES_MAX >> 20)
}

/// Returns the media type of a body, in lower case and without its parameters.
pub(super) fn media_type(response: &Response) -> String {
    let header = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = header.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    kind.to_ascii_lowercase()
}

/// Describes the status of a response, and when the request may be sent again.
pub(super) fn describe_status(response: &Response) -> String {
    let status = response.status();
    let again = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let again = match again.map(str::trim) {
        Some(seconds) if seconds.parse::<u64>().is_ok() => {
            format!(" (try again after {seconds} s)")
        }
        Some(date) if !date.is_empty() => format!(" (try again after {})", excerpt(date)),
        _ => String::new(),
    };
    format!("it answered with HTTP {status}{again}")
}

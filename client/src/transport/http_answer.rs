//! Answers that are not gRPC, such as the error page of a proxy.

use std::{
    error::Error as StdError,
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body::Body as _;
use tokio::time::timeout;
use tonic::{Code, Status, body::Body, transport::Channel};
use tower::{Service as _, ServiceExt as _};

use crate::transport::fault::{ConnectFault, Faults};

/// The number of bytes of a page that are read.
const PAGE_BYTES_MAX: usize = 4096;
/// The time that reading a page may take.
const PAGE_TIME_MAX: Duration = Duration::from_secs(1);
/// The number of characters of a page that an error shows.
const EXCERPT_CHARS_MAX: usize = 160;

pub(super) type BoxError = Box<dyn StdError + Send + Sync>;

/// A connection that turns answers that are not gRPC, and its own fault, into errors that say so.
#[derive(Clone)]
pub(crate) struct CheckedChannel {
    channel: Channel,
    faults: Faults,
    /// Set once anything has been answered.
    answered: Arc<AtomicBool>,
}

impl CheckedChannel {
    pub(super) fn new(channel: Channel, faults: Faults, answered: Arc<AtomicBool>) -> Self {
        Self { channel, faults, answered }
    }

    pub(super) async fn send(mut self, request: Request<Body>) -> Result<Response<Body>, BoxError> {
        let answer = match self.channel.ready().await {
            Ok(channel) => channel.call(request).await,
            Err(error) => Err(error),
        };
        if answer.is_ok() {
            self.answered.store(true, Ordering::Relaxed);
        }
        match answer {
            Ok(answer) if is_grpc(&answer) => Ok(answer),
            Ok(answer) => Err(not_grpc(answer).await.into()),
            Err(error) => Err(match self.faults.newest() {
                Some(fault) => of_fault(fault).into(),
                None => error.into(),
            }),
        }
    }
}

pub(super) fn of_fault(fault: ConnectFault) -> Status {
    let mut status = Status::unavailable(fault.to_string());
    status.set_source(Arc::new(fault));
    status
}

/// Returns whether gRPC answered. A proxy that answers in gRPC sends a status of its own.
fn is_grpc(answer: &Response<Body>) -> bool {
    if answer.headers().contains_key(Status::GRPC_STATUS) {
        return true;
    }
    let content_type =
        answer.headers().get(header::CONTENT_TYPE).map(header::HeaderValue::as_bytes);
    let is_grpc = content_type.is_none_or(|name| name.starts_with(b"application/grpc"));
    answer.status() == StatusCode::OK && is_grpc
}

/// An answer in HTTP that is not gRPC.
#[derive(Clone, Debug)]
pub(crate) struct HttpAnswer {
    status: StatusCode,
    /// The program that answered, as it calls itself.
    server: Option<String>,
    /// The first words of the body.
    excerpt: String,
    /// The time to wait before the next attempt.
    pub(crate) retry_delay: Option<Duration>,
}

impl fmt::Display for HttpAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the answer is HTTP {} instead of gRPC", self.status)?;
        if let Some(server) = &self.server {
            write!(f, ", from {server}")?;
        }
        match self.excerpt.as_str() {
            "" => Ok(()),
            excerpt => write!(f, ": {excerpt}"),
        }
    }
}

impl StdError for HttpAnswer {}

async fn not_grpc(answer: Response<Body>) -> Status {
    let (head, body) = answer.into_parts();
    let answer = HttpAnswer {
        status: head.status,
        server: text(&head.headers, header::SERVER).map(excerpt),
        excerpt: excerpt(&String::from_utf8_lossy(&beginning(body).await)),
        retry_delay: text(&head.headers, header::RETRY_AFTER)
            .and_then(|seconds| seconds.trim().parse().ok())
            .map(Duration::from_secs),
    };
    let mut status = Status::new(code(head.status), answer.to_string());
    status.set_source(Arc::new(answer));
    status
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Returns the code of an HTTP status, according to `http-grpc-status-mapping.md` of gRPC.
fn code(status: StatusCode) -> Code {
    match status.as_u16() {
        400 => Code::Internal,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        429 | 502 | 503 | 504 => Code::Unavailable,
        _ => Code::Unknown,
    }
}

/// Reads the beginning of a body, as far as it comes in time.
async fn beginning(mut body: Body) -> Vec<u8> {
    let mut page = Vec::new();
    let read = async {
        while page.len() < PAGE_BYTES_MAX {
            let frame = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
            let Some(Ok(frame)) = frame else { return };
            if let Ok(data) = frame.into_data() {
                page.extend_from_slice(&data[..data.len().min(PAGE_BYTES_MAX)]);
            }
        }
    };
    // A page that does not come is no reason to have no error.
    let _ = timeout(PAGE_TIME_MAX, read).await;
    page
}

/// Returns the first words of a page, without its markup. Those of its head repeat what follows.
fn excerpt(page: &str) -> String {
    let start = page.to_ascii_lowercase().find("</head>").unwrap_or(0);
    let mut excerpt = words(&page[start..]);
    if excerpt.is_empty() {
        excerpt = words(page);
    }
    if let Some((end, _)) = excerpt.char_indices().nth(EXCERPT_CHARS_MAX) {
        excerpt.truncate(end);
        excerpt.push('…');
    }
    excerpt
}

/// Returns the words of a page, with one space between two of them.
fn words(page: &str) -> String {
    let mut text = String::with_capacity(page.len());
    let mut is_markup = false;
    for c in page.chars() {
        match c {
            '<' => is_markup = true,
            '>' if is_markup => {
                is_markup = false;
                text.push(' ');
            }
            _ if is_markup => {}
            _ if c.is_control() => text.push(' '),
            _ => text.push(c),
        }
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_has_no_markup_and_an_end() {
        let head = "<html>\r\n<HEAD><title>502 Bad Gateway</title></HEAD>\r\n";
        let page = format!("{head}<body>\r\n<h1>502 Bad Gateway</h1><hr>nginx</body>");
        assert_eq!(excerpt(&page), "502 Bad Gateway nginx");
        assert_eq!(excerpt(head), "502 Bad Gateway");
        assert_eq!(excerpt("no \u{7}markup, 1 < 2"), "no markup, 1");
        assert_eq!(excerpt(&"x".repeat(1000)).chars().count(), EXCERPT_CHARS_MAX + 1);
    }

    #[test]
    fn codes_follow_the_mapping_of_grpc() {
        let codes = [400, 401, 403, 404, 429, 502, 503, 504, 200, 302, 405, 413, 500]
            .map(|status| code(StatusCode::from_u16(status).unwrap()));
        let expected = [
            Code::Internal,
            Code::Unauthenticated,
            Code::PermissionDenied,
            Code::Unimplemented,
            Code::Unavailable,
            Code::Unavailable,
            Code::Unavailable,
            Code::Unavailable,
            Code::Unknown,
            Code::Unknown,
            Code::Unknown,
            Code::Unknown,
            Code::Unknown,
        ];
        assert_eq!(codes, expected);
    }
}

//! The server-sent events of a response: each message in them in its strict form.

use std::pin::pin;

use async_stream::stream;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt as _};
use reqwest::Response;
use rmcp::model::{RequestId, ServerJsonRpcMessage};
use rmcp::transport::streamable_http_client::{SseError, StreamableHttpPostResponse};
use rmcp_sse_stream::Sse;
use sse_stream::SseByteStream;

use super::answer_error::own_error;
use super::convert::root_cause;
use super::http_body::too_large;
use super::message::read;
use super::open_requests::OpenRequests;
use super::unreadable::Unreadable;
use crate::exec::LINE_BYTES_MAX;

/// The events of a response.
pub(super) type Events = BoxStream<'static, Result<Sse, SseError>>;

/// The state of a connection on which received messages depend.
pub(super) struct Received {
    /// The requests that wait for an answer.
    pub(super) open: OpenRequests,
    /// The messages that could not be read.
    pub(super) unreadable: Unreadable,
}

/// Returns the events of a response. If it ends before `request` is answered, and cannot be resumed,
/// its last event is an error of the request.
pub(super) fn events(received: Received, response: Response, request: Option<RequestId>) -> Events {
    let events = stream! {
        let mut events = pin!(SseByteStream::new(bounded(response)));
        let mut can_resume = false;
        let reason = loop {
            match events.next().await {
                None => break "it closed the connection before its answer was complete".to_owned(),
                Some(Err(sse_stream::Error::Body(cause))) => break root_cause(cause.as_ref()),
                Some(Err(error)) => break format!("its answer is no stream of events: {error}"),
                Some(Ok(event)) => {
                    can_resume |= event.id.is_some();
                    for event in strict(&received, event) {
                        yield Ok(event);
                    }
                }
            }
        };
        if let Some(id) = request
            && !can_resume
            && received.open.take(&id).is_some()
            && let Some(event) = event_of(&own_error(id, reason))
        {
            yield Ok(event);
        }
    };
    events.boxed()
}

/// Returns the body of a response, which fails at an event that is too large. It ends with the end of
/// an event: a server may close the connection before it has written that.
fn bounded(response: Response) -> impl Stream<Item = Result<Bytes, std::io::Error>> {
    let mut event = EventLength::default();
    let bytes = response.bytes_stream().map(move |bytes| match bytes {
        Ok(bytes) if event.add(&bytes) <= LINE_BYTES_MAX => Ok(bytes),
        Ok(_) => Err(std::io::Error::other(too_large())),
        Err(error) => {
            let cause = root_cause(&error);
            Err(std::io::Error::other(format!("the connection failed: {cause}")))
        }
    });
    bytes.chain(stream::iter([Ok(Bytes::from_static(b"\n\n"))]))
}

/// The length of the event that is not complete.
#[derive(Default)]
struct EventLength {
    length: usize,
    is_line_empty: bool,
}

impl EventLength {
    /// Adds bytes, and returns the largest length on the way.
    fn add(&mut self, bytes: &[u8]) -> usize {
        let mut largest = self.length;
        for byte in bytes {
            match byte {
                b'\n' if self.is_line_empty => self.length = 0,
                b'\n' => self.is_line_empty = true,
                b'\r' => {}
                _ => {
                    self.is_line_empty = false;
                    self.length += 1;
                    largest = largest.max(self.length);
                }
            }
        }
        largest
    }
}

/// Returns an event for each message in the data of an event. Its id stays without messages, too.
fn strict(received: &Received, event: sse_stream::Sse) -> Vec<Sse> {
    let sse_stream::Sse { event: name, data, id, retry } = event;
    let with = |data| Sse { event: None, data, id: id.clone(), retry };
    let is_message = matches!(name.as_deref(), None | Some("" | "message"));
    // Other events may be anything.
    let data = data.filter(|data| is_message || data.trim_start().starts_with(['{', '[']));
    let reading = data.map(|data| read(data.as_bytes(), &received.open)).unwrap_or_default();
    received.unreadable.note(reading.unreadable);
    let messages = reading.messages.iter().filter_map(event_of);
    let events: Vec<Sse> = messages.map(|event| with(event.data)).collect();
    if events.is_empty() { vec![with(None)] } else { events }
}

/// Returns the messages of a body as the answer to a request.
pub(super) fn answer(
    messages: Vec<ServerJsonRpcMessage>,
    session: Option<String>,
) -> StreamableHttpPostResponse {
    match <[ServerJsonRpcMessage; 1]>::try_from(messages) {
        Ok([message]) => StreamableHttpPostResponse::Json(message, session),
        Err(messages) => {
            let events: Vec<_> =
                messages.iter().filter_map(event_of).map(Ok::<Sse, SseError>).collect();
            StreamableHttpPostResponse::Sse(stream::iter(events).boxed(), session)
        }
    }
}

/// Returns a message as an event.
fn event_of(message: &ServerJsonRpcMessage) -> Option<Sse> {
    let data = serde_json::to_string(message).ok()?;
    Some(Sse { data: Some(data), ..Sse::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_an_event_is_that_of_its_lines() {
        let mut event = EventLength::default();
        assert_eq!(event.add(b"data: 12"), 8);
        assert_eq!(event.add(b"34\ndata: 1\n"), 17);
        assert_eq!(event.add(b"\ndata: 1\r\n\r\ndata"), 17);
        assert_eq!(event.add(b""), 4);
        assert_eq!(event.add(b": pi\n\nping\n\n"), 8);
    }
}

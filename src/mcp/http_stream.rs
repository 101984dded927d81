//! The stream of what a server at a URL sends without a request for it.

use std::sync::Arc;
use std::time::Duration;

use async_stream::stream;
use futures::StreamExt as _;
use futures::stream;
use tokio::time::timeout;

use super::events::Events;
use super::http::HttpClient;
use super::http_request::{Headers, HttpError};

/// The timeout for opening the stream. Some servers answer with their first event only, so it is
/// opened again at once.
const OPEN_TIMEOUT: Duration = Duration::from_secs(60);
/// The pause before a stream that has ended is opened again, unless there is a new session.
const REOPEN_PAUSE: Duration = Duration::from_secs(60);

/// Opens the stream of what no request asks for. It is opened again when it ends, and for each
/// session that is begun again.
pub(super) async fn common_stream(
    client: HttpClient,
    uri: Arc<str>,
    headers: Headers,
) -> Result<Events, HttpError> {
    let mut changes = client.0.session.changes();
    let opened = timeout(OPEN_TIMEOUT, client.get(&uri, true, None, &headers)).await;
    let mut is_due = opened.is_err();
    let mut events = match opened {
        Ok(opened) => opened?,
        Err(_elapsed) => stream::empty().boxed(),
    };
    let stream = stream! {
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                _ = changes.changed() => {
                    is_due = true;
                    None
                }
            };
            if let Some(Ok(event)) = event {
                yield Ok(event);
                continue;
            }
            if !is_due {
                let _changed = timeout(REOPEN_PAUSE, changes.changed()).await;
            }
            let opened = timeout(OPEN_TIMEOUT, client.get(&uri, true, None, &headers)).await;
            is_due = opened.is_err();
            events = match opened {
                Ok(Ok(opened)) => {
                    client.0.handler.mark_stale();
                    opened
                }
                // The stream of a session that is over is of no use.
                Ok(Err(_)) | Err(_) => stream::empty().boxed(),
            };
        }
    };
    Ok(stream.boxed())
}

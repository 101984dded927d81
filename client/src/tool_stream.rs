//! The events of one call, over cuts.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use callpark_proto::v1::session_update::Control;
use futures::Stream;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    client::Client,
    error::Error,
    follow::{End, Feed, Followed, Position, Taken, follow},
    log::{self, Admitted, Cursor, Items},
    session_stream::SessionItem,
    unary::identify,
    v1,
};

/// The events of one call: a `Stream` of `Result<SessionItem, Error>`.
///
/// After a cut the same request is sent again, with the same `request_id`: the server attaches it to
/// the same call and gives the call's events from the first one on, and those that have been handed
/// out are dropped. The stream ends after an error, or after `tool_call_finished` or
/// `tool_call_parked`; with `dry_run`, without an item.
pub struct ToolStream {
    request_id: String,
    followed: Followed<ToolFeed>,
}

impl ToolStream {
    pub(crate) fn new(client: &Client, request: v1::StreamToolRequest) -> Self {
        let request = identify(request);
        let request_id = request.request_id.clone();
        let end = if request.dry_run { End::OnOk } else { End::Ahead };
        let feed = ToolFeed { request, cursor: Cursor::default(), end };
        Self { request_id, followed: follow(client, feed) }
    }

    /// The `request_id` that all tries carry.
    pub fn request_id(&self) -> &str {
        &self.request_id
    }

    /// The sequence of the last event handed out. `None`: none was.
    pub fn cursor(&self) -> Option<i64> {
        self.followed.position().cursor
    }

    /// How many events came again and were dropped.
    pub fn duplicates(&self) -> u64 {
        self.followed.counts().duplicates
    }

    /// How often the stream was opened or tried.
    pub fn tries(&self) -> u32 {
        self.followed.counts().tries
    }
}

impl Stream for ToolStream {
    type Item = Result<SessionItem, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.followed.poll_next(cx)
    }
}

impl fmt::Debug for ToolStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ToolStream")
            .field("request_id", &self.request_id)
            .field("cursor", &self.cursor())
            .field("tries", &self.tries())
            .finish_non_exhaustive()
    }
}

struct ToolFeed {
    request: v1::StreamToolRequest,
    cursor: Cursor,
    end: End,
}

impl Feed for ToolFeed {
    const RPC: &'static str = "ToolRunner.StreamTool";
    type Request = v1::StreamToolRequest;
    type Message = v1::SessionUpdate;
    type Items = Items;

    fn request(&self) -> v1::StreamToolRequest {
        self.request.clone()
    }

    async fn open(
        client: &Client,
        request: Request<v1::StreamToolRequest>,
    ) -> Result<Response<Streaming<v1::SessionUpdate>>, Status> {
        client.tool_runner_streams().stream_tool(request).await
    }

    /// The events of a call have holes, where those of its neighbours are.
    fn take(&mut self, message: v1::SessionUpdate, items: &mut Items) -> Taken {
        let mut taken = Taken::default();
        for event in &message.events {
            // The call's events come from the first one on, in any epoch.
            items.insert(self.cursor.enter(&event.stream_epoch));
            let admitted = self.cursor.admit(event);
            taken.count(admitted);
            if admitted == Admitted::New {
                if log::answers_call(event) {
                    self.end = End::Reached;
                }
                items.give();
            } else {
                items.pass();
            }
        }
        items.hold(message.events);
        match message.control {
            Some(Control::Heartbeat(_)) => taken.heartbeat = true,
            Some(Control::Gap(gap)) => items.insert(self.cursor.skip(gap)),
            Some(Control::Draining(draining)) => log::draining(draining, &mut taken),
            Some(Control::Snapshot(_) | Control::CaughtUp(_)) | None => {}
        }
        taken
    }

    fn end(&self) -> End {
        self.end
    }

    fn cursor(&self) -> Option<i64> {
        self.cursor.sequence
    }

    fn resumed(&self) -> SessionItem {
        SessionItem::Resumed { after_sequence: self.cursor.sequence }
    }

    fn refused(&mut self, _error: &Error) -> bool {
        false
    }

    fn note(item: &SessionItem, position: &mut Position) {
        log::note(item, position);
    }
}

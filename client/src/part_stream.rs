//! The events of one call or one turn, over cuts.

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
    unary::{Identified, identify},
    v1,
};

/// The events of one call: a `Stream` of `Result<SessionItem, Error>`.
///
/// After a cut the same request is sent again, with the same `request_id`: the server attaches it to
/// the same call and gives the call's events from the first one on, and those that have been handed
/// out are dropped. The stream ends after an error, or after `tool_call_finished` or
/// `tool_call_parked`; with `dry_run`, without an item.
pub type ToolStream = PartStream<v1::RunToolRequest>;

/// The events of one turn of an agent, those of its calls among them: a `Stream` of
/// `Result<SessionItem, Error>`.
///
/// It goes on after cuts as a [`ToolStream`] does, and never asks the agent twice. It ends after an
/// error of the client's, or after `session_idle`, `session_error` or `session_shutdown`.
pub type TurnStream = PartStream<v1::RunTurnRequest>;

/// The events of a part of a session's log that a request has begun: see [`ToolStream`] and
/// [`TurnStream`].
pub struct PartStream<R: Part> {
    request_id: String,
    followed: Followed<PartFeed<R>>,
}

/// A request that begins a part of a log, and can be sent again.
pub trait Part: Identified + Clone + Send + Sync + 'static {
    /// The RPC, as `Service.Method`.
    #[doc(hidden)]
    const RPC: &'static str;

    /// Whether nothing will come of it but an OK.
    #[doc(hidden)]
    fn is_dry(&self) -> bool;

    #[doc(hidden)]
    fn open(
        client: &Client,
        request: Request<Self>,
    ) -> impl Future<Output = Result<Response<Streaming<v1::SessionUpdate>>, Status>> + Send;

    /// Whether nothing follows this event.
    #[doc(hidden)]
    fn ends_with(event: &v1::SessionEvent) -> bool;
}

impl Part for v1::RunToolRequest {
    const RPC: &'static str = "ToolRunner.StreamTool";

    fn is_dry(&self) -> bool {
        self.dry_run
    }

    async fn open(
        client: &Client,
        request: Request<Self>,
    ) -> Result<Response<Streaming<v1::SessionUpdate>>, Status> {
        client.tool_runner_streams().stream_tool(request).await
    }

    fn ends_with(event: &v1::SessionEvent) -> bool {
        log::answers_call(event)
    }
}

impl Part for v1::RunTurnRequest {
    const RPC: &'static str = "ToolRunner.StreamTurn";

    fn is_dry(&self) -> bool {
        false
    }

    async fn open(
        client: &Client,
        request: Request<Self>,
    ) -> Result<Response<Streaming<v1::SessionUpdate>>, Status> {
        client.tool_runner_streams().stream_turn(request).await
    }

    fn ends_with(event: &v1::SessionEvent) -> bool {
        log::ends_turn(event)
    }
}

impl<R: Part> PartStream<R> {
    pub(crate) fn new(client: &Client, request: R) -> Self {
        let mut request = identify(request);
        let request_id = request.request_id().clone();
        let end = if request.is_dry() { End::OnOk } else { End::Ahead };
        let feed = PartFeed { request, cursor: Cursor::default(), end };
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

impl<R: Part> Stream for PartStream<R> {
    type Item = Result<SessionItem, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.followed.poll_next(cx)
    }
}

impl<R: Part> fmt::Debug for PartStream<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PartStream")
            .field("rpc", &R::RPC)
            .field("request_id", &self.request_id)
            .field("cursor", &self.cursor())
            .field("tries", &self.tries())
            .finish_non_exhaustive()
    }
}

struct PartFeed<R> {
    request: R,
    cursor: Cursor,
    end: End,
}

impl<R: Part> Feed for PartFeed<R> {
    const RPC: &'static str = R::RPC;
    type Request = R;
    type Message = v1::SessionUpdate;
    type Items = Items;

    fn request(&self) -> R {
        self.request.clone()
    }

    async fn open(
        client: &Client,
        request: Request<R>,
    ) -> Result<Response<Streaming<v1::SessionUpdate>>, Status> {
        R::open(client, request).await
    }

    /// The events of a part have holes, where those of its neighbours are.
    fn take(&mut self, message: v1::SessionUpdate, items: &mut Items) -> Taken {
        let mut taken = Taken::default();
        for event in &message.events {
            // The part's events come from the first one on, in any epoch.
            items.insert(self.cursor.enter(&event.stream_epoch));
            let admitted = self.cursor.admit(event);
            taken.count(admitted);
            if admitted == Admitted::New {
                if R::ends_with(event) {
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

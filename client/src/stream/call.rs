//! The events of one call or one turn.

use std::fmt;

use callpark_proto::v1::{session_event::Payload, session_update::Control};
use tonic::{Request, Response, Status, Streaming};

use crate::{
    error::Error,
    stream::{
        cursor::{self, Admission, Cursor},
        item::SessionItem,
        message_items::MessageItems,
        resume::{Completion, Position, Progress, ResumingStream, StreamSource, resuming},
    },
    transport::{connection::Connection, request_id::identify},
    v1,
};

/// The events of one call or one turn: a `Stream` of `Result<SessionItem, Error>`.
///
/// [`Tools::stream`](crate::Tools::stream) and [`Turns::stream`](crate::Turns::stream) return it.
/// After an interruption the same request is sent again with the same `request_id`: the server
/// attaches it to the same call, never starting the work a second time, and sends the events from the
/// first one on. Those that have been delivered are dropped.
///
/// The stream of a call ends after `tool_call_finished` or `tool_call_parked`. The stream of a turn
/// includes the events of its calls and ends after `session_idle` or `session_error`, or after the
/// `tool_call_parked` of the turn itself with the reason BUDGET or DEADLINE. Both end after an error;
/// with `dry_run` they end without an item.
///
/// ```no_run
/// use callpark_client::{Client, Error, RunTool, SessionItem};
/// use futures::TryStreamExt as _;
/// use serde_json::json;
///
/// # async fn show(client: Client) -> Result<(), Error> {
/// let request = RunTool::new("bash").arguments(json!({ "command": "make test" }))?;
/// let mut stream = client.tools().stream(request);
/// while let Some(item) = stream.try_next().await? {
///     if let SessionItem::Event(event) = item {
///         println!("{:?}", event.payload);
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub struct CallStream {
    request_id: String,
    stream: ResumingStream<CallSource>,
}

impl CallStream {
    pub(crate) fn new(connection: &Connection, request: CallRequest) -> Self {
        let (request, request_id) = request.identified();
        let completion = match request.is_dry_run() {
            true => Completion::OnOk,
            false => Completion::Incomplete,
        };
        let source = CallSource { request, cursor: Cursor::default(), turn_call: None, completion };
        Self { request_id, stream: ResumingStream::new(connection, source) }
    }

    /// Returns the `request_id` that all attempts carry.
    pub fn request_id(&self) -> &str {
        &self.request_id
    }

    /// Returns the sequence of the last event that was delivered, or `None` if there was none.
    pub fn cursor(&self) -> Option<i64> {
        self.stream.position().cursor
    }
}

resuming!(CallStream of SessionItem);

impl fmt::Debug for CallStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallStream")
            .field("request_id", &self.request_id)
            .field("cursor", &self.cursor())
            .field("attempts", &self.attempts())
            .finish_non_exhaustive()
    }
}

/// A request that starts a call and streams its events.
#[derive(Clone)]
pub(crate) enum CallRequest {
    Tool(v1::RunToolRequest),
    Turn(v1::RunTurnRequest),
}

impl CallRequest {
    /// Gives the request an id, unless the caller gave it one.
    fn identified(self) -> (Self, String) {
        match self {
            Self::Tool(request) => {
                let request = identify(request);
                let request_id = request.request_id.clone();
                (Self::Tool(request), request_id)
            }
            Self::Turn(request) => {
                let request = identify(request);
                let request_id = request.request_id.clone();
                (Self::Turn(request), request_id)
            }
        }
    }

    fn is_dry_run(&self) -> bool {
        match self {
            Self::Tool(request) => request.dry_run,
            Self::Turn(request) => request.dry_run,
        }
    }
}

struct CallSource {
    request: CallRequest,
    cursor: Cursor,
    /// The id of the call that is the turn itself, or `None` if it is not known yet.
    turn_call: Option<String>,
    completion: Completion,
}

impl CallSource {
    /// Returns what an event says about the end of the stream.
    fn completion_after(&mut self, event: &v1::SessionEvent) -> Completion {
        match (&self.request, &event.payload) {
            (
                CallRequest::Tool(_),
                Some(Payload::ToolCallFinished(_) | Payload::ToolCallParked(_)),
            )
            | (CallRequest::Turn(_), Some(Payload::SessionIdle(_) | Payload::SessionError(_))) => {
                Completion::Reached
            }
            (CallRequest::Turn(_), Some(Payload::ToolCallAccepted(accepted))) => {
                // Only a turn has no tool.
                if accepted.tool.is_empty() {
                    self.turn_call = Some(event.call_id.clone());
                }
                Completion::Incomplete
            }
            (CallRequest::Turn(_), Some(Payload::ToolCallParked(parked))) => {
                // A turn that was parked because its caller left is streamed to its end.
                let ends_turn =
                    matches!(parked.reason(), v1::ParkReason::Budget | v1::ParkReason::Deadline);
                match &self.turn_call {
                    Some(turn_call) if ends_turn && *turn_call == event.call_id => {
                        Completion::Reached
                    }
                    // The acceptance of the turn is no longer in the log. This may be a call of the
                    // turn: the server ends the stream behind the turn itself only.
                    None if ends_turn => Completion::OnOk,
                    _ => Completion::Incomplete,
                }
            }
            _ => Completion::Incomplete,
        }
    }
}

impl StreamSource for CallSource {
    type Request = CallRequest;
    type Message = v1::SessionUpdate;
    type Items = MessageItems;

    fn rpc(&self) -> &'static str {
        match self.request {
            CallRequest::Tool(_) => "ToolRunner.StreamTool",
            CallRequest::Turn(_) => "ToolRunner.StreamTurn",
        }
    }

    fn request(&self) -> CallRequest {
        self.request.clone()
    }

    async fn open(
        connection: &Connection,
        request: Request<CallRequest>,
    ) -> Result<Response<Streaming<v1::SessionUpdate>>, Status> {
        let mut service = connection.tool_runner_streams();
        let (metadata, extensions, request) = request.into_parts();
        match request {
            CallRequest::Tool(request) => {
                service.stream_tool(Request::from_parts(metadata, extensions, request)).await
            }
            CallRequest::Turn(request) => {
                service.stream_turn(Request::from_parts(metadata, extensions, request)).await
            }
        }
    }

    /// Sequences are not contiguous here: other calls of the session have events in between.
    fn take(&mut self, message: v1::SessionUpdate, items: &mut MessageItems) -> Progress {
        let mut progress = Progress::default();
        for event in &message.events {
            // The events come from the first one on, so a changed epoch needs no new request.
            items.extend(self.cursor.enter(&event.stream_epoch));
            let admission = self.cursor.admit(event);
            admission.count_in(&mut progress);
            if admission == Admission::New {
                if self.completion != Completion::Reached {
                    self.completion = self.completion_after(event);
                }
                items.deliver();
            } else {
                items.skip();
            }
        }
        items.hold(message.events);
        match message.control {
            Some(Control::Heartbeat(_)) => progress.heartbeat = true,
            Some(Control::Gap(gap)) => items.extend(self.cursor.skip(gap)),
            Some(Control::Draining(draining)) => cursor::drain(draining, &mut progress),
            Some(Control::Snapshot(_) | Control::CaughtUp(_)) | None => {}
        }
        progress
    }

    fn completion(&self) -> Completion {
        self.completion
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

    fn track(item: &SessionItem, position: &mut Position) {
        cursor::track(item, position);
    }
}

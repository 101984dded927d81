//! The events of a session.

use std::fmt;

use callpark_proto::v1::session_update::Control;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    error::Error,
    stream::{
        cursor::{self, Admission, Cursor},
        item::SessionItem,
        message_items::MessageItems,
        resume::{
            Completion, Position, Progress, Queue as _, Reopen, ResumingStream, StreamSource,
            resuming,
        },
    },
    transport::connection::Connection,
    v1,
};

/// The events of a session: a `Stream` of `Result<SessionItem, Error>`.
///
/// [`Sessions::events`](crate::Sessions::events) returns it. It survives interruptions, restarts of
/// the server, drains, missed heartbeats and pauses of its reader, and delivers each event once. It
/// ends after an error or when it is complete: after `session_shutdown`, or after `CaughtUp` if the
/// request does not follow or the session is closed.
///
/// ```no_run
/// use callpark_client::{Client, Error, SessionEvents, SessionItem};
/// use futures::TryStreamExt as _;
///
/// # async fn show(client: Client, session_id: String) -> Result<(), Error> {
/// let mut stream = client.sessions().events(SessionEvents::new(session_id));
/// while let Some(item) = stream.try_next().await? {
///     if let SessionItem::Event(event) = item {
///         println!("{} {:?}", event.sequence, event.payload);
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub struct SessionStream {
    stream: ResumingStream<SessionSource>,
}

impl SessionStream {
    pub(crate) fn new(connection: &Connection, request: v1::StreamSessionRequest) -> Self {
        Self { stream: ResumingStream::new(connection, SessionSource::new(request)) }
    }

    /// Returns the sequence to resume after: that of the last event or gap that was delivered, or the
    /// one in the request. `None` if there is none yet.
    pub fn cursor(&self) -> Option<i64> {
        self.stream.position().cursor
    }

    /// Returns the epoch that the cursor belongs to; empty if it is not known yet.
    pub fn stream_epoch(&self) -> &str {
        &self.stream.position().epoch
    }
}

resuming!(SessionStream of SessionItem);

impl fmt::Debug for SessionStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionStream")
            .field("cursor", &self.cursor())
            .field("stream_epoch", &self.stream_epoch())
            .field("attempts", &self.attempts())
            .finish_non_exhaustive()
    }
}

struct SessionSource {
    /// The request of the caller, with session_shutdown added to its filter: that event marks the end.
    request: v1::StreamSessionRequest,
    /// The filter of the caller excludes session_shutdown.
    hides_shutdown: bool,
    cursor: Cursor,
    /// A snapshot was received, so the cursor belongs to a known epoch.
    attached: bool,
    /// The log was replaced: ask for all of the new one.
    starts_over: bool,
    /// The session was closed when the stream began.
    closed: bool,
    completion: Completion,
}

impl SessionSource {
    fn new(mut request: v1::StreamSessionRequest) -> Self {
        let shutdown = i32::from(v1::PayloadKind::SessionShutdown);
        let hides_shutdown = !request.payloads.is_empty() && !request.payloads.contains(&shutdown);
        if hides_shutdown {
            request.payloads.push(shutdown);
        }
        let cursor =
            Cursor { sequence: request.start_after_sequence, epoch: request.stream_epoch.clone() };
        Self {
            request,
            hides_shutdown,
            cursor,
            attached: false,
            starts_over: false,
            closed: false,
            completion: Completion::Incomplete,
        }
    }

    fn filters(&self) -> bool {
        !self.request.payloads.is_empty()
    }

    /// Records the epoch of a message. Returns `false` if the log was replaced and the stream does not
    /// deliver the new one from its start.
    fn enter(&mut self, epoch: &str, items: &mut MessageItems, progress: &mut Progress) -> bool {
        let from_start = self.cursor.sequence.is_none();
        let Some(changed) = self.cursor.enter(epoch) else { return true };
        items.push(changed);
        if !from_start {
            progress.reopen = Some(Reopen::EpochChanged);
        }
        from_start
    }

    fn event(
        &mut self,
        event: &v1::SessionEvent,
        items: &mut MessageItems,
        progress: &mut Progress,
    ) {
        let gap = if self.filters() { None } else { self.cursor.gap_before(event.sequence) };
        let admission = self.cursor.admit(event);
        admission.count_in(progress);
        if admission != Admission::Duplicate {
            items.extend(gap);
        }
        let shutdown = admission == Admission::New && cursor::is_shutdown(event);
        if shutdown {
            self.completion = Completion::Reached;
        }
        if admission == Admission::New && !(shutdown && self.hides_shutdown) {
            items.deliver();
        } else {
            items.skip();
        }
    }

    fn snapshot(
        &mut self,
        snapshot: v1::Snapshot,
        items: &mut MessageItems,
        progress: &mut Progress,
    ) {
        if !self.enter(&snapshot.stream_epoch, items, progress) {
            return;
        }
        if self.request.from_now && !self.attached {
            self.cursor.sequence = Some(snapshot.head_sequence);
        }
        self.attached = true;
        self.starts_over = false;
        let state = snapshot.session.as_ref().map(v1::Session::state);
        self.closed = state == Some(v1::SessionState::Closed);
        items.push(SessionItem::Snapshot(Box::new(snapshot)));
    }

    fn caught_up(&mut self, head_sequence: i64, items: &mut MessageItems, progress: &mut Progress) {
        // With a filter, some events before the head were skipped; without one, none were.
        if self.filters() {
            progress.progressed |= self.cursor.advance(head_sequence);
        }
        if self.closed || self.request.follow == Some(false) {
            self.completion = Completion::Reached;
        }
        items.push(SessionItem::CaughtUp { head_sequence });
    }

    fn control(&mut self, control: Control, items: &mut MessageItems, progress: &mut Progress) {
        match control {
            Control::Snapshot(snapshot) => self.snapshot(snapshot, items, progress),
            Control::CaughtUp(caught_up) => {
                self.caught_up(caught_up.head_sequence, items, progress);
            }
            Control::Heartbeat(_) => progress.heartbeat = true,
            Control::Gap(gap) => {
                let gap = self.cursor.skip(gap);
                progress.progressed |= gap.is_some();
                items.extend(gap);
            }
            Control::Draining(draining) => {
                if self.filters() {
                    progress.progressed |= self.cursor.advance(draining.last_sequence);
                }
                cursor::drain(draining, progress);
            }
        }
    }
}

impl StreamSource for SessionSource {
    type Request = v1::StreamSessionRequest;
    type Message = v1::SessionUpdate;
    type Items = MessageItems;

    fn rpc(&self) -> &'static str {
        "ToolRunner.StreamSession"
    }

    fn request(&self) -> v1::StreamSessionRequest {
        let mut request = self.request.clone();
        if self.attached {
            request.from_now = false;
            request.start_after_sequence = self.cursor.sequence;
            request.stream_epoch =
                if self.starts_over { String::new() } else { self.cursor.epoch.clone() };
        }
        request
    }

    async fn open(
        connection: &Connection,
        request: Request<v1::StreamSessionRequest>,
    ) -> Result<Response<Streaming<v1::SessionUpdate>>, Status> {
        connection.tool_runner_streams().stream_session(request).await
    }

    fn take(&mut self, message: v1::SessionUpdate, items: &mut MessageItems) -> Progress {
        let mut progress = Progress::default();
        for event in &message.events {
            if !self.enter(&event.stream_epoch, items, &mut progress) {
                items.hold(message.events);
                return progress;
            }
            self.event(event, items, &mut progress);
        }
        items.hold(message.events);
        if let Some(control) = message.control {
            self.control(control, items, &mut progress);
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

    fn refused(&mut self, error: &Error) -> bool {
        let request_changed = error.is_epoch_mismatch() && self.attached && !self.starts_over;
        if request_changed {
            self.cursor.sequence = None;
            self.starts_over = true;
        }
        request_changed
    }

    fn track(item: &SessionItem, position: &mut Position) {
        cursor::track(item, position);
    }
}

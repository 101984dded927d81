//! The events of a session, over cuts.

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
    follow::{End, Feed, Followed, Position, Queue as _, Reopen, Taken, follow},
    log::{self, Admitted, Cursor, Items},
    v1,
};

/// What a session stream or a tool stream gives.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum SessionItem {
    /// An event of the log. Sequences strictly increase within an epoch. Events whose payload this
    /// client doesn't know are passed over.
    Event(Box<v1::SessionEvent>),
    /// Where the log stands. A session stream gives it when it is opened, and after each `Resumed`.
    Snapshot(Box<v1::Snapshot>),
    /// All events up to the head have been given; what follows is live. A session stream gives it
    /// after each `Snapshot`, once it is so.
    CaughtUp {
        /// The head.
        head_sequence: i64,
    },
    /// Events are missing, and the stream goes on after them.
    Gap {
        /// The first missing sequence.
        from: i64,
        /// The last missing sequence.
        to: i64,
    },
    /// The log is another one. Its events follow from the first that it holds; nothing of the old
    /// one follows.
    EpochChanged {
        /// The epoch of the events so far.
        old: String,
        /// The epoch of the events that follow.
        new: String,
    },
    /// The stream was cut and is open again.
    Resumed {
        /// It goes on after this sequence. `None`: with what it was asked to begin with.
        after_sequence: Option<i64>,
    },
}

/// The events of a session: a `Stream` of `Result<SessionItem, Error>`.
///
/// It goes on over cuts, restarts of the server, drains, missed heartbeats and pauses of its reader,
/// and gives each event once. It ends after an error, or after its true end: `session_shutdown`, or
/// `CaughtUp` when the request says not to follow or the session is closed.
pub struct SessionStream {
    followed: Followed<SessionFeed>,
}

impl SessionStream {
    pub(crate) fn new(client: &Client, request: v1::StreamSessionRequest) -> Self {
        Self { followed: follow(client, SessionFeed::new(request)) }
    }

    /// The sequence to resume after: that of the last event or gap handed out, or what the request
    /// began after. `None`: there is none yet.
    pub fn cursor(&self) -> Option<i64> {
        self.followed.position().cursor
    }

    /// The epoch that the cursor counts in. Empty: it isn't known yet.
    pub fn stream_epoch(&self) -> String {
        self.followed.position().epoch.clone()
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

impl Stream for SessionStream {
    type Item = Result<SessionItem, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.followed.poll_next(cx)
    }
}

impl fmt::Debug for SessionStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionStream")
            .field("cursor", &self.cursor())
            .field("stream_epoch", &self.stream_epoch())
            .field("tries", &self.tries())
            .finish_non_exhaustive()
    }
}

struct SessionFeed {
    /// What the caller asked for, with session_shutdown in its filter: the end is known by it.
    request: v1::StreamSessionRequest,
    /// The caller's filter keeps session_shutdown out.
    hides_shutdown: bool,
    cursor: Cursor,
    /// A stream has begun: what it gives belongs to the cursor's epoch.
    attached: bool,
    /// The log turned out to be another one: ask for all of it.
    anew: bool,
    /// The session was closed when the stream began.
    closed: bool,
    end: End,
}

impl SessionFeed {
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
            anew: false,
            closed: false,
            end: End::Ahead,
        }
    }

    fn filters(&self) -> bool {
        !self.request.payloads.is_empty()
    }

    /// False: the log is another one, and the stream doesn't give it from its start.
    fn enter(&mut self, epoch: &str, items: &mut Items, taken: &mut Taken) -> bool {
        let from_start = self.cursor.sequence.is_none();
        let Some(changed) = self.cursor.enter(epoch) else { return true };
        items.push(changed);
        if !from_start {
            taken.reopen = Some(Reopen::OtherEpoch);
        }
        from_start
    }

    fn event(&mut self, event: &v1::SessionEvent, items: &mut Items, taken: &mut Taken) {
        let hole = if self.filters() { None } else { self.cursor.hole(event.sequence) };
        let admitted = self.cursor.admit(event);
        taken.count(admitted);
        if admitted != Admitted::Duplicate {
            items.insert(hole);
        }
        let shutdown = admitted == Admitted::New && log::is_shutdown(event);
        if shutdown {
            self.end = End::Reached;
        }
        if admitted == Admitted::New && !(shutdown && self.hides_shutdown) {
            items.give();
        } else {
            items.pass();
        }
    }

    fn snapshot(&mut self, snapshot: v1::Snapshot, items: &mut Items, taken: &mut Taken) {
        if !self.enter(&snapshot.stream_epoch, items, taken) {
            return;
        }
        if self.request.from_now && !self.attached {
            self.cursor.sequence = Some(snapshot.head_sequence);
        }
        self.attached = true;
        self.anew = false;
        let state = snapshot.session.as_ref().map(v1::Session::state);
        self.closed = state == Some(v1::SessionState::Closed);
        items.push(SessionItem::Snapshot(Box::new(snapshot)));
    }

    fn caught_up(&mut self, head_sequence: i64, items: &mut Items, taken: &mut Taken) {
        // With a filter, what lies before the head was passed over. Without one, it has been given.
        if self.filters() {
            taken.progressed |= self.cursor.advance(head_sequence);
        }
        if self.closed || self.request.follow == Some(false) {
            self.end = End::Reached;
        }
        items.push(SessionItem::CaughtUp { head_sequence });
    }

    fn control(&mut self, control: Control, items: &mut Items, taken: &mut Taken) {
        match control {
            Control::Snapshot(snapshot) => self.snapshot(snapshot, items, taken),
            Control::CaughtUp(caught_up) => {
                self.caught_up(caught_up.head_sequence, items, taken);
            }
            Control::Heartbeat(_) => taken.heartbeat = true,
            Control::Gap(gap) => {
                let gap = self.cursor.skip(gap);
                taken.progressed |= gap.is_some();
                items.insert(gap);
            }
            Control::Draining(draining) => {
                if self.filters() {
                    taken.progressed |= self.cursor.advance(draining.last_sequence);
                }
                log::draining(draining, taken);
            }
        }
    }
}

impl Feed for SessionFeed {
    const RPC: &'static str = "ToolRunner.StreamSession";
    type Request = v1::StreamSessionRequest;
    type Message = v1::SessionUpdate;
    type Items = Items;

    fn request(&self) -> v1::StreamSessionRequest {
        let mut request = self.request.clone();
        if self.attached {
            request.from_now = false;
            request.start_after_sequence = self.cursor.sequence;
            request.stream_epoch =
                if self.anew { String::new() } else { self.cursor.epoch.clone() };
        }
        request
    }

    async fn open(
        client: &Client,
        request: Request<v1::StreamSessionRequest>,
    ) -> Result<Response<Streaming<v1::SessionUpdate>>, Status> {
        client.tool_runner_streams().stream_session(request).await
    }

    fn take(&mut self, message: v1::SessionUpdate, items: &mut Items) -> Taken {
        let mut taken = Taken::default();
        for event in &message.events {
            if !self.enter(&event.stream_epoch, items, &mut taken) {
                items.hold(message.events);
                return taken;
            }
            self.event(event, items, &mut taken);
        }
        items.hold(message.events);
        if let Some(control) = message.control {
            self.control(control, items, &mut taken);
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

    fn refused(&mut self, error: &Error) -> bool {
        let altered = error.is_other_epoch() && self.attached && !self.anew;
        if altered {
            self.cursor.sequence = None;
            self.anew = true;
        }
        altered
    }

    fn note(item: &SessionItem, position: &mut Position) {
        log::note(item, position);
    }
}

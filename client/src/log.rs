//! Where a reader stands in a session's log.

use std::collections::VecDeque;

use callpark_proto::v1::session_event::Payload;

use crate::{
    follow::{Position, Reopen, Taken},
    session_stream::SessionItem,
    v1,
};

/// The position of a reader in a log. Everything that it is handed out after moves it forward.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cursor {
    /// The last sequence that was given or passed over.
    pub(crate) sequence: Option<i64>,
    /// The epoch that it counts in. Empty: not known.
    pub(crate) epoch: String,
}

/// What became of an event.
pub(crate) enum Admitted {
    /// It is new.
    New,
    /// It is new, and its payload isn't known to this client.
    Unknown,
    /// It has come before.
    Duplicate,
}

impl Cursor {
    /// Moves forward to a sequence. False: it is none that is ahead.
    pub(crate) fn advance(&mut self, sequence: i64) -> bool {
        let ahead = sequence > self.sequence.unwrap_or(0);
        if ahead {
            self.sequence = Some(sequence);
        }
        ahead
    }

    /// Notes the epoch of a message. The item: it is another one than that of the cursor, which
    /// begins anew in it.
    pub(crate) fn enter(&mut self, epoch: &str) -> Option<SessionItem> {
        if epoch.is_empty() || epoch == self.epoch {
            return None;
        }
        let old = std::mem::replace(&mut self.epoch, epoch.to_owned());
        if old.is_empty() {
            return None;
        }
        self.sequence = None;
        Some(SessionItem::EpochChanged { old, new: epoch.to_owned() })
    }

    /// The hole between the cursor and what comes next.
    pub(crate) fn hole(&self, next: i64) -> Option<SessionItem> {
        let from = self.sequence?.checked_add(1)?;
        (from < next).then(|| SessionItem::Gap { from, to: next - 1 })
    }

    pub(crate) fn admit(&mut self, event: &v1::SessionEvent) -> Admitted {
        match (self.advance(event.sequence), event.payload.is_some()) {
            (false, _) => Admitted::Duplicate,
            (true, false) => Admitted::Unknown,
            (true, true) => Admitted::New,
        }
    }

    /// Takes in a gap that the server names.
    pub(crate) fn skip(&mut self, gap: v1::Gap) -> Option<SessionItem> {
        let from = gap.from_sequence.max(self.sequence.unwrap_or(0) + 1);
        let to = gap.to_sequence;
        self.advance(to).then_some(SessionItem::Gap { from, to })
    }
}

/// Notes an item that is handed out.
pub(crate) fn note(item: &SessionItem, position: &mut Position) {
    match item {
        SessionItem::Event(event) => {
            position.cursor = Some(event.sequence);
            // It is the same one but for once in a log's life.
            if !event.stream_epoch.is_empty() && event.stream_epoch != position.epoch {
                position.epoch.clone_from(&event.stream_epoch);
            }
        }
        SessionItem::Snapshot(snapshot) => position.epoch.clone_from(&snapshot.stream_epoch),
        SessionItem::Gap { to, .. } => position.cursor = Some(*to),
        SessionItem::EpochChanged { new, .. } => {
            position.cursor = None;
            position.epoch.clone_from(new);
        }
        SessionItem::CaughtUp { .. } | SessionItem::Resumed { .. } => {}
    }
}

/// Whether an event is the last of its log.
pub(crate) fn is_shutdown(event: &v1::SessionEvent) -> bool {
    matches!(event.payload, Some(Payload::SessionShutdown(_)))
}

/// Whether an event is the last that concerns the caller of a tool.
pub(crate) fn answers_call(event: &v1::SessionEvent) -> bool {
    matches!(event.payload, Some(Payload::ToolCallFinished(_) | Payload::ToolCallParked(_)))
}

/// What a draining message asks for.
pub(crate) fn draining(draining: v1::Draining, taken: &mut Taken) {
    let delay = draining.retry_after.and_then(|delay| delay.try_into().ok());
    taken.reopen = Some(Reopen::Draining(delay));
}

/// An item that is not handed out yet. An event gets its box only then, which the allocator has at
/// hand: of all that one message makes it would not.
#[expect(clippy::large_enum_variant, reason = "almost all of them are events")]
pub(crate) enum Queued {
    Event(v1::SessionEvent),
    Item(SessionItem),
}

impl From<SessionItem> for Queued {
    fn from(item: SessionItem) -> Self {
        Self::Item(item)
    }
}

impl From<Queued> for SessionItem {
    fn from(queued: Queued) -> Self {
        match queued {
            Queued::Event(event) => Self::Event(Box::new(event)),
            Queued::Item(item) => item,
        }
    }
}

/// Items in the order in which they are handed out.
pub(crate) type Items = VecDeque<Queued>;

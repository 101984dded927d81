//! The position of a reader in the log of a session.

use callpark_proto::v1::session_event::Payload;

use crate::{
    stream::{
        item::SessionItem,
        resume::{Position, Progress, Reopen},
    },
    v1,
};

/// The position of a reader in a log. Everything that is delivered moves it forward.
#[derive(Clone, Debug, Default)]
pub(super) struct Cursor {
    /// The last sequence that was delivered or skipped.
    pub(super) sequence: Option<i64>,
    /// The epoch that the sequence belongs to; empty if it is not known.
    pub(super) epoch: String,
}

/// The relation of an event to a cursor.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    New,
    /// New, with a payload that this version of the client does not know.
    UnknownPayload,
    Duplicate,
}

impl Admission {
    pub(super) fn count_in(self, progress: &mut Progress) {
        match self {
            Self::Duplicate => progress.duplicates += 1,
            Self::New | Self::UnknownPayload => progress.progressed = true,
        }
    }
}

impl Cursor {
    /// Moves forward to a sequence. Returns `false` if the sequence is not ahead of the cursor.
    pub(super) fn advance(&mut self, sequence: i64) -> bool {
        let ahead = sequence > self.sequence.unwrap_or(0);
        if ahead {
            self.sequence = Some(sequence);
        }
        ahead
    }

    /// Records the epoch of a message. If the epoch has changed, returns the item that reports it,
    /// and the cursor starts over.
    pub(super) fn enter(&mut self, epoch: &str) -> Option<SessionItem> {
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

    /// Returns the gap between the cursor and the next sequence.
    pub(super) fn gap_before(&self, next: i64) -> Option<SessionItem> {
        let from = self.sequence?.checked_add(1)?;
        (from < next).then(|| SessionItem::Gap { from, to: next - 1 })
    }

    pub(super) fn admit(&mut self, event: &v1::SessionEvent) -> Admission {
        match (self.advance(event.sequence), event.payload.is_some()) {
            (false, _) => Admission::Duplicate,
            (true, false) => Admission::UnknownPayload,
            (true, true) => Admission::New,
        }
    }

    /// Moves over a gap that the server reports. A part of it that is not ahead of the cursor is none.
    pub(super) fn skip(&mut self, gap: v1::Gap) -> Option<SessionItem> {
        let to = gap.to_sequence;
        let next = self.sequence.unwrap_or(0).checked_add(1)?;
        let from = gap.from_sequence.max(next).min(to);
        self.advance(to).then_some(SessionItem::Gap { from, to })
    }
}

/// Updates the position with an item that is delivered.
pub(super) fn track(item: &SessionItem, position: &mut Position) {
    match item {
        SessionItem::Event(event) => {
            position.cursor = Some(event.sequence);
            // The epoch changes at most once in the life of a log: avoid the copy.
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

/// Returns `true` for the last event of a log.
pub(super) fn is_shutdown(event: &v1::SessionEvent) -> bool {
    matches!(event.payload, Some(Payload::SessionShutdown(_)))
}

/// Requests that the stream is reopened after the delay that a draining message asks for.
pub(super) fn drain(draining: v1::Draining, progress: &mut Progress) {
    let delay = draining.retry_after.and_then(|delay| delay.try_into().ok());
    progress.reopen = Some(Reopen::Draining(delay));
}

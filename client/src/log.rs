//! Where a reader stands in a session's log.

use std::{collections::VecDeque, vec};

use callpark_proto::v1::session_event::Payload;

use crate::{
    follow::{Position, Queue, Reopen, Taken},
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
#[derive(Clone, Copy, PartialEq, Eq)]
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

/// Whether an event is the last that concerns who asked an agent.
pub(crate) fn ends_turn(event: &v1::SessionEvent) -> bool {
    matches!(
        event.payload,
        Some(Payload::SessionIdle(_) | Payload::SessionError(_) | Payload::SessionShutdown(_))
    )
}

/// What a draining message asks for.
pub(crate) fn draining(draining: v1::Draining, taken: &mut Taken) {
    let delay = draining.retry_after.and_then(|delay| delay.try_into().ok());
    taken.reopen = Some(Reopen::Draining(delay));
}

/// What one message made, in the order in which it is handed out.
///
/// Its events stay in the message's own vector until they are asked for: they are large, and moving
/// them once more would cost a good part of what decoding them does.
#[derive(Default)]
pub(crate) struct Items {
    events: vec::IntoIter<v1::SessionEvent>,
    steps: VecDeque<Step>,
}

enum Step {
    /// Hand out so many events.
    Give(usize),
    /// Drop so many events.
    Pass(usize),
    /// Hand out something else.
    Item(SessionItem),
}

impl Items {
    /// Takes a message's events in. What becomes of each is said, in their order, by `give` and
    /// `pass`; what isn't said is dropped.
    pub(crate) fn hold(&mut self, events: Vec<v1::SessionEvent>) {
        self.events = events.into_iter();
    }

    /// The next event is to be handed out.
    pub(crate) fn give(&mut self) {
        match self.steps.back_mut() {
            Some(Step::Give(count)) => *count += 1,
            _ => self.steps.push_back(Step::Give(1)),
        }
    }

    /// The next event is to be dropped.
    pub(crate) fn pass(&mut self) {
        match self.steps.back_mut() {
            Some(Step::Pass(count)) => *count += 1,
            _ => self.steps.push_back(Step::Pass(1)),
        }
    }

    /// If there is an item, it is handed out next.
    pub(crate) fn insert(&mut self, item: Option<SessionItem>) {
        self.steps.extend(item.map(Step::Item));
    }
}

impl Queue for Items {
    type Item = SessionItem;

    fn push(&mut self, item: SessionItem) {
        self.steps.push_back(Step::Item(item));
    }

    fn pop(&mut self) -> Option<SessionItem> {
        loop {
            match self.steps.front_mut()? {
                Step::Give(count @ 1..) => {
                    *count -= 1;
                    if let Some(event) = self.events.next() {
                        return Some(SessionItem::Event(Box::new(event)));
                    }
                }
                Step::Pass(count @ 1..) => {
                    self.events.nth(*count - 1);
                    *count = 0;
                }
                _ => {
                    if let Some(Step::Item(item)) = self.steps.pop_front() {
                        return Some(item);
                    }
                }
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}

//! Parts of a session's log.

use super::Error;
use crate::model::{CallId, EventCodec, PayloadKind, TurnId};
use crate::store::LogEvent;

/// A part of a session's log that has an end of its own.
#[derive(Clone, Copy)]
pub(super) enum Part {
    /// What a caller of a tool hears.
    Call(CallId),
    /// What a caller of an agent hears.
    Turn(TurnId),
}

impl Part {
    /// The call that all of it belongs to.
    pub(super) fn call_id(self) -> Option<CallId> {
        match self {
            Self::Call(id) => Some(id),
            Self::Turn(_) => None,
        }
    }

    /// The events that belong to it.
    pub(super) fn of(
        self,
        mut events: Vec<LogEvent>,
        codec: &dyn EventCodec,
    ) -> Result<Vec<LogEvent>, Error> {
        // The store has left out those of other calls.
        let Self::Turn(own) = self else { return Ok(events) };
        let mut fault = None;
        events.retain(|event| match codec.decode_turn(event.sequence, &event.bytes) {
            Ok(turn) => turn == Some(own),
            Err(error) => {
                fault = Some(Error::Internal(error.to_string()));
                false
            }
        });
        fault.map_or(Ok(events), Err)
    }

    /// Nothing of it follows this event.
    pub(super) fn ends_with(self, event: &LogEvent) -> bool {
        match self {
            Self::Call(_) => {
                matches!(event.kind, PayloadKind::ToolCallFinished | PayloadKind::ToolCallParked)
            }
            Self::Turn(_) => {
                matches!(event.kind, PayloadKind::SessionIdle | PayloadKind::SessionError)
            }
        }
    }
}

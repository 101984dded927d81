//! Scopes of a session's log: the events of one call or turn.

use crate::engine::Error;
use crate::engine::call::turn_of;
use crate::model::{CallId, EventCodec, ParkReason, PayloadKind, TurnId};
use crate::store::LogEvent;

/// A scope of a session's log that has an end of its own.
#[derive(Clone, Copy)]
pub(super) enum EventScope {
    /// The events of a call, up to its end or its parking.
    Call(CallId),
    /// The events of a turn and of its calls, up to the turn's end, or to the parking that answers its
    /// caller.
    Turn(TurnId),
}

impl EventScope {
    /// Returns the call to which all events of the scope belong, or `None` if there are several.
    pub(super) fn call_id(self) -> Option<CallId> {
        match self {
            Self::Call(id) => Some(id),
            Self::Turn(_) => None,
        }
    }

    /// Returns the events that belong to the scope.
    pub(super) fn filter(
        self,
        mut events: Vec<LogEvent>,
        codec: &dyn EventCodec,
    ) -> Result<Vec<LogEvent>, Error> {
        // The store has left out the events of other calls.
        let Self::Turn(own) = self else { return Ok(events) };
        let mut error = None;
        events.retain(|event| match codec.decode_turn(event.sequence, &event.bytes) {
            Ok(turn) => turn == Some(own),
            Err(cause) => {
                error = Some(Error::Internal(cause.to_string()));
                false
            }
        });
        error.map_or(Ok(events), Err)
    }

    /// Returns whether the event is the last one of the scope.
    pub(super) fn ends_with(self, event: &LogEvent, codec: &dyn EventCodec) -> Result<bool, Error> {
        Ok(match self {
            Self::Call(_) => {
                matches!(event.kind, PayloadKind::ToolCallFinished | PayloadKind::ToolCallParked)
            }
            Self::Turn(own) => match event.kind {
                PayloadKind::SessionIdle | PayloadKind::SessionError => true,
                PayloadKind::ToolCallParked => {
                    let parked = codec.decode_parked(event.sequence, &event.bytes);
                    let parked = parked.map_err(|cause| Error::Internal(cause.to_string()))?;
                    // A turn whose caller left, or that never had one, is streamed to its end.
                    parked.is_some_and(|(call_id, reason)| {
                        turn_of(call_id) == own
                            && matches!(reason, ParkReason::Budget | ParkReason::Deadline)
                    })
                }
                _ => false,
            },
        })
    }
}

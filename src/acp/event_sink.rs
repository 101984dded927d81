//! The events of a turn, which are sent no faster than they are received.

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::agent::{AgentEvent, ModelError, OwnCallEvent};

/// The number of events of a turn that wait to be received.
pub(super) const EVENTS_MAX: usize = 16;

/// The reason for which a turn cannot continue.
pub(super) enum TurnAbort {
    /// The receiver of the events was dropped.
    Dropped,
    /// The process is about to be ended.
    Stopped,
    /// The turn failed.
    Failed(ModelError),
}

impl From<ModelError> for TurnAbort {
    fn from(error: ModelError) -> Self {
        Self::Failed(error)
    }
}

/// The sender of a turn's events.
pub(super) struct EventSink {
    pub(super) events: mpsc::Sender<Result<AgentEvent, ModelError>>,
    pub(super) stop: CancellationToken,
}

impl EventSink {
    /// Emits an event, and waits until there is room for it.
    pub(super) async fn emit(&self, event: AgentEvent) -> Result<(), TurnAbort> {
        self.while_wanted(self.events.send(Ok(event))).await?.map_err(|_| TurnAbort::Dropped)
    }

    /// Emits an event of a call. A call whose events aren't received doesn't end the turn.
    pub(super) async fn emit_of_call(
        &self,
        events: &mpsc::Sender<OwnCallEvent>,
        event: OwnCallEvent,
    ) -> Result<(), TurnAbort> {
        let _sent = self.while_wanted(events.send(event)).await?;
        Ok(())
    }

    /// Waits for `work` until the turn is aborted.
    pub(super) async fn while_wanted<T>(
        &self,
        work: impl Future<Output = T>,
    ) -> Result<T, TurnAbort> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(TurnAbort::Stopped),
            () = self.events.closed() => Err(TurnAbort::Dropped),
            done = work => Ok(done),
        }
    }
}

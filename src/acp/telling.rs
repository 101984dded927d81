//! How a turn is told of, at the pace of whoever listens.

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::agent::{AgentEvent, ModelError, OwnCallEvent};

/// Events of a turn that wait to be read.
pub(super) const EVENTS_MAX: usize = 16;

/// Why a turn goes no further.
pub(super) enum Halt {
    /// Nobody listens any more.
    Dropped,
    /// The process is to end.
    Stopped,
    /// It failed.
    Failed(ModelError),
}

impl From<ModelError> for Halt {
    fn from(error: ModelError) -> Self {
        Self::Failed(error)
    }
}

/// Where a turn is told of.
pub(super) struct Telling {
    pub(super) events: mpsc::Sender<Result<AgentEvent, ModelError>>,
    pub(super) stop: CancellationToken,
}

impl Telling {
    /// Tells of it, and waits until there is room.
    pub(super) async fn tell(&self, event: AgentEvent) -> Result<(), Halt> {
        self.heard(self.events.send(Ok(event))).await?.map_err(|_| Halt::Dropped)
    }

    /// The same of a call. One that nobody listens to is no reason to end the turn.
    pub(super) async fn tell_of_call(
        &self,
        events: &mpsc::Sender<OwnCallEvent>,
        event: OwnCallEvent,
    ) -> Result<(), Halt> {
        let _sent = self.heard(events.send(event)).await?;
        Ok(())
    }

    /// Does something for the turn, as long as it is wanted.
    pub(super) async fn heard<T>(&self, work: impl Future<Output = T>) -> Result<T, Halt> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(Halt::Stopped),
            () = self.events.closed() => Err(Halt::Dropped),
            done = work => Ok(done),
        }
    }
}

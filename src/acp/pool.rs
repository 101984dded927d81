//! The processes of an agent: at most one for each session.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::config::AgentConfig;
use super::error::agent_error;
use super::event_sink::EVENTS_MAX;
use super::host::AgentHost;
use super::slot::{Slot, SlotsGuard, TurnOrder};
use super::worker::Worker;
use crate::agent::{AgentEvent, AgentRequest, ModelError, ModelErrorCode};
use crate::exec::Launcher;
use crate::model::SessionId;
use crate::telemetry::Metrics;

/// The processes of an agent.
pub(super) struct ProcessPool {
    host: Arc<AgentHost>,
}

impl ProcessPool {
    pub(super) fn new(
        config: AgentConfig,
        launcher: Launcher,
        metrics: Metrics,
        bridge: Option<PathBuf>,
    ) -> Self {
        Self { host: Arc::new(AgentHost::new(config, launcher, metrics, bridge)) }
    }

    /// Returns the agent's name.
    pub(super) fn agent(&self) -> &str {
        &self.host.config.name
    }

    /// Enqueues a turn, and returns the channel of its events. Dropping the channel cancels the turn.
    pub(super) fn enqueue(
        &self,
        request: AgentRequest,
    ) -> Result<mpsc::Receiver<Result<AgentEvent, ModelError>>, ModelError> {
        let fail = |code, reason: &str| agent_error(self.agent(), code, reason);
        let session_id = request.session_id;
        let (events, receiver) = mpsc::channel(EVENTS_MAX);
        let mut slots = self.host.slots.lock();
        if self.host.closing.is_cancelled() {
            return Err(fail(ModelErrorCode::Connection, "callpark is stopping"));
        }
        let slot = match slots.get(session_id) {
            Some(slot) => slot,
            None => {
                self.make_room(&mut slots)?;
                let slot = self.start_worker(session_id);
                slots.insert(session_id, slot.clone());
                slot
            }
        };
        match slot.enqueue(TurnOrder { request, events }) {
            true => Ok(receiver),
            false => Err(fail(
                ModelErrorCode::Server,
                "cancelled turns of this session have not ended: try again in a few seconds",
            )),
        }
    }

    /// Makes room for one more process by ending the one that has been idle for the longest time.
    fn make_room(&self, slots: &mut SlotsGuard<'_>) -> Result<(), ModelError> {
        let max = self.host.config.max_processes();
        if slots.len() < max {
            return Ok(());
        }
        let Some(slot) = slots.remove_longest_idle() else {
            let reason = format!(
                "all of its {max} processes (max_processes) are running turns: try again when one \
                 has ended"
            );
            return Err(agent_error(self.agent(), ModelErrorCode::Server, &reason));
        };
        slot.stop.cancel();
        Ok(())
    }

    fn start_worker(&self, session_id: SessionId) -> Arc<Slot> {
        let (slot, orders) = Slot::new(self.host.closing.child_token());
        let worker = Worker { host: self.host.clone(), session_id, slot: slot.clone(), orders };
        self.host.tasks.spawn(worker.run());
        slot
    }

    /// Ends the process of a session, and waits for its end.
    pub(super) async fn forget(&self, session_id: SessionId) {
        let slot = self.host.slots.lock().remove(session_id);
        if let Some(slot) = slot {
            slot.stop.cancel();
            slot.ended.cancelled().await;
        }
    }

    /// Ends all processes, and waits for their end.
    pub(super) async fn close(&self) {
        // Under the lock, so that no turn is enqueued meanwhile.
        {
            let _slots = self.host.slots.lock();
            self.host.closing.cancel();
        }
        self.host.tasks.close();
        self.host.tasks.wait().await;
    }
}

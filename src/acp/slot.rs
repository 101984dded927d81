//! The slots of an agent: one for each session that has a process or is about to get one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::agent::{AgentEvent, AgentRequest, ModelError};
use crate::model::SessionId;

/// The number of turns of one session that wait until a cancelled turn has ended.
const ORDERS_MAX: usize = 8;

/// A turn to run.
pub(super) struct TurnOrder {
    pub(super) request: AgentRequest,
    pub(super) events: mpsc::Sender<Result<AgentEvent, ModelError>>,
}

/// The slot of one session: the queue of its turns, and the state of its process.
pub(super) struct Slot {
    orders: mpsc::Sender<TurnOrder>,
    /// Stops the worker of the slot.
    pub(super) stop: CancellationToken,
    /// Cancelled when the process has ended.
    pub(super) ended: CancellationToken,
    /// The time since which no turn has run, or `None` if a turn is running or queued.
    idle_since: Mutex<Option<Instant>>,
}

impl Slot {
    /// Creates a slot, and the receiver of its turns.
    pub(super) fn new(stop: CancellationToken) -> (Arc<Self>, mpsc::Receiver<TurnOrder>) {
        let (orders, receiver) = mpsc::channel(ORDERS_MAX);
        let (ended, idle_since) = (CancellationToken::new(), Mutex::default());
        (Arc::new(Self { orders, stop, ended, idle_since }), receiver)
    }

    /// Enqueues a turn. Returns `false` if the queue is full.
    pub(super) fn enqueue(&self, order: TurnOrder) -> bool {
        // From here on the slot isn't idle.
        *self.idle() = None;
        self.orders.try_send(order).is_ok()
    }

    /// Returns how long the slot has been idle.
    pub(super) fn idle_for(&self) -> Duration {
        self.idle().map(|since| since.elapsed()).unwrap_or_default()
    }

    fn idle(&self) -> MutexGuard<'_, Option<Instant>> {
        self.idle_since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All slots of an agent. Turns are enqueued and slots are released under one lock, so that no turn
/// is enqueued in a slot whose worker has ended.
#[derive(Default)]
pub(super) struct Slots(Mutex<HashMap<SessionId, Arc<Slot>>>);

impl Slots {
    pub(super) fn lock(&self) -> SlotsGuard<'_> {
        SlotsGuard(self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Marks a slot as idle if no turn is queued.
    pub(super) fn mark_idle(&self, slot: &Slot, orders: &mpsc::Receiver<TurnOrder>) {
        let _slots = self.lock();
        if orders.is_empty() {
            slot.idle().get_or_insert(Instant::now());
        }
    }

    /// Releases a slot if no turn is queued. Returns whether it was released.
    pub(super) fn release_if_idle(
        &self,
        session_id: SessionId,
        slot: &Arc<Slot>,
        orders: &mpsc::Receiver<TurnOrder>,
    ) -> bool {
        let mut slots = self.lock();
        let is_idle = orders.is_empty();
        if is_idle {
            slots.release(session_id, slot);
        }
        is_idle
    }
}

/// The slots of an agent, locked.
pub(super) struct SlotsGuard<'a>(MutexGuard<'a, HashMap<SessionId, Arc<Slot>>>);

impl SlotsGuard<'_> {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn get(&self, session_id: SessionId) -> Option<Arc<Slot>> {
        self.0.get(&session_id).cloned()
    }

    pub(super) fn insert(&mut self, session_id: SessionId, slot: Arc<Slot>) {
        self.0.insert(session_id, slot);
    }

    pub(super) fn remove(&mut self, session_id: SessionId) -> Option<Arc<Slot>> {
        self.0.remove(&session_id)
    }

    /// Removes the slot that has been idle for the longest time, or returns `None` if no slot is
    /// idle.
    pub(super) fn remove_longest_idle(&mut self) -> Option<Arc<Slot>> {
        let idle =
            self.0.iter().filter_map(|(id, slot)| Some((slot.idle().as_ref().copied()?, *id)));
        let (_, session_id) = idle.min_by_key(|(since, _)| *since)?;
        self.remove(session_id)
    }

    /// Removes a slot, unless the session has another one by now.
    pub(super) fn release(&mut self, session_id: SessionId, slot: &Arc<Slot>) {
        if self.0.get(&session_id).is_some_and(|current| Arc::ptr_eq(current, slot)) {
            self.0.remove(&session_id);
        }
    }
}

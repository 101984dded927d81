//! The processes of an agent: one for each session that plays turns with it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::config::AgentConfig;
use super::failure::blame;
use super::telling::EVENTS_MAX;
use super::tools::ToolServer;
use super::worker::{Order, Worker};
use crate::agent::{AgentEvent, AgentRequest, ModelError, ModelErrorCode};
use crate::exec::Launcher;
use crate::model::SessionId;
use crate::telemetry::Metrics;

/// Turns of one session that wait for the one before them, which is being cancelled, to end.
const ORDERS_MAX: usize = 8;

/// All that is held for an agent.
pub(super) struct Pool {
    pub(super) config: AgentConfig,
    pub(super) launcher: Launcher,
    pub(super) metrics: Metrics,
    pub(super) tools: ToolServer,
    pub(super) tasks: TaskTracker,
    pub(super) closing: CancellationToken,
    /// A place for each process that there may be. It is held until the process has ended.
    pub(super) places: Arc<Semaphore>,
    /// Who holds a process, or is about to. Orders are sent and seats are left under this lock, so
    /// that no order reaches a seat that nobody sits on.
    seats: Mutex<HashMap<SessionId, Arc<Seat>>>,
}

/// Where the turns of one session are ordered.
pub(super) struct Seat {
    orders: mpsc::Sender<Order>,
    stop: CancellationToken,
    /// The process has ended.
    pub(super) left: CancellationToken,
    /// None: a turn is played, or is about to be.
    idle_since: Mutex<Option<Instant>>,
}

impl Seat {
    /// How long no turn has been played.
    pub(super) fn idle_for(&self) -> Duration {
        self.idle().map(|since| since.elapsed()).unwrap_or_default()
    }

    fn idle(&self) -> MutexGuard<'_, Option<Instant>> {
        self.idle_since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pool {
    pub(super) fn new(config: AgentConfig, launcher: Launcher, metrics: Metrics) -> Self {
        let places = Arc::new(Semaphore::new(config.max_processes()));
        Self {
            config,
            launcher,
            metrics,
            tools: ToolServer::default(),
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
            places,
            seats: Mutex::default(),
        }
    }

    /// Orders a turn. What comes of it arrives on the channel that is returned; dropping that cancels
    /// the turn.
    pub(super) fn order(
        self: &Arc<Self>,
        request: AgentRequest,
    ) -> Result<mpsc::Receiver<Result<AgentEvent, ModelError>>, ModelError> {
        let fail = |code, reason: &str| blame(&self.config.name, code, reason);
        let session_id = request.session_id;
        let (events, told) = mpsc::channel(EVENTS_MAX);
        let order = Order { request, events };
        let mut seats = self.lock();
        if self.closing.is_cancelled() {
            return Err(fail(ModelErrorCode::Connection, "callpark stops"));
        }
        let seat = match seats.get(&session_id) {
            Some(seat) => seat.clone(),
            None => {
                self.make_room(&mut seats)?;
                let seat = self.seat(session_id);
                seats.insert(session_id, seat.clone());
                seat
            }
        };
        // Nobody counts it as idle from here on.
        *seat.idle() = None;
        let is_full = seat.orders.try_send(order).is_err();
        match is_full {
            true => Err(fail(
                ModelErrorCode::Server,
                "turns of this session that were given up have not ended: try again in a few seconds",
            )),
            false => Ok(told),
        }
    }

    /// Makes room for one more process: the one that has been idle the longest ends.
    fn make_room(&self, seats: &mut HashMap<SessionId, Arc<Seat>>) -> Result<(), ModelError> {
        let max = self.config.max_processes();
        if seats.len() < max {
            return Ok(());
        }
        let idle =
            seats.iter().filter_map(|(id, seat)| Some((seat.idle().as_ref().copied()?, *id)));
        let longest = idle.min_by_key(|(since, _)| *since);
        let seat = longest.and_then(|(_, session_id)| seats.remove(&session_id));
        let Some(seat) = seat else {
            let reason = format!(
                "all of its {max} processes (max_processes) play turns: try again when one has ended"
            );
            return Err(blame(&self.config.name, ModelErrorCode::Server, &reason));
        };
        seat.stop.cancel();
        Ok(())
    }

    fn seat(self: &Arc<Self>, session_id: SessionId) -> Arc<Seat> {
        let (order, orders) = mpsc::channel(ORDERS_MAX);
        let stop = self.closing.child_token();
        let seat = Arc::new(Seat {
            orders: order,
            stop: stop.clone(),
            left: CancellationToken::new(),
            idle_since: Mutex::default(),
        });
        let worker = Worker { pool: self.clone(), session_id, seat: seat.clone(), orders, stop };
        self.tasks.spawn(worker.work());
        seat
    }

    /// Notes that nothing is ordered, if that is so.
    pub(super) fn rest(&self, worker: &Worker) {
        let _seats = self.lock();
        if worker.orders.is_empty() {
            worker.seat.idle().get_or_insert(Instant::now());
        }
    }

    /// Leaves the seat, if nothing is ordered.
    pub(super) fn leave(&self, worker: &Worker) -> bool {
        let mut seats = self.lock();
        let may_leave = worker.orders.is_empty();
        if may_leave {
            remove(&mut seats, worker);
        }
        may_leave
    }

    /// Leaves the seat, whatever is ordered.
    pub(super) fn abandon(&self, worker: &Worker) {
        remove(&mut self.lock(), worker);
    }

    /// Ends the process of a session, and waits for its end.
    pub(super) async fn forget(&self, session_id: SessionId) {
        let seat = self.lock().remove(&session_id);
        if let Some(seat) = seat {
            seat.stop.cancel();
            seat.left.cancelled().await;
        }
    }

    /// Ends all processes, and waits for their end.
    pub(super) async fn close(&self) {
        // Under the lock: no order comes between.
        {
            let _seats = self.lock();
            self.closing.cancel();
        }
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, Arc<Seat>>> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The seat may have been given to somebody else since.
fn remove(seats: &mut HashMap<SessionId, Arc<Seat>>, worker: &Worker) {
    if seats.get(&worker.session_id).is_some_and(|seat| Arc::ptr_eq(seat, &worker.seat)) {
        seats.remove(&worker.session_id);
    }
}

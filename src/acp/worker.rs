//! Who holds the process of one session: it plays the turns one after the other.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::failure::blame;
use super::pool::{Pool, Seat};
use super::process::Process;
use super::telling::{Halt, Telling};
use super::tools::Pass;
use super::turn::{Conversation, Stage, let_go};
use crate::agent::{AgentEvent, AgentRequest, ModelError, ModelErrorCode};
use crate::model::SessionId;

/// A turn to play.
pub(super) struct Order {
    pub(super) request: AgentRequest,
    pub(super) events: mpsc::Sender<Result<AgentEvent, ModelError>>,
}

/// Plays the turns of one session.
pub(super) struct Worker {
    pub(super) pool: Arc<Pool>,
    pub(super) session_id: SessionId,
    pub(super) seat: Arc<Seat>,
    pub(super) orders: mpsc::Receiver<Order>,
    pub(super) stop: CancellationToken,
}

/// A process, and what it knows.
struct Held {
    process: Process,
    pass: Pass,
    conversation: Option<Conversation>,
}

impl Worker {
    /// Plays until the process has been idle for too long, has ended, or is to end.
    pub(super) async fn work(mut self) {
        let _left = self.seat.left.clone().drop_guard();
        let places = self.pool.places.clone();
        let place = tokio::select! {
            () = self.stop.cancelled() => None,
            place = places.acquire_owned() => place.ok(),
        };
        let mut held: Option<Held> = None;
        while place.is_some() {
            match self.wait(held.as_mut()).await {
                Wake::Order(order) => held = self.turn(*order, held.take()).await,
                Wake::Idle => {}
                Wake::Gone => {
                    if let Some(held) = held.take() {
                        held.end().await;
                    }
                }
                Wake::Stop => break,
            }
            self.pool.rest(&self);
            let idle_too_long = match held {
                Some(_) => self.seat.idle_for() >= self.pool.config.idle_timeout(),
                None => true,
            };
            if idle_too_long && self.pool.leave(&self) {
                break;
            }
        }
        self.pool.abandon(&self);
        if let Some(held) = held {
            held.end().await;
        }
        // Whoever ordered a turn that isn't played hears why.
        self.orders.close();
        while let Some(order) = self.orders.recv().await {
            let _sent = order.events.try_send(Err(self.stopped()));
        }
    }

    /// Waits for something to do.
    async fn wait(&mut self, held: Option<&mut Held>) -> Wake {
        let Some(held) = held else {
            return tokio::select! {
                biased;
                () = self.stop.cancelled() => Wake::Stop,
                order = self.orders.recv() => order.map_or(Wake::Stop, Wake::order),
            };
        };
        let left = self.pool.config.idle_timeout().saturating_sub(self.seat.idle_for());
        let mut idle = std::pin::pin!(sleep(left));
        loop {
            let Process { incoming, pipes, .. } = &mut held.process;
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Wake::Stop,
                order = self.orders.recv() => return order.map_or(Wake::Stop, Wake::order),
                Some(incoming) = incoming.recv() => let_go(incoming),
                () = &mut idle => return Wake::Idle,
                () = pipes.ended() => return Wake::Gone,
            }
        }
    }

    /// Plays a turn. Gives back what is left for the next one.
    async fn turn(&self, order: Order, held: Option<Held>) -> Option<Held> {
        let Order { request, events } = order;
        // It was given up while it waited.
        if events.is_closed() {
            return held;
        }
        let telling = Telling { events, stop: self.stop.clone() };
        let (held, played) = self.play(&request, held, &telling).await;
        let error = match played {
            Ok(()) | Err(Halt::Dropped) => return held,
            Err(Halt::Stopped) => {
                // The end waits for nobody: who is far behind finds the channel closed.
                let _told = telling.events.try_send(Err(self.stopped()));
                return held;
            }
            Err(Halt::Failed(error)) => error,
        };
        // Nobody may listen any more.
        let _told = telling.heard(telling.events.send(Err(error.clone()))).await;
        tracing::debug!(session = %self.session_id, %error, "an agent's turn failed");
        held
    }

    async fn play(
        &self,
        request: &AgentRequest,
        held: Option<Held>,
        telling: &Telling,
    ) -> (Option<Held>, Result<(), Halt>) {
        let mut held = match held {
            Some(held) => held,
            None => match telling.heard(self.start()).await {
                Ok(Ok(held)) => held,
                Ok(Err(error)) => return (None, Err(Halt::Failed(error))),
                Err(halt) => return (None, Err(halt)),
            },
        };
        let last = held.conversation.take();
        let Held { process, pass, .. } = &mut held;
        let Pool { config, metrics, .. } = self.pool.as_ref();
        let stage = Stage { config, process, pass, telling, metrics };
        match stage.play(request, last).await {
            Ok(conversation) => {
                held.conversation = conversation;
                (Some(held), Ok(()))
            }
            // The agent has ended the turn.
            Err(Halt::Dropped) => (Some(held), Err(Halt::Dropped)),
            // An answer that says no is no reason to end the process.
            Err(Halt::Failed(error)) if is_answer(error.code) => {
                (Some(held), Err(Halt::Failed(error)))
            }
            Err(halt) => {
                held.end().await;
                (None, Err(halt))
            }
        }
    }

    async fn start(&self) -> Result<Held, ModelError> {
        let pool = &self.pool;
        let pass = pool.tools.admit(&pool.tasks, &pool.closing).await;
        let pass =
            pass.map_err(|reason| blame(&pool.config.name, ModelErrorCode::Connection, &reason))?;
        let process = Process::start(&pool.config, &pool.launcher, &pool.tasks).await?;
        Ok(Held { process, pass, conversation: None })
    }

    fn stopped(&self) -> ModelError {
        let reason = match self.pool.closing.is_cancelled() {
            true => "callpark stops",
            false => "its process was ended, since the session is over or others needed the place",
        };
        blame(&self.pool.config.name, ModelErrorCode::Connection, reason)
    }
}

/// The agent works, and has said no.
fn is_answer(code: ModelErrorCode) -> bool {
    matches!(
        code,
        ModelErrorCode::Server | ModelErrorCode::Refused | ModelErrorCode::Unauthenticated
    )
}

impl Held {
    async fn end(self) {
        self.process.end().await;
    }
}

/// Why a worker wakes up.
enum Wake {
    Order(Box<Order>),
    /// Nothing was ordered for a while.
    Idle,
    /// The process has ended.
    Gone,
    Stop,
}

impl Wake {
    fn order(order: Order) -> Self {
        Self::Order(Box::new(order))
    }
}

//! The engine: sessions, calls, turns, follow-ups and their events, as the services need them.
//!
//! [`Engine`] is a cheap handle with one small type for each of these. A write becomes a command in
//! the inbox of the session's actor. A read goes to the store, and a reader that waits is woken by
//! the newest version of what it waits for. A handler owns no work: dropping one of the futures of
//! this module never stops a call.

mod actor;
mod append_time;
mod call;
mod clock;
mod error;
mod event;
mod expiry;
mod follow_up;
mod idempotency;
mod options;
mod recover;
mod replica;
mod restart;
mod run;
mod session;
mod shared;
mod topics;
mod turn;

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio_util::sync::CancellationToken;

use crate::exec::ShimStatus;
use crate::model::Timestamp;
use crate::store::PageTokenKey;

use actor::{ActorHandle, ActorMessage};

pub(crate) use clock::{look_at, sleep_until};
pub(crate) use shared::{CallVersion, Shared, Watched};

pub use call::{
    CallHandle, CallRequest, Calls, CancelTask, Cancelled, DryRun, ManyWaited, OutputRead,
    OutputSlice, OutputStart, Started, Summary, WaitMode, Waited,
};
pub use clock::{Clock, SystemClock};
pub use error::{Error, StdinFault};
pub use event::{Events, GapPolicy, StreamItem, StreamQuery, TaskUpdate};
pub use follow_up::{ChangedFollowUp, FollowUps, LeaseFollowUps, Leases};
pub use idempotency::RequestKey;
pub use options::{EngineOptions, EngineParts};
pub use recover::Recovered;
pub use replica::Peers;
pub use session::{
    ClosedSession, CreatedSession, MessageList, NewSession, Sessions, UpdatedSession,
};
pub use turn::{CancelledTurn, SubSession, TurnOutcome, TurnRequest, Turns};

/// The engine of a server.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

impl Engine {
    /// Creates an engine over these parts. [`Engine::recover`] must run before calls are accepted.
    pub fn new(parts: EngineParts) -> Self {
        Self { shared: Arc::new(Shared::new(parts)) }
    }

    /// Returns the calls: start, wait, cancel, read, list, delete.
    pub fn calls(&self) -> Calls {
        Calls::new(&self.shared)
    }

    /// Returns the sessions: create, get, list, close.
    pub fn sessions(&self) -> Sessions {
        Sessions::new(&self.shared)
    }

    /// Returns the turns of agents: start, outcome, cancel.
    pub fn turns(&self) -> Turns {
        Turns::new(&self.shared)
    }

    /// Returns the follow-ups: list, lease, acknowledge, retry.
    pub fn follow_ups(&self) -> FollowUps {
        FollowUps::new(&self.shared)
    }

    /// Returns the streams of events and of task changes.
    pub fn events(&self) -> Events {
        Events::new(&self.shared)
    }

    /// Returns the current time. It never steps while the engine runs.
    pub fn now(&self) -> Timestamp {
        self.shared.now()
    }

    /// Returns the longest time that a change recently took to become durable.
    pub fn append_time(&self) -> Duration {
        self.shared.append_time.longest()
    }

    /// Returns the key that authenticates page tokens.
    pub fn page_token_key(&self) -> PageTokenKey {
        self.shared.store.page_token_key()
    }

    /// Returns an error if changes cannot be stored.
    ///
    /// # Errors
    ///
    /// The store's reason.
    pub async fn check(&self) -> Result<(), Error> {
        self.shared.ownership.check_lease()?;
        Ok(self.shared.store.check().await?)
    }

    /// Takes up every call that an earlier server left unfinished and whose run is still there, and ends
    /// the others as LOST, after killing what is left of their processes.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] if the calls cannot be read.
    pub async fn recover(&self) -> Result<Recovered, Error> {
        replica::join(&self.shared).await?;
        recover::recover(&self.shared).await
    }

    /// Starts the tasks that remove expired records at intervals, and report when the clock is set,
    /// until the engine stops.
    pub fn sweep(&self) {
        expiry::spawn(&self.shared);
        clock::watch(&self.shared);
    }

    /// Parks the calls in the foreground whose processes go on without this server, and the turns with
    /// which the next one goes on. Their callers get the id.
    async fn park_processes(&self) {
        let park = |handle: ActorHandle| async move {
            // An actor that ends has no such call, or cannot store that it is parked.
            let _result = handle.ask(|answer| ActorMessage::ParkProcesses { answer }).await;
        };
        join_all(self.shared.directory.all().into_iter().map(park)).await;
    }

    /// Returns the shims that own processes of calls.
    pub fn shims(&self) -> Vec<ShimStatus> {
        self.shared.runner.shims()
    }

    /// Returns whether the processes of calls go on when the server stops.
    pub fn leaves_runs(&self) -> bool {
        self.shared.leaves_runs()
    }

    /// Returns the number of calls that run now.
    pub fn running_calls(&self) -> usize {
        self.shared.runs.len()
    }

    /// Returns the token that is cancelled when the server is about to stop.
    pub fn draining(&self) -> &CancellationToken {
        &self.shared.draining
    }

    /// Ends streams and waits, because the server is about to stop.
    pub fn drain(&self) {
        self.shared.draining.cancel();
    }

    /// Stops all runs but those that outlive this server, and closes the store. The next server goes on
    /// with the turns, and the other calls become LOST when it starts.
    pub async fn stop(&self) {
        self.shared.draining.cancel();
        self.park_processes().await;
        self.shared.stopping.cancel();
        self.shared.runs.close();
        self.shared.runs.wait().await;
        self.shared.closing.cancel();
        self.shared.tracker.close();
        self.shared.tracker.wait().await;
        // First of all that takes time: its lease is not renewed any more.
        replica::leave(&self.shared).await;
        self.shared.tools.close().await;
        join_all(self.shared.models.agents().map(|agent| agent.close())).await;
        self.shared.runner.close().await;
        self.shared.store.close().await;
    }
}

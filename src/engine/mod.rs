//! The engine: sessions, calls and background tasks, as the services need them.
//!
//! [`Engine`] is a cheap handle. Writes become commands in the inbox of the session's actor;
//! reads go to the store, and those who wait are woken by the newest version of what they wait
//! for. A handler owns no work: dropping one of the futures here never stops a call.

mod appends;
mod batch;
mod calls;
mod cancel;
mod clock;
mod depth;
mod directory;
mod effects;
mod error;
mod follow_up;
mod handle;
mod inbox;
mod log;
mod look_up;
mod news;
mod output;
mod part;
mod read_output;
mod recover;
mod redact;
mod requests;
mod result;
mod runner;
mod session;
mod sessions;
mod settle;
mod summary;
mod tasks;
mod topics;
mod turn;
mod wait;
mod watch;

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::join_all;
use tokio::sync::{Semaphore, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::agent::ModelRegistry;
use crate::exec::Executor;
use crate::machine::{Command, Reply, Settings};
use crate::model::limits::{ACTOR_INBOX_COMMANDS_MAX, ACTOR_REPLACEMENT_MS, RUNNING_TURNS_MAX};
use crate::model::{CallId, EventCodec, Principal, Session, SessionId, Tenant, ToolKind};
use crate::store::{RequestEffect, RequestRecord, Store};
use crate::telemetry::Metrics;
use crate::tool::Toolbox;

pub use calls::{CallRequest, DryRun, Started};
pub use cancel::{CancelTask, Cancelled};
pub use clock::{Clock, SystemClock};
pub use error::Error;
pub use follow_up::{ChangedFollowUp, LeaseFollowUps, Leases};
pub use handle::CallHandle;
pub(crate) use handle::sleep_until;
pub use log::{LogItem, LogQuery, OnGap};
pub use read_output::{OutputRead, OutputSlice, OutputStart};
pub use requests::RequestKey;
pub use sessions::{ClosedSession, CreatedSession, NewSession};
pub use summary::Summary;
pub use turn::{CancelledTurn, SubSession, TurnOutcome, TurnRequest};
pub use wait::{ManyWaited, WaitMode, Waited};
pub use watch::WatchItem;

use directory::{Directory, Handle};
use follow_up::WakeQueue;
use inbox::{Facts, Message, Origin};
use requests::Claims;
use session::Actor;
use topics::Topics;

/// How the engine behaves.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Spans of the machine.
    pub machine: Settings,
    /// Calls that run at the same time on this server. More wait as PENDING.
    pub running_calls_max: usize,
    /// Live calls of a session that doesn't say.
    pub live_tasks_default: u32,
    /// The hard limit of a run that nobody set.
    pub execution_timeout: Duration,
    /// From TERM to KILL when the server stops.
    pub stop_grace: Duration,
    /// A stream that has been silent for this long says so.
    pub heartbeat: Duration,
    /// A stream is told to come back after this long, give or take a tenth.
    pub stream_age: Duration,
    /// Where command tools run when neither they nor the session say.
    pub working_directory: Option<PathBuf>,
    /// Variables of this server that tools may be allowed to see.
    pub environment: Arc<BTreeMap<String, String>>,
    /// Before the second attempt at a request to a model; it doubles with each, up to ten times as
    /// much, and is jittered downwards to a half.
    pub model_retry_delay: Duration,
    /// How long an agent that works for another one holds it before it goes to the background.
    pub agent_call_budget: Duration,
    /// The system message of turns whose session has none.
    pub system_message: String,
    /// Events kept of a session.
    pub session_events_max: u64,
    /// How often what has expired is removed.
    pub sweep_interval: Duration,
}

/// What the engine works with.
pub struct EngineParts {
    /// Durable state.
    pub store: Arc<dyn Store>,
    /// Events to bytes.
    pub codec: Arc<dyn EventCodec>,
    /// Processes.
    pub executor: Arc<dyn Executor>,
    /// Tools.
    pub tools: Toolbox,
    /// Models.
    pub models: ModelRegistry,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Counters.
    pub metrics: Metrics,
    /// How to behave.
    pub options: EngineOptions,
}

/// The newest version of a call, for those who wait for it.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default)]
pub(crate) struct CallVersion {
    revision: u64,
    settled: bool,
    ended: bool,
}

/// Whose task changes somebody watches.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Watched {
    Tenant(Tenant),
    Session(SessionId),
}

pub(crate) struct Shared {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) codec: Arc<dyn EventCodec>,
    pub(crate) executor: Arc<dyn Executor>,
    pub(crate) tools: Toolbox,
    pub(crate) models: ModelRegistry,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Metrics,
    pub(crate) options: EngineOptions,
    pub(crate) directory: Directory,
    pub(crate) claims: Claims,
    /// Newest sequences of logs.
    pub(crate) heads: Topics<SessionId, u64>,
    /// Newest versions of calls.
    pub(crate) calls: Topics<CallId, CallVersion>,
    /// Counts of task changes.
    pub(crate) changes: Topics<Watched, u64>,
    /// The same of follow-ups that wait for a lease.
    pub(crate) leases: Topics<Watched, u64>,
    /// Sessions whose follow-ups the engine is to deliver.
    pub(crate) wake_queue: WakeQueue,
    change_count: AtomicU64,
    /// Places for running calls.
    pub(crate) slots: Arc<Semaphore>,
    /// Places for running turns: apart, or turns could hold all places that their calls wait for.
    pub(crate) turn_slots: Arc<Semaphore>,
    /// Runs of calls: the first to end when the server stops, so that those that end by
    /// themselves are still recorded.
    pub(crate) runs: TaskTracker,
    /// All other tasks.
    pub(crate) tracker: TaskTracker,
    /// The server is about to stop: streams and waits end.
    pub(crate) draining: CancellationToken,
    /// The server stops: processes are stopped, nothing is recorded of their end.
    pub(crate) stopping: CancellationToken,
    /// No run is left: actors leave.
    pub(crate) closing: CancellationToken,
}

/// Sessions, calls and background tasks.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

impl Engine {
    /// An engine over these parts. [`Engine::recover`] must run before calls are taken.
    pub fn new(parts: EngineParts) -> Self {
        let slots = parts.options.running_calls_max.min(Semaphore::MAX_PERMITS);
        let shared = Shared {
            store: parts.store,
            codec: parts.codec,
            executor: parts.executor,
            tools: parts.tools,
            models: parts.models,
            clock: parts.clock,
            metrics: parts.metrics,
            options: parts.options,
            directory: Directory::default(),
            claims: Claims::default(),
            heads: Topics::default(),
            calls: Topics::default(),
            changes: Topics::default(),
            leases: Topics::default(),
            wake_queue: WakeQueue::default(),
            change_count: AtomicU64::new(0),
            slots: Arc::new(Semaphore::new(slots)),
            turn_slots: Arc::new(Semaphore::new(RUNNING_TURNS_MAX)),
            runs: TaskTracker::new(),
            tracker: TaskTracker::new(),
            draining: CancellationToken::new(),
            stopping: CancellationToken::new(),
            closing: CancellationToken::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// The wall clock that its times are of.
    pub fn now(&self) -> crate::model::Timestamp {
        self.shared.clock.now()
    }

    /// Cancelled when the server is about to stop.
    pub fn draining(&self) -> &CancellationToken {
        &self.shared.draining
    }

    /// Says to streams and waits that the server is about to stop.
    pub fn drain(&self) {
        self.shared.draining.cancel();
    }

    /// Whether changes can be stored: an error says why not.
    pub async fn check(&self) -> Result<(), Error> {
        Ok(self.shared.store.check().await?)
    }

    /// Stops what runs and closes the store. Calls that have not ended are LOST when the next
    /// server starts.
    pub async fn stop(&self) {
        self.shared.draining.cancel();
        self.shared.stopping.cancel();
        self.shared.runs.close();
        self.shared.runs.wait().await;
        self.shared.closing.cancel();
        self.shared.tracker.close();
        self.shared.tracker.wait().await;
        self.shared.tools.close().await;
        join_all(self.shared.models.agents().map(|agent| agent.close())).await;
        self.shared.executor.reaped().await;
        self.shared.store.close().await;
    }

    /// The session, if it is this caller's.
    async fn own_session(&self, who: &Principal, id: SessionId) -> Result<Session, Error> {
        self.shared
            .store
            .session(id)
            .await?
            .filter(|session| session.tenant == who.tenant)
            .ok_or_else(|| Error::SessionNotFound(id.to_string()))
    }

    /// The actor of the caller's session, with what is known of the session.
    async fn own_actor(
        &self,
        who: &Principal,
        id: SessionId,
    ) -> Result<(Handle, Arc<Session>), Error> {
        let mut handle = self.shared.actor(Origin::Stored(id));
        let facts = handle.facts.wait_for(|facts| !matches!(facts, Facts::Loading)).await;
        let facts = facts.map(|facts| facts.clone());
        match facts {
            Ok(Facts::Known(session)) if session.tenant == who.tenant => Ok((handle, session)),
            Ok(Facts::Failed(error)) if !matches!(error, Error::SessionNotFound(_)) => Err(error),
            _ => Err(Error::SessionNotFound(id.to_string())),
        }
    }

    /// Gives the actor a command and waits for what came of it.
    async fn command(
        &self,
        handle: &Handle,
        command: Command,
        request: Option<RequestRecord>,
    ) -> Result<Reply, Error> {
        let (answer, answered) = oneshot::channel();
        self.send(handle, Message::Command { command, request, answer }, answered).await
    }

    async fn send(
        &self,
        handle: &Handle,
        message: Message,
        answered: oneshot::Receiver<Result<Reply, Error>>,
    ) -> Result<Reply, Error> {
        let gone = || match &*handle.facts.borrow() {
            Facts::Failed(error) => error.clone(),
            Facts::Loading | Facts::Known(_) => Error::Draining,
        };
        handle.inbox.send(message).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }

    fn record(
        &self,
        who: &Principal,
        request: Option<&RequestKey>,
        effect: RequestEffect,
    ) -> Option<RequestRecord> {
        request.map(|key| RequestRecord {
            tenant: who.tenant.clone(),
            request_id: key.id.clone(),
            fingerprint: key.fingerprint,
            effect,
            create_time: self.now(),
        })
    }
}

impl Shared {
    /// The actor of a session, made if there is none.
    fn actor(self: &Arc<Self>, origin: Origin) -> Handle {
        let id = match &origin {
            Origin::New(session) => session.id,
            Origin::Stored(id) => *id,
        };
        let (handle, vacancy) = self.directory.get_or_insert(id, ACTOR_INBOX_COMMANDS_MAX);
        if let Some(vacancy) = vacancy {
            let shared = self.clone();
            self.tracker.spawn(async move {
                let actor = Actor::run(shared.clone(), origin, vacancy);
                if AssertUnwindSafe(actor).catch_unwind().await.is_err() {
                    tracing::error!(session_id = %id, "an actor broke");
                    shared.directory.remove(id);
                    // The next one begins with what the store has, and tells those who wait what
                    // has been lost. Not at once: what breaks it may be there again.
                    let pause = tokio::time::sleep(Duration::from_millis(ACTOR_REPLACEMENT_MS));
                    if shared.closing.run_until_cancelled(pause).await.is_some() {
                        shared.actor(Origin::Stored(id));
                    }
                }
            });
        }
        handle
    }

    /// The places that calls of this kind run in.
    pub(crate) fn slots_of(&self, kind: ToolKind) -> &Arc<Semaphore> {
        match kind {
            ToolKind::Agent => &self.turn_slots,
            _ => &self.slots,
        }
    }
}

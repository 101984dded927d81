//! The state that all parts of an engine share.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use futures::FutureExt as _;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::actor::{ActorHandle, ActorSource, Directory, SessionActor, SessionSnapshot};
use super::append_time::AppendTime;
use super::clock::EvenTime;
use super::follow_up::WakeQueue;
use super::idempotency::{Claims, RequestKey};
use super::replica::{Ownership, Peers};
use super::restart::Restarts;
use super::topics::Topics;
use super::{EngineOptions, EngineParts, Error};
use crate::agent::ModelRegistry;
use crate::exec::Runner;
use crate::model::limits::{ACTOR_INBOX_COMMANDS_MAX, ACTOR_REPLACEMENT_MS, RUNNING_TURNS_MAX};
use crate::model::{
    Call, CallId, EventCodec, Principal, Session, SessionId, Tenant, Timestamp, ToolKind,
};
use crate::quota::Quotas;
use crate::store::{RequestEffect, RequestRecord, Store};
use crate::telemetry::Metrics;
use crate::tool::{ResolvedTool, Toolbox};

/// A version of a call, as it is published to those that wait for the call.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default)]
pub(crate) struct CallVersion {
    pub(crate) revision: u64,
    pub(crate) settled: bool,
    pub(crate) ended: bool,
}

impl From<&Call> for CallVersion {
    fn from(call: &Call) -> Self {
        let ended = call.state.is_terminal();
        Self { revision: call.revision, settled: ended || call.is_task(), ended }
    }
}

/// The scope in which task changes or leasable follow-ups are watched.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Watched {
    Tenant(Tenant),
    Session(SessionId),
}

/// The state that all parts of an engine share.
pub(crate) struct Shared {
    pub(crate) store: Arc<dyn Store>,
    /// The sessions that this server owns.
    pub(crate) ownership: Ownership,
    /// The other replicas, or `None` if this server has the store alone.
    pub(crate) peers: Option<Arc<dyn Peers>>,
    pub(crate) codec: Arc<dyn EventCodec>,
    pub(crate) runner: Arc<dyn Runner>,
    pub(crate) tools: Toolbox,
    pub(crate) models: ModelRegistry,
    pub(crate) time: EvenTime,
    pub(crate) metrics: Metrics,
    pub(crate) append_time: AppendTime,
    pub(crate) options: EngineOptions,
    /// The limits of tenants.
    pub(crate) quotas: Quotas,
    pub(crate) directory: Directory,
    pub(crate) claims: Claims,
    /// The newest sequence of each log.
    pub(crate) heads: Topics<SessionId, u64>,
    /// The newest version of each call.
    pub(crate) call_versions: Topics<CallId, CallVersion>,
    /// Counts of task changes.
    pub(crate) changes: Topics<Watched, u64>,
    /// Counts of changes to follow-ups that wait for a lease.
    pub(crate) leases: Topics<Watched, u64>,
    /// The work of calls that are run again, until their actors take it.
    pub(crate) restarts: Restarts,
    /// Sessions whose follow-ups the engine delivers.
    pub(crate) wake_queue: WakeQueue,
    /// The count that is published to `changes` and `leases`.
    pub(crate) change_count: AtomicU64,
    /// Slots for running calls.
    pub(crate) slots: Arc<Semaphore>,
    /// Slots for running turns. They are separate because turns could otherwise hold all the slots
    /// that their calls wait for.
    pub(crate) turn_slots: Arc<Semaphore>,
    /// Runs of calls. They are stopped first, so that the results of those that end by themselves
    /// are still recorded.
    pub(crate) runs: TaskTracker,
    /// All other tasks.
    pub(crate) tracker: TaskTracker,
    /// Cancelled when the server is about to stop: streams and waits end.
    pub(crate) draining: CancellationToken,
    /// Cancelled when the server stops: processes are stopped, and their ends are not recorded.
    pub(crate) stopping: CancellationToken,
    /// Cancelled when no run is left: actors end.
    pub(crate) closing: CancellationToken,
}

impl Shared {
    pub(super) fn new(parts: EngineParts) -> Self {
        let slots = parts.options.running_calls_max.min(Semaphore::MAX_PERMITS);
        Self {
            ownership: Ownership::new(parts.store.replicas()),
            peers: parts.peers,
            store: parts.store,
            codec: parts.codec,
            runner: parts.runner,
            tools: parts.tools,
            models: parts.models,
            time: EvenTime::new(parts.clock),
            metrics: parts.metrics,
            append_time: AppendTime::new(),
            options: parts.options,
            quotas: parts.quotas,
            directory: Directory::default(),
            claims: Claims::default(),
            heads: Topics::default(),
            call_versions: Topics::default(),
            changes: Topics::default(),
            leases: Topics::default(),
            restarts: Restarts::default(),
            wake_queue: WakeQueue::default(),
            change_count: AtomicU64::new(0),
            slots: Arc::new(Semaphore::new(slots)),
            turn_slots: Arc::new(Semaphore::new(RUNNING_TURNS_MAX)),
            runs: TaskTracker::new(),
            tracker: TaskTracker::new(),
            draining: CancellationToken::new(),
            stopping: CancellationToken::new(),
            closing: CancellationToken::new(),
        }
    }

    /// Returns the time, which never steps while the server runs.
    pub(crate) fn now(&self) -> Timestamp {
        self.time.now()
    }

    /// Returns a tool that the caller may use. Waits for its provider for up to `wait_max`.
    ///
    /// # Errors
    ///
    /// [`Error::ToolNotFound`], also for a tool that is given to others only.
    pub(crate) async fn find_tool(
        &self,
        principal: &Principal,
        name: &str,
        wait_max: Duration,
    ) -> Result<ResolvedTool, Error> {
        let not_found = || Error::ToolNotFound(name.to_owned());
        if !self.options.grants.allows_tool(principal, name) {
            return Err(not_found());
        }
        self.tools.find(name, wait_max).await.ok_or_else(not_found)
    }

    /// Returns the error of a model that the caller does not have, with the names of those that it has.
    pub(crate) fn model_not_found(&self, principal: &Principal, name: &str) -> Error {
        let grants = &self.options.grants;
        let models = self.models.names().filter(|model| grants.allows_model(principal, model));
        Error::ModelNotFound { name: name.to_owned(), models: models.map(str::to_owned).collect() }
    }

    /// Returns the session if it belongs to the caller's tenant.
    pub(crate) async fn own_session(
        &self,
        principal: &Principal,
        id: SessionId,
    ) -> Result<Session, Error> {
        self.store
            .session(id)
            .await?
            .filter(|session| session.tenant == principal.tenant)
            .ok_or_else(|| Error::SessionNotFound(id.to_string()))
    }

    /// Returns the actor of the session, and the session, if it belongs to the caller's tenant.
    pub(crate) async fn own_actor(
        self: &Arc<Self>,
        principal: &Principal,
        id: SessionId,
    ) -> Result<(ActorHandle, Arc<Session>), Error> {
        // Only the owner of a session may make this server claim it.
        if !self.directory.has(id) {
            self.own_session(principal, id).await?;
        }
        let mut handle = self.actor(ActorSource::Stored(id));
        match handle.loaded().await {
            SessionSnapshot::Known(session) if session.tenant == principal.tenant => {
                Ok((handle, session))
            }
            SessionSnapshot::Failed(error) if !matches!(error, Error::SessionNotFound(_)) => {
                Err(error)
            }
            _ => Err(Error::SessionNotFound(id.to_string())),
        }
    }

    /// Returns the actor of a session that must stay with this server while something here follows it, or
    /// `None` if this server has the store alone and no session ever leaves it.
    ///
    /// # Errors
    ///
    /// [`Error::NotOwner`] if another replica has the session.
    pub(crate) async fn hold(
        self: &Arc<Self>,
        principal: &Principal,
        id: SessionId,
    ) -> Result<Option<ActorHandle>, Error> {
        if self.ownership.replicas().is_none() {
            return Ok(None);
        }
        self.own_actor(principal, id).await.map(|(handle, _)| Some(handle))
    }

    /// Returns the actor of a session, and starts one if there is none.
    pub(crate) fn actor(self: &Arc<Self>, source: ActorSource) -> ActorHandle {
        let id = source.session_id();
        let (handle, seed) = self.directory.get_or_insert(id, ACTOR_INBOX_COMMANDS_MAX);
        if let Some(seed) = seed {
            let shared = self.clone();
            self.tracker.spawn(async move {
                let actor = SessionActor::run(shared.clone(), source, seed);
                if AssertUnwindSafe(actor).catch_unwind().await.is_err() {
                    tracing::error!(session_id = %id, "a session's actor panicked");
                    shared.directory.remove(id);
                    // The next actor starts from what the store has and ends the calls that were
                    // lost. It starts after a pause, because the cause of the panic may persist.
                    let pause = tokio::time::sleep(Duration::from_millis(ACTOR_REPLACEMENT_MS));
                    if shared.closing.run_until_cancelled(pause).await.is_some() {
                        shared.actor(ActorSource::Stored(id));
                    }
                }
            });
        }
        handle
    }

    /// Returns whether processes go on when the server stops.
    pub(crate) fn leaves_runs(&self) -> bool {
        self.runner.outlives_server() && !self.options.stop_runs
    }

    /// Returns the slots in which calls of this kind run.
    pub(crate) fn slots_of(&self, kind: ToolKind) -> &Arc<Semaphore> {
        match kind {
            ToolKind::Agent => &self.turn_slots,
            _ => &self.slots,
        }
    }

    /// Returns the record of a request with an id, to be stored with its effect.
    pub(crate) fn request_record(
        &self,
        principal: &Principal,
        request: Option<&RequestKey>,
        effect: RequestEffect,
    ) -> Option<RequestRecord> {
        request.map(|key| RequestRecord {
            tenant: principal.tenant.clone(),
            request_id: key.id.clone(),
            fingerprint: key.fingerprint,
            effect,
            create_time: self.now(),
        })
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

//! The configuration of an engine, and the parts that it is built from.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{Clock, Peers};
use crate::agent::ModelRegistry;
use crate::exec::Runner;
use crate::machine::Settings;
use crate::model::{EventCodec, Grants};
use crate::quota::Quotas;
use crate::store::Store;
use crate::telemetry::Metrics;
use crate::tool::Toolbox;

/// The options of an engine.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Durations that decisions of the state machine use.
    pub machine: Settings,
    /// The maximum number of calls that run at once on this server. Further calls are PENDING.
    pub running_calls_max: usize,
    /// The maximum number of live calls of a session that sets none.
    pub live_tasks_default: u32,
    /// The execution timeout of a call for which neither the request nor the tool sets one.
    pub execution_timeout: Duration,
    /// The time between TERM and KILL when the server stops.
    pub stop_grace: Duration,
    /// `true` if processes end with the server, also where they could outlive it.
    pub stop_runs: bool,
    /// The silence of a stream after which it sends a heartbeat.
    pub heartbeat: Duration,
    /// The age at which a stream ends and its client must attach again, varied by a tenth.
    pub stream_age: Duration,
    /// The folder in which command tools run if neither the tool nor the session sets one.
    pub working_directory: Option<PathBuf>,
    /// The environment variables of this server that tools may be allowed to see.
    pub environment: Arc<BTreeMap<String, String>>,
    /// The delay before the second attempt at a request to a model. It doubles with each further
    /// attempt, up to ten times this value, and is jittered downwards to a half.
    pub model_retry_delay: Duration,
    /// The time after which a sub-agent goes to the background, so that its caller can go on.
    pub agent_call_budget: Duration,
    /// The system message of turns whose session has none.
    pub system_message: String,
    /// The maximum number of events that are kept of a session.
    pub session_events_max: u64,
    /// The interval at which expired records are removed.
    pub sweep_interval: Duration,
    /// The tools and models that callers are given.
    pub grants: Grants,
}

/// The parts of an engine.
pub struct EngineParts {
    /// The durable state.
    pub store: Arc<dyn Store>,
    /// The encoding of events.
    pub codec: Arc<dyn EventCodec>,
    /// The runner of processes.
    pub runner: Arc<dyn Runner>,
    /// The tools.
    pub tools: Toolbox,
    /// The models and agents.
    pub models: ModelRegistry,
    /// The clock of the machine.
    pub clock: Arc<dyn Clock>,
    /// The metrics.
    pub metrics: Metrics,
    /// The other replicas of the store, or `None` if this server has it alone.
    pub peers: Option<Arc<dyn Peers>>,
    /// The limits of tenants.
    pub quotas: Quotas,
    /// The options.
    pub options: EngineOptions,
}

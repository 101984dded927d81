//! An engine on a store in memory, with one tool, `steps`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;

use super::Log;
use super::process::Steps;
use crate::engine::{
    CallHandle, CallRequest, CancelTask, Clock, Engine, EngineOptions, EngineParts, Error,
    NewSession, Started,
};
use crate::exec::LocalRunner;
use crate::machine::Settings;
use crate::model::{
    Call, CallId, Event, EventCodec, EventCorrupt, Grants, ParkReason, PayloadKind, Principal,
    ProcessSpec, Scopes, SessionId, StoredAcceptance, Tenant, Timestamp, Tool, ToolKind,
    ToolOutput, ToolSource, TurnId,
};
use crate::telemetry::Metrics;
use crate::time::Instant;
use crate::tool::{ArgumentError, Arguments, CallContext, CallableTool, Registry, Work};

/// The differences between the engines of the models.
pub struct Rules {
    pub running_calls_max: usize,
    pub live_tasks_max: u32,
}

impl Default for Rules {
    fn default() -> Self {
        Self { running_calls_max: 8, live_tasks_max: 8 }
    }
}

/// An engine and what it works with.
#[derive(Clone)]
pub struct World {
    pub engine: Engine,
    pub log: Arc<Log>,
    pub processes: Arc<Steps>,
}

impl World {
    pub fn new(rules: Rules) -> Self {
        let log = Arc::new(Log::default());
        let processes = Arc::new(Steps::default());
        let tools: Vec<Arc<dyn CallableTool>> = vec![Arc::new(StepsTool::new())];
        let engine = Engine::new(EngineParts {
            store: log.clone(),
            codec: Arc::new(NoCodec),
            runner: Arc::new(LocalRunner::new(processes.clone())),
            tools: Registry::new(tools).expect("a registry").into(),
            models: Default::default(),
            clock: Arc::new(ModelClock),
            metrics: METRICS.with(Metrics::clone),
            peers: None,
            quotas: Default::default(),
            options: EngineOptions {
                machine: Settings {
                    grace: millis(100),
                    retention: Duration::from_secs(3600),
                    follow_up_delay: millis(1),
                    run_owner: None,
                },
                running_calls_max: rules.running_calls_max,
                live_tasks_default: rules.live_tasks_max,
                execution_timeout: Duration::from_secs(3600),
                stop_grace: millis(100),
                stop_runs: false,
                heartbeat: Duration::from_secs(15),
                stream_age: Duration::from_secs(3600),
                working_directory: None,
                environment: Arc::default(),
                model_retry_delay: millis(20),
                agent_call_budget: millis(600_000),
                system_message: String::new(),
                session_events_max: 1000,
                sweep_interval: Duration::from_secs(60),
                grants: Grants::default(),
            },
        });
        Self { engine, log, processes }
    }

    /// A new session.
    pub async fn session(&self) -> SessionId {
        let made = self.engine.sessions().create(&who(), NewSession::default(), None).await;
        made.expect("a session").session.id
    }

    /// A call of so many steps, in this session or in one of its own.
    pub fn request(session_id: Option<SessionId>, steps: u32) -> CallRequest {
        let arguments = Arguments::from_iter([("steps".to_owned(), json!(steps))]);
        CallRequest { session_id, tool: "steps".into(), arguments, ..CallRequest::default() }
    }

    pub async fn start(&self, request: CallRequest) -> CallHandle {
        match self.engine.calls().start(&who(), request).await.expect("a call") {
            Started::Call(handle) => handle,
            Started::DryRun(_) => panic!("a call was asked for"),
        }
    }

    /// Starts a background task.
    pub async fn task(&self, request: CallRequest) -> CallId {
        self.start(CallRequest { background: true, ..request }).await.call_id
    }

    /// Waits for the end of a task, at most so long.
    pub async fn wait(&self, id: CallId, wait: Duration) -> Call {
        self.engine.calls().wait(&who(), id, wait, false).await.expect("a task").call
    }

    /// A wait of so long is refused by no clock: it ends with the task, or shuttle says that
    /// nothing moves any more.
    pub async fn ended(&self, id: CallId) -> Call {
        let call = self.wait(id, Duration::from_secs(1_000_000)).await;
        assert!(call.state.is_terminal(), "a wait without an end came back before the end");
        call
    }

    /// Asks a task to stop and doesn't wait for it.
    pub async fn cancel(&self, id: CallId, force: bool) -> Call {
        self.try_cancel(id, force).await.expect("a task")
    }

    /// The same, where the actor may break.
    pub async fn try_cancel(&self, id: CallId, force: bool) -> Result<Call, Error> {
        let cancel = CancelTask {
            id,
            request: None,
            force,
            reason: "a model".into(),
            grace: None,
            wait: Duration::ZERO,
            dry_run: false,
        };
        Ok(self.engine.calls().cancel(&who(), cancel).await?.call)
    }

    /// Waits for the end in the record, like a client that is not notified.
    pub async fn recorded_end(&self, id: CallId) -> Call {
        loop {
            let call = self.engine.calls().get(&who(), id).await.expect("a call");
            if call.state.is_terminal() {
                return call;
            }
            shuttle::future::yield_now().await;
        }
    }

    /// Stops the server, once every call has ended, and the log says so once.
    pub async fn leave(self) {
        self.engine.stop().await;
        for id in self.log.calls() {
            let ends = self.log.count(id, PayloadKind::ToolCallFinished);
            assert_eq!(ends, 1, "a call has one terminal event");
        }
    }
}

/// The one caller.
pub fn who() -> Principal {
    Principal { tenant: Tenant::new("model"), name: "model".into(), scopes: Scopes::ALL }
}

pub fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

thread_local! {
    // Made once: it is the slowest part of an engine, and no model reads it.
    static METRICS: Metrics = Metrics::default();
}

/// The moment of the model's time.
struct ModelClock;

impl Clock for ModelClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(1_000_000).saturating_add(self.uptime())
    }

    fn uptime(&self) -> Duration {
        Instant::now().since_begin()
    }
}

/// No model reads an event.
struct NoCodec;

impl EventCodec for NoCodec {
    fn encode(&self, _event: &Event, _stream_epoch: &str) -> Bytes {
        Bytes::new()
    }

    fn with_epoch(&self, bytes: &Bytes, _stream_epoch: &str) -> Bytes {
        bytes.clone()
    }

    fn decode_output(
        &self,
        _sequence: u64,
        _bytes: &Bytes,
    ) -> Result<Option<ToolOutput>, EventCorrupt> {
        Ok(None)
    }

    fn decode_accepted(
        &self,
        _sequence: u64,
        _bytes: &[u8],
    ) -> Result<Option<StoredAcceptance>, EventCorrupt> {
        Ok(None)
    }

    fn decode_parked(
        &self,
        _sequence: u64,
        _bytes: &[u8],
    ) -> Result<Option<(CallId, ParkReason)>, EventCorrupt> {
        Ok(None)
    }

    fn decode_turn(&self, _sequence: u64, _bytes: &[u8]) -> Result<Option<TurnId>, EventCorrupt> {
        Ok(None)
    }
}

/// Runs a process of as many steps as its argument says.
struct StepsTool(Tool);

impl StepsTool {
    fn new() -> Self {
        let schema = json!({ "type": "object" });
        Self(Tool {
            read_only: true,
            idempotent: true,
            ..Tool::new("steps", "takes steps", schema, ToolKind::Command, ToolSource::Config)
        })
    }
}

impl CallableTool for StepsTool {
    fn describe(&self) -> &Tool {
        &self.0
    }

    fn prepare(
        &self,
        arguments: &Arguments,
        _context: &CallContext,
    ) -> Result<Work, Vec<ArgumentError>> {
        let steps = arguments.get("steps").and_then(serde_json::Value::as_u64).unwrap_or_default();
        Ok(Work::Process(ProcessSpec {
            argv: vec![steps.to_string()],
            working_directory: None,
            environment: BTreeMap::new(),
            stdin: None,
        }))
    }
}

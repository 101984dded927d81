//! The server above its store: services, engine, HTTP/2.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use callpark::internals::auth::{OpenVerifier, Verifiers};
use callpark::internals::engine::{Clock, Engine, EngineOptions, EngineParts};
use callpark::internals::exec::{Executor, LocalRunner, Process, StartError, Survivor};
use callpark::internals::machine::Settings;
use callpark::internals::quota::Quotas;
use callpark::internals::rpc::{
    self, MessageLimits, RequestLayer, RequestOptions, ServerInfo, WireCodec,
};
use callpark::internals::telemetry::Metrics;
use callpark::model::{CallId, Grants, ProcessSpec, Timestamp};
use callpark::store::CachedStore;
use callpark::tool::Registry;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use crate::disk::{Disk, Mounted};
use crate::network;
use crate::tool::{Effects, WorkTool};

/// The interval of heartbeats on a silent stream.
pub const HEARTBEAT: Duration = Duration::from_secs(2);

/// The interval of connection probes, and the timeout of their answers.
pub const KEEPALIVE: [Duration; 2] = [Duration::from_secs(3), Duration::from_secs(2)];

/// The state that outlives the server.
#[derive(Clone)]
pub struct Site {
    pub disk: Arc<Disk>,
    pub effects: Effects,
    pub metrics: Metrics,
    /// The current life, which is notified before its end.
    pub drain: Arc<std::sync::Mutex<CancellationToken>>,
}

/// One life of the server, from its recovery on.
pub async fn serve(site: Site) -> turmoil::Result {
    let store = CachedStore::new(Arc::new(Mounted::new(&site.disk)), site.metrics.clone());
    let engine = Engine::new(EngineParts {
        store: Arc::new(store),
        codec: Arc::new(WireCodec),
        runner: Arc::new(LocalRunner::new(Arc::new(NoProcesses))),
        tools: Registry::new(vec![Arc::new(WorkTool::new(site.effects.clone()))])?.into(),
        models: Default::default(),
        clock: Arc::new(SimulatedClock),
        metrics: site.metrics.clone(),
        peers: None,
        quotas: Quotas::default(),
        options: options(),
    });
    while let Err(error) = engine.recover().await {
        tracing::warn!(%error, "the store fails: try again");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let drain = CancellationToken::new();
    site.drain.lock().expect("no panic").clone_from(&drain);
    let options = options();
    let info = ServerInfo {
        store: "memory",
        limits: MessageLimits { request_bytes_max: 4 << 20, response_bytes_max: 8 << 20 },
        running_calls_max: options.running_calls_max,
        call_budget: Duration::from_secs(600),
        execution_timeout: options.execution_timeout,
        retention: options.machine.retention,
        start_time: SimulatedClock.now(),
    };
    let layer = RequestLayer::new(RequestOptions {
        audit: None,
        verifiers: Verifiers::new(vec![Arc::new(OpenVerifier::default())]),
        clock: Arc::new(SimulatedClock),
        metrics: site.metrics,
        quotas: Quotas::default(),
        read_timeout: Duration::from_secs(30),
        forwarder: None,
    });
    let serving = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE[0]))
        .http2_keepalive_timeout(Some(KEEPALIVE[1]))
        .layer(layer)
        .add_routes(rpc::routes(&engine, info))
        .serve_with_incoming_shutdown(network::incoming().await?, drain.clone().cancelled_owned());
    let draining = async {
        drain.cancelled().await;
        engine.drain();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        served = serving => served?,
        () = draining => {}
    }
    // A server that has nothing more to answer waits to be killed.
    std::future::pending().await
}

/// The options of an engine.
pub fn options() -> EngineOptions {
    EngineOptions {
        machine: Settings {
            grace: Duration::from_millis(100),
            retention: Duration::from_secs(3_600),
            follow_up_delay: Duration::from_secs(1),
            run_owner: None,
        },
        running_calls_max: 8,
        live_tasks_default: 32,
        execution_timeout: Duration::from_secs(3_600),
        stop_grace: Duration::from_millis(100),
        stop_runs: false,
        heartbeat: HEARTBEAT,
        stream_age: Duration::from_secs(15),
        working_directory: None,
        environment: Arc::default(),
        model_retry_delay: Duration::from_secs(3),
        agent_call_budget: Duration::from_secs(600),
        system_message: String::new(),
        session_events_max: 1_000_000,
        sweep_interval: Duration::from_secs(60),
        grants: Grants::default(),
    }
}

/// The time of the simulation, which goes on over the lives of a server.
struct SimulatedClock;

impl Clock for SimulatedClock {
    fn now(&self) -> Timestamp {
        let since_epoch = turmoil::since_epoch().unwrap_or_default().as_micros();
        Timestamp::from_micros(i64::try_from(since_epoch).unwrap_or(i64::MAX))
    }

    fn uptime(&self) -> Duration {
        turmoil::sim_elapsed().unwrap_or_default()
    }
}

/// The tool of the simulation has no processes.
pub struct NoProcesses;

#[async_trait]
impl Executor for NoProcesses {
    fn start(&self, _: CallId, spec: ProcessSpec) -> Result<Box<dyn Process>, StartError> {
        Err(StartError::ProgramMissing { program: spec.argv.concat() })
    }

    fn kill_leftovers(&self, _: &[CallId]) -> Vec<Survivor> {
        Vec::new()
    }

    async fn reaped(&self) {}
}

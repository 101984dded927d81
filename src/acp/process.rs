//! An agent's process: from its start to its end.

use std::time::Duration;

use agent_client_protocol::schema::ProtocolVersion;
use agent_client_protocol::v1::schema::{
    AgentCapabilities, ClientCapabilities, Implementation, InitializeRequest,
    RequestPermissionRequest, RequestPermissionResponse, SessionNotification,
};
use agent_client_protocol::v1::{ConnectionTo, Responder};
use agent_client_protocol::{
    Agent as AgentRole, ByteStreams, Client, Error as ProtocolError, on_receive_notification,
    on_receive_request,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::compat::{TokioAsyncReadCompatExt as _, TokioAsyncWriteCompatExt as _};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::config::AgentConfig;
use super::failure::{blame, refusal, start_code};
use super::reader::{Gate, Gated, Noting, Strange};
use crate::agent::{ModelError, ModelErrorCode};
use crate::exec::{
    BoundedLines, FirstError, LastLines, LaunchedProcess, Launcher, ProcessLife, describe_exit,
};

/// Messages of an agent that wait to be looked at. More are left in the pipe.
const MESSAGES_MAX: usize = 16;

/// How long a process that says nothing more may take to end, and what it has said last to be read.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What an agent says by itself.
pub(super) enum Incoming {
    /// What it does.
    Update(Box<SessionNotification>),
    /// It asks whether it may do something.
    Permission(Box<Asked>),
}

/// What an agent asks, and where the answer goes.
pub(super) struct Asked {
    pub(super) request: RequestPermissionRequest,
    pub(super) responder: Responder<RequestPermissionResponse>,
}

/// A process that has shaken hands.
pub(super) struct Process {
    agent: String,
    /// What is asked of it.
    pub(super) connection: ConnectionTo<AgentRole>,
    /// What it can do.
    pub(super) capabilities: AgentCapabilities,
    /// What it says by itself.
    pub(super) incoming: mpsc::Receiver<Incoming>,
    pub(super) pipes: Pipes,
}

/// A process, and what is known of it.
pub(super) struct Pipes {
    life: ProcessLife,
    /// Ends the connection when it is dropped, and with it what the process reads.
    connected: DropGuard,
    serving: JoinHandle<()>,
    listening: JoinHandle<()>,
    fault: FirstError,
    strange: Strange,
    last_lines: LastLines,
}

impl Process {
    /// Starts a process, and shakes hands with it.
    pub(super) async fn start(
        config: &AgentConfig,
        launcher: &Launcher,
        tasks: &TaskTracker,
    ) -> Result<Self, ModelError> {
        let fail = |code, reason: &str| blame(&config.name, code, reason);
        let agent = config.name.clone();
        let log = move |line: &str| tracing::debug!(agent, line, "an agent wrote a line");
        let launched = launcher.launch(&config.process(), tasks, log);
        let launched = launched.map_err(|error| fail(start_code(&error), &error.to_string()))?;
        let (said, incoming) = mpsc::channel(MESSAGES_MAX);
        let (pipes, connection) = open(launched, said, tasks);
        let limit = config.start_timeout();
        let handshake = timeout(limit, shake_hands(connection, &pipes)).await;
        let (code, reason) = match handshake {
            Ok(Ok((connection, capabilities))) => {
                let agent = config.name.clone();
                return Ok(Self { agent, connection, capabilities, incoming, pipes });
            }
            Ok(Err(failed)) => failed,
            Err(_) => (
                match pipes.strange.is_there() {
                    true => ModelErrorCode::Garbled,
                    false => ModelErrorCode::Timeout,
                },
                format!("it didn't shake hands in {limit:?} (start_timeout)"),
            ),
        };
        let (strange, last_lines) = (pipes.strange.clone(), pipes.last_lines.clone());
        pipes.end().await;
        Err(fail(code, &format!("{reason}{}{}", strange.told(), last_lines.suffix())))
    }

    /// An error of a turn that this process has failed.
    pub(super) fn blame(&self, code: ModelErrorCode, reason: &str) -> ModelError {
        blame(&self.agent, code, reason)
    }

    /// Why it answered `what` with an error, or not at all.
    pub(super) async fn failed(&self, what: &str, error: &ProtocolError) -> ModelError {
        let (code, reason) = self.pipes.failed(what, error).await;
        let last_lines = self.pipes.last_lines.suffix();
        self.blame(code, &format!("{reason}{}{last_lines}", self.pipes.strange.told()))
    }

    /// What is to be said of a process that has ended.
    pub(super) async fn parted(&self) -> ModelError {
        let reason = self.pipes.parting().await;
        let last_lines = self.pipes.last_lines.suffix();
        self.blame(ModelErrorCode::Connection, &format!("{reason}{last_lines}"))
    }

    /// Ends it, and all of its group.
    pub(super) async fn end(self) {
        let Self { connection, incoming, pipes, .. } = self;
        drop((connection, incoming));
        pipes.end().await;
    }
}

impl Pipes {
    /// Waits for the end of the process.
    pub(super) async fn ended(&self) {
        let _exit = self.life.ended().await;
    }

    /// Why a process says nothing more. One that has a fault of its own isn't waited for; another
    /// one is probably about to end, and how it does is worth a moment.
    async fn parting(&self) -> String {
        if let Some(fault) = self.fault.get() {
            return fault;
        }
        match timeout(LAST_WORDS, self.life.ended()).await {
            Ok(exit) => {
                // What it has said to people is read to its end by then.
                let read = async {
                    while !self.listening.is_finished() {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                };
                let _read = timeout(LAST_WORDS, read).await;
                format!("it ended with {}", describe_exit(exit))
            }
            Err(_) => "it closed the connection".to_owned(),
        }
    }

    async fn failed(&self, what: &str, error: &ProtocolError) -> (ModelErrorCode, String) {
        let is_gone = agent_client_protocol::is_connection_terminated(error)
            || agent_client_protocol::is_incoming_transport_closed(error);
        match self.fault.get() {
            Some(fault) => (ModelErrorCode::Garbled, fault),
            None if is_gone => (ModelErrorCode::Connection, self.parting().await),
            None => refusal(what, error),
        }
    }

    async fn end(self) {
        let Self { life, connected, serving, listening, .. } = self;
        drop(connected);
        // What the process reads is closed with it.
        let _closed = timeout(LAST_WORDS, serving).await;
        life.end().await;
        let _read = timeout(LAST_WORDS, listening).await;
    }
}

/// Begins to talk and to listen. The connection comes as soon as there is one.
fn open(
    launched: LaunchedProcess,
    said: mpsc::Sender<Incoming>,
    tasks: &TaskTracker,
) -> (Pipes, oneshot::Receiver<ConnectionTo<AgentRole>>) {
    let LaunchedProcess { stdin, stdout, life, last_lines, stderr_task: listening } = launched;
    let (fault, strange) = (FirstError::default(), Strange::default());
    let gate = Gate::default();
    let lines = BoundedLines::new(Gated::new(stdout, gate.clone(), strange.clone()), fault.clone());
    let (there, connection) = oneshot::channel();
    let stop = CancellationToken::new();
    let stdin = Noting::new(stdin, gate.clone());
    let serving = serve(Serving { stdin, lines, said, gate, there });
    let (stopped, noted) = (stop.clone(), fault.clone());
    let serving = tasks.spawn(async move {
        if let Some(Err(error)) = stopped.run_until_cancelled(serving).await {
            noted.record(format!("the connection with it failed: {error}"));
        }
    });
    let connected = stop.drop_guard();
    (Pipes { life, connected, serving, listening, fault, strange, last_lines }, connection)
}

/// What a connection is made of.
struct Serving<W, R> {
    stdin: W,
    lines: R,
    said: mpsc::Sender<Incoming>,
    gate: Gate,
    there: oneshot::Sender<ConnectionTo<AgentRole>>,
}

/// Holds a connection until it is dropped or fails. Requests that nothing here answers, such as those
/// for files and terminals, are answered with "method not found" by the library.
async fn serve<W, R>(serving: Serving<W, R>) -> Result<(), ProtocolError>
where
    W: AsyncWrite + Send + 'static,
    R: AsyncRead + Send + 'static,
{
    let Serving { stdin, lines, said, gate, there } = serving;
    let (updates, update_gate) = (said.clone(), gate.clone());
    Client
        .v1()
        .name("callpark")
        .on_receive_notification(
            async move |notification: SessionNotification, _| {
                let update = Incoming::Update(Box::new(notification));
                pass(&updates, &update_gate, update).await;
                Ok(())
            },
            on_receive_notification!(),
        )
        .on_receive_request(
            async move |request: RequestPermissionRequest, responder, _| {
                let permission = Incoming::Permission(Box::new(Asked { request, responder }));
                pass(&said, &gate, permission).await;
                Ok(())
            },
            on_receive_request!(),
        )
        .connect_with(
            ByteStreams::new(stdin.compat_write(), lines.compat()),
            async move |connection| {
                // Nobody waits for it when the start was given up.
                let _sent = there.send(connection);
                std::future::pending().await
            },
        )
        .await
}

/// Waits for a place for what was said, and reads nothing more while it waits.
async fn pass(said: &mpsc::Sender<Incoming>, gate: &Gate, incoming: Incoming) {
    if let Err(mpsc::error::TrySendError::Full(incoming)) = said.try_send(incoming) {
        let _shut = gate.shut();
        // It has no reader when the process is being ended.
        let _sent = said.send(incoming).await;
    }
}

type Shaken = (ConnectionTo<AgentRole>, AgentCapabilities);

/// An error is a code and the end of a sentence.
async fn shake_hands(
    connection: oneshot::Receiver<ConnectionTo<AgentRole>>,
    pipes: &Pipes,
) -> Result<Shaken, (ModelErrorCode, String)> {
    let Ok(connection) = connection.await else {
        return Err((ModelErrorCode::Connection, pipes.parting().await));
    };
    let version = env!("CARGO_PKG_VERSION");
    let request = InitializeRequest::new(ProtocolVersion::V1)
        .client_capabilities(ClientCapabilities::default())
        .client_info(Implementation::new("callpark", version));
    let initialized = tokio::select! {
        initialized = connection.send_request(request).block_task() => initialized,
        _exit = pipes.life.ended() => {
            return Err((ModelErrorCode::Connection, pipes.parting().await));
        }
    };
    let initialized = match initialized {
        Ok(initialized) => initialized,
        Err(error) => return Err(pipes.failed("initialize", &error).await),
    };
    let spoken = initialized.protocol_version;
    if spoken != ProtocolVersion::V1 {
        let reason = format!("it speaks version {spoken} of the protocol, and callpark version 1");
        return Err((ModelErrorCode::Refused, reason));
    }
    Ok((connection, initialized.agent_capabilities))
}

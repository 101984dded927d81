//! The process of an agent, from its start to its end.

use std::time::Duration;

use agent_client_protocol::schema::ProtocolVersion;
use agent_client_protocol::v1::schema::{
    AgentCapabilities, ClientCapabilities, Implementation, InitializeRequest,
    RequestPermissionOutcome, RequestPermissionRequest, RequestPermissionResponse,
    SessionNotification,
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
use super::error::{agent_error, error_answer, start_error_code};
use super::read_gate::{GatedReader, GatedWriter, ReadGate, UnexpectedLine};
use crate::agent::{ModelError, ModelErrorCode};
use crate::exec::{
    BoundedLines, FirstError, LastLines, LaunchedProcess, Launcher, ProcessLife, describe_exit,
};

/// The number of messages of an agent that wait to be received. Further messages stay in the pipe.
const MESSAGES_MAX: usize = 16;

/// The time that a process may take to exit after it has closed its pipes, and the time that its last
/// output may take to be read.
const EXIT_TIMEOUT: Duration = Duration::from_secs(1);

/// A message that an agent sends on its own initiative.
pub(super) enum AgentMessage {
    /// An update about what it is doing.
    Update(Box<SessionNotification>),
    /// A request for permission.
    Permission(Box<PermissionRequest>),
}

/// A request for permission, with the channel for the answer.
pub(super) struct PermissionRequest {
    pub(super) request: RequestPermissionRequest,
    pub(super) responder: Responder<RequestPermissionResponse>,
}

/// Discards a message that doesn't belong to a turn. A permission is denied.
pub(super) fn discard(message: AgentMessage) {
    match message {
        AgentMessage::Update(update) => tracing::trace!(?update, "an update outside of a turn"),
        AgentMessage::Permission(permission) => {
            let outcome = RequestPermissionOutcome::Cancelled;
            // If the answer can't be sent, the agent has ended.
            let _sent = permission.responder.respond(RequestPermissionResponse::new(outcome));
        }
    }
}

/// A process that has completed the handshake.
pub(super) struct Process {
    agent: String,
    pub(super) connection: ConnectionTo<AgentRole>,
    pub(super) capabilities: AgentCapabilities,
    pub(super) incoming: mpsc::Receiver<AgentMessage>,
    pub(super) child: Child,
}

impl Process {
    /// Starts a process, and completes the handshake.
    pub(super) async fn start(
        config: &AgentConfig,
        launcher: &Launcher,
        tasks: &TaskTracker,
    ) -> Result<Self, ModelError> {
        let fail = |code, reason: &str| agent_error(&config.name, code, reason);
        let agent = config.name.clone();
        let log = move |line: &str| tracing::debug!(agent, line, "stderr of an agent");
        let launched = launcher.launch(&config.process(), tasks, log);
        let launched =
            launched.map_err(|error| fail(start_error_code(&error), &error.to_string()))?;
        let (messages, incoming) = mpsc::channel(MESSAGES_MAX);
        let (child, connection) = Child::connect(launched, messages, tasks);
        let limit = config.start_timeout();
        let handshake = timeout(limit, child.handshake(connection)).await;
        let (code, reason) = match handshake {
            Ok(Ok((connection, capabilities))) => {
                let agent = config.name.clone();
                return Ok(Self { agent, connection, capabilities, incoming, child });
            }
            Ok(Err(failed)) => failed,
            Err(_) => (
                match child.unexpected_line.exists() {
                    true => ModelErrorCode::Malformed,
                    false => ModelErrorCode::Timeout,
                },
                format!("it did not complete the handshake in {limit:?} (start_timeout)"),
            ),
        };
        let (line, last_lines) = (child.unexpected_line.clone(), child.last_lines.clone());
        child.end().await;
        Err(fail(code, &format!("{reason}{}{}", line.describe(), last_lines.suffix())))
    }

    /// Returns the error of a turn in which this process failed.
    pub(super) fn error(&self, code: ModelErrorCode, reason: &str) -> ModelError {
        agent_error(&self.agent, code, reason)
    }

    /// Returns the error for a `request` that the process answered with an error, or not at all.
    pub(super) async fn request_error(&self, request: &str, error: &ProtocolError) -> ModelError {
        let (code, reason) = self.child.request_error(request, error).await;
        let (line, last_lines) = (self.child.unexpected_line.describe(), &self.child.last_lines);
        self.error(code, &format!("{reason}{line}{}", last_lines.suffix()))
    }

    /// Returns the error for a process that has ended.
    pub(super) async fn exit_error(&self) -> ModelError {
        let reason = self.child.exit_reason().await;
        let last_lines = self.child.last_lines.suffix();
        self.error(ModelErrorCode::Connection, &format!("{reason}{last_lines}"))
    }

    /// Ends the process and its group.
    pub(super) async fn end(self) {
        let Self { connection, incoming, child, .. } = self;
        drop((connection, incoming));
        child.end().await;
    }
}

/// The running process behind a connection.
pub(super) struct Child {
    life: ProcessLife,
    /// Closes the connection when it is dropped, and with it the input of the process.
    connected: DropGuard,
    connection_task: JoinHandle<()>,
    stderr_task: JoinHandle<()>,
    first_error: FirstError,
    unexpected_line: UnexpectedLine,
    last_lines: LastLines,
}

type Handshake = (ConnectionTo<AgentRole>, AgentCapabilities);

impl Child {
    /// Starts to read and write. The connection is sent as soon as it exists.
    fn connect(
        launched: LaunchedProcess,
        messages: mpsc::Sender<AgentMessage>,
        tasks: &TaskTracker,
    ) -> (Self, oneshot::Receiver<ConnectionTo<AgentRole>>) {
        let LaunchedProcess { stdin, stdout, life, last_lines, stderr_task } = launched;
        let (first_error, unexpected_line) = (FirstError::default(), UnexpectedLine::default());
        let gate = ReadGate::default();
        let stdout = GatedReader::new(stdout, gate.clone(), unexpected_line.clone());
        let lines = BoundedLines::new(stdout, first_error.clone());
        let (connected, connection) = oneshot::channel();
        let stop = CancellationToken::new();
        let stdin = GatedWriter::new(stdin, gate.clone());
        let connection_work = hold_connection(Pipes { stdin, lines, messages, gate, connected });
        let (stopped, noted) = (stop.clone(), first_error.clone());
        let connection_task = tasks.spawn(async move {
            if let Some(Err(error)) = stopped.run_until_cancelled(connection_work).await {
                noted.record(format!("the connection with it failed: {error}"));
            }
        });
        let connected = stop.drop_guard();
        let child = Self {
            life,
            connected,
            connection_task,
            stderr_task,
            first_error,
            unexpected_line,
            last_lines,
        };
        (child, connection)
    }

    /// Completes the handshake. An error is a code and the end of a sentence.
    async fn handshake(
        &self,
        connection: oneshot::Receiver<ConnectionTo<AgentRole>>,
    ) -> Result<Handshake, (ModelErrorCode, String)> {
        let Ok(connection) = connection.await else {
            return Err((ModelErrorCode::Connection, self.exit_reason().await));
        };
        let version = env!("CARGO_PKG_VERSION");
        let request = InitializeRequest::new(ProtocolVersion::V1)
            .client_capabilities(ClientCapabilities::default())
            .client_info(Implementation::new("callpark", version));
        let initialized = tokio::select! {
            initialized = connection.send_request(request).block_task() => initialized,
            _exit = self.life.ended() => {
                return Err((ModelErrorCode::Connection, self.exit_reason().await));
            }
        };
        let initialized = match initialized {
            Ok(initialized) => initialized,
            Err(error) => return Err(self.request_error("initialize", &error).await),
        };
        let spoken = initialized.protocol_version;
        if spoken != ProtocolVersion::V1 {
            let reason =
                format!("it speaks version {spoken} of the protocol, but callpark version 1");
            return Err((ModelErrorCode::Refused, reason));
        }
        Ok((connection, initialized.agent_capabilities))
    }

    /// Waits until the process has ended.
    pub(super) async fn ended(&self) {
        let _exit = self.life.ended().await;
    }

    /// Returns the reason for which the process sends nothing more. If no error is known, the process
    /// is probably about to exit, and its exit status is waited for.
    async fn exit_reason(&self) -> String {
        if let Some(first_error) = self.first_error.get() {
            return first_error;
        }
        match timeout(EXIT_TIMEOUT, self.life.ended()).await {
            Ok(exit) => {
                // Its last lines on stderr belong to the reason.
                let read = async {
                    while !self.stderr_task.is_finished() {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                };
                let _read = timeout(EXIT_TIMEOUT, read).await;
                format!("it ended with {}", describe_exit(exit))
            }
            Err(_) => "it closed the connection".to_owned(),
        }
    }

    async fn request_error(
        &self,
        request: &str,
        error: &ProtocolError,
    ) -> (ModelErrorCode, String) {
        let is_disconnected = agent_client_protocol::is_connection_terminated(error)
            || agent_client_protocol::is_incoming_transport_closed(error);
        match self.first_error.get() {
            Some(first_error) => (ModelErrorCode::Malformed, first_error),
            None if is_disconnected => (ModelErrorCode::Connection, self.exit_reason().await),
            None => error_answer(request, error),
        }
    }

    async fn end(self) {
        let Self { life, connected, connection_task, stderr_task, .. } = self;
        drop(connected);
        // The input of the process is closed with the connection.
        let _closed = timeout(EXIT_TIMEOUT, connection_task).await;
        life.end().await;
        let _read = timeout(EXIT_TIMEOUT, stderr_task).await;
    }
}

/// The parts of a connection.
struct Pipes<W, R> {
    stdin: W,
    lines: R,
    messages: mpsc::Sender<AgentMessage>,
    gate: ReadGate,
    connected: oneshot::Sender<ConnectionTo<AgentRole>>,
}

/// Holds a connection until it is dropped or fails. The library answers requests that have no handler
/// here, such as those for files and terminals, with "method not found".
async fn hold_connection<W, R>(pipes: Pipes<W, R>) -> Result<(), ProtocolError>
where
    W: AsyncWrite + Send + 'static,
    R: AsyncRead + Send + 'static,
{
    let Pipes { stdin, lines, messages, gate, connected } = pipes;
    let (updates, update_gate) = (messages.clone(), gate.clone());
    Client
        .v1()
        .name("callpark")
        .on_receive_notification(
            async move |notification: SessionNotification, _| {
                let update = AgentMessage::Update(Box::new(notification));
                forward(&updates, &update_gate, update).await;
                Ok(())
            },
            on_receive_notification!(),
        )
        .on_receive_request(
            async move |request: RequestPermissionRequest, responder, _| {
                let permission = PermissionRequest { request, responder };
                let permission = AgentMessage::Permission(Box::new(permission));
                forward(&messages, &gate, permission).await;
                Ok(())
            },
            on_receive_request!(),
        )
        .connect_with(
            ByteStreams::new(stdin.compat_write(), lines.compat()),
            async move |connection| {
                // The receiver is gone if the start was abandoned.
                let _sent = connected.send(connection);
                std::future::pending().await
            },
        )
        .await
}

/// Forwards a message. While it waits for room, nothing is read from the process.
async fn forward(messages: &mpsc::Sender<AgentMessage>, gate: &ReadGate, message: AgentMessage) {
    if let Err(mpsc::error::TrySendError::Full(message)) = messages.try_send(message) {
        let _closed = gate.close();
        // The receiver is gone if the process is being ended.
        let _sent = messages.send(message).await;
    }
}

//! The owner of the process of one session, which runs the session's turns one after the other.

use std::sync::Arc;

use agent_client_protocol::v1::schema::{
    EnvVariable, HttpHeader, McpServer, McpServerHttp, McpServerStdio,
};
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::bridge::{ADDRESS_VARIABLE, TOKEN_VARIABLE};
use super::error::agent_error;
use super::event_sink::{EventSink, TurnAbort};
use super::host::AgentHost;
use super::process::{Process, discard};
use super::slot::{Slot, TurnOrder};
use super::tool_server::{SERVER_NAME, ToolToken};
use super::turn::{Conversation, TurnIo};
use crate::agent::{AgentRequest, ModelError, ModelErrorCode};
use crate::model::SessionId;

/// The owner of the process of one session.
pub(super) struct Worker {
    pub(super) host: Arc<AgentHost>,
    pub(super) session_id: SessionId,
    pub(super) slot: Arc<Slot>,
    pub(super) orders: mpsc::Receiver<TurnOrder>,
}

/// A process with the conversation that it knows.
struct LiveProcess {
    process: Process,
    token: ToolToken,
    /// The conversation of the last turn, or `None` if the next turn begins a new one.
    conversation: Option<Conversation>,
}

impl Worker {
    /// Runs turns until the process has been idle for too long, has ended, or is stopped.
    pub(super) async fn run(mut self) {
        let _ended = self.slot.ended.clone().drop_guard();
        let permits = self.host.process_permits.clone();
        let permit = tokio::select! {
            () = self.slot.stop.cancelled() => None,
            permit = permits.acquire_owned() => permit.ok(),
        };
        let mut live: Option<LiveProcess> = None;
        while permit.is_some() {
            match self.wait(live.as_mut()).await {
                Wake::Order(order) => live = self.run_turn(*order, live.take()).await,
                Wake::Idle => {}
                Wake::ProcessEnded => {
                    if let Some(live) = live.take() {
                        live.process.end().await;
                    }
                }
                Wake::Stop => break,
            }
            self.host.slots.mark_idle(&self.slot, &self.orders);
            let idle_too_long = match live {
                Some(_) => self.slot.idle_for() >= self.host.config.idle_timeout(),
                None => true,
            };
            let slots = &self.host.slots;
            if idle_too_long && slots.release_if_idle(self.session_id, &self.slot, &self.orders) {
                break;
            }
        }
        self.host.slots.lock().release(self.session_id, &self.slot);
        if let Some(live) = live {
            live.process.end().await;
        }
        // Turns that are still queued fail with the reason.
        self.orders.close();
        while let Some(order) = self.orders.recv().await {
            let _sent = order.events.try_send(Err(self.stop_error()));
        }
    }

    /// Waits for something to do.
    async fn wait(&mut self, live: Option<&mut LiveProcess>) -> Wake {
        let stop = &self.slot.stop;
        let Some(live) = live else {
            return tokio::select! {
                biased;
                () = stop.cancelled() => Wake::Stop,
                order = self.orders.recv() => order.map_or(Wake::Stop, Wake::order),
            };
        };
        let left = self.host.config.idle_timeout().saturating_sub(self.slot.idle_for());
        let mut idle = std::pin::pin!(sleep(left));
        loop {
            let Process { incoming, child, .. } = &mut live.process;
            tokio::select! {
                biased;
                () = stop.cancelled() => return Wake::Stop,
                order = self.orders.recv() => return order.map_or(Wake::Stop, Wake::order),
                Some(message) = incoming.recv() => discard(message),
                () = &mut idle => return Wake::Idle,
                () = child.ended() => return Wake::ProcessEnded,
            }
        }
    }

    /// Runs a turn. Returns the process if the next turn can use it.
    async fn run_turn(&self, order: TurnOrder, live: Option<LiveProcess>) -> Option<LiveProcess> {
        let TurnOrder { request, events } = order;
        // The turn was cancelled while it was queued.
        if events.is_closed() {
            return live;
        }
        let sink = EventSink { events, stop: self.slot.stop.clone() };
        let (live, ended) = self.run_in_process(&request, live, &sink).await;
        let error = match ended {
            Ok(()) | Err(TurnAbort::Dropped) => return live,
            Err(TurnAbort::Stopped) => {
                // Ending the process must not wait: a slow receiver finds the channel closed.
                let _sent = sink.events.try_send(Err(self.stop_error()));
                return live;
            }
            Err(TurnAbort::Failed(error)) => error,
        };
        // The receiver may have been dropped.
        let _sent = sink.while_wanted(sink.events.send(Err(error.clone()))).await;
        tracing::debug!(session = %self.session_id, %error, "a turn of an agent failed");
        live
    }

    async fn run_in_process(
        &self,
        request: &AgentRequest,
        live: Option<LiveProcess>,
        sink: &EventSink,
    ) -> (Option<LiveProcess>, Result<(), TurnAbort>) {
        let mut live = match live {
            Some(live) => live,
            None => match sink.while_wanted(self.start_process()).await {
                Ok(Ok(live)) => live,
                Ok(Err(error)) => return (None, Err(TurnAbort::Failed(error))),
                Err(abort) => return (None, Err(abort)),
            },
        };
        let last = live.conversation.take();
        let LiveProcess { process, token, .. } = &mut live;
        let AgentHost { config, metrics, .. } = self.host.as_ref();
        let tool_server = tool_server(&self.host, process, token).await;
        let io = TurnIo { config, process, token, tool_server, sink, metrics };
        match io.run(request, last).await {
            Ok(conversation) => {
                live.conversation = conversation;
                (Some(live), Ok(()))
            }
            // The agent has ended the cancelled turn.
            Err(TurnAbort::Dropped) => (Some(live), Err(TurnAbort::Dropped)),
            // A process that answers with an error still works.
            Err(TurnAbort::Failed(error)) if is_error_answer(error.code) => {
                (Some(live), Err(TurnAbort::Failed(error)))
            }
            Err(abort) => {
                live.process.end().await;
                (None, Err(abort))
            }
        }
    }

    async fn start_process(&self) -> Result<LiveProcess, ModelError> {
        let AgentHost { config, launcher, tools, tasks, closing, .. } = self.host.as_ref();
        let token = tools.issue_token(tasks, closing).await;
        let token = token
            .map_err(|reason| agent_error(&config.name, ModelErrorCode::Connection, &reason))?;
        let process = Process::start(config, launcher, tasks).await?;
        Ok(LiveProcess { process, token, conversation: None })
    }

    fn stop_error(&self) -> ModelError {
        let reason = match self.host.closing.is_cancelled() {
            true => "callpark is stopping",
            false => {
                "its process was ended, because the session is closed or another session needed \
                 the slot"
            }
        };
        agent_error(&self.host.config.name, ModelErrorCode::Connection, reason)
    }
}

/// Returns the server with callpark's tools in a form that the agent can use: a URL, or the bridge, a
/// program that the agent starts.
async fn tool_server(host: &AgentHost, process: &Process, token: &ToolToken) -> Option<McpServer> {
    if process.capabilities.mcp_capabilities.http {
        let authorization = HttpHeader::new("Authorization", format!("Bearer {}", token.token));
        let server = McpServerHttp::new(SERVER_NAME, token.url.clone());
        return Some(McpServer::Http(server.headers(vec![authorization])));
    }
    let agent = &host.config.name;
    let Some(program) = &host.bridge else {
        tracing::warn!(
            agent,
            "the agent cannot use callpark's tools: it does not support MCP over HTTP"
        );
        return None;
    };
    let address = match host.tools.bridge_address(&host.tasks, &host.closing).await {
        Ok(address) => address,
        Err(reason) => {
            tracing::error!(agent, reason, "the agent cannot use callpark's tools");
            return None;
        }
    };
    let variables = vec![
        EnvVariable::new(ADDRESS_VARIABLE, address.to_string()),
        EnvVariable::new(TOKEN_VARIABLE, token.token.clone()),
    ];
    let server = McpServerStdio::new(SERVER_NAME, program.clone());
    let arguments = ["mcp", "--stdio"].map(str::to_owned).to_vec();
    Some(McpServer::Stdio(server.args(arguments).env(variables)))
}

/// Returns `true` for the code of an error that the agent itself has answered.
fn is_error_answer(code: ModelErrorCode) -> bool {
    matches!(
        code,
        ModelErrorCode::Server | ModelErrorCode::Refused | ModelErrorCode::Unauthenticated
    )
}

/// The reason for which a worker wakes up.
enum Wake {
    Order(Box<TurnOrder>),
    /// The slot has been idle for too long.
    Idle,
    ProcessEnded,
    Stop,
}

impl Wake {
    fn order(order: TurnOrder) -> Self {
        Self::Order(Box::new(order))
    }
}

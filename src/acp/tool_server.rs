//! The MCP server on the loopback interface that offers callpark's tools to agents. Each process
//! authenticates with a token of its own.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{StatusCode, header};
use rmcp::ServerHandler;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ErrorData,
    Implementation, InitializeResult, ListToolsResult, PaginatedRequestParams, ServerCapabilities,
    ServerConfig, Tool as McpTool,
};
use rmcp::service::{RequestContext, RoleServer, serve_server};
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OnceCell, mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::agent::{CallAnswer, CallReply, RequestedCall, prompts};
use crate::exec::{BoundedLines, FirstError};
use crate::http_server::{
    Access, ConnectionAcceptor, ConnectionHandle, ConnectionPlace, HttpServer,
};
use crate::model::limits::HTTP_BODY_BYTES_MAX;
use crate::model::{Image, Tool};
use crate::telemetry::{HttpRefusal, HttpService, Metrics};

/// The name of the server. Some agents put it in front of the names of its tools.
pub(super) const SERVER_NAME: &str = "callpark";

/// The number of calls of a turn that wait to be received.
const CALLS_MAX: usize = 16;

/// The time in which a bridge must send its token.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(5);

/// A call of one of callpark's tools, with the channel for the answer.
pub(super) type AgentToolCall = (RequestedCall, CallReply);

/// The server, which starts to listen when the first process needs it.
pub(super) struct ToolServer {
    url: OnceCell<String>,
    /// The address for bridges.
    bridge_address: OnceCell<SocketAddr>,
    sessions: Arc<ToolSessions>,
    metrics: Metrics,
}

/// The sessions by the digests of their tokens, so that the time of a lookup reveals nothing about
/// other tokens.
#[derive(Default)]
struct ToolSessions(Mutex<HashMap<[u8; 32], Arc<ToolSession>>>);

impl ToolSessions {
    /// Returns the session of the process with this token.
    fn find(&self, token: &str) -> Option<Arc<ToolSession>> {
        self.lock().get(&digest(token)).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 32], Arc<ToolSession>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The tool session of one process. It accepts calls during a turn only.
#[derive(Default)]
pub(super) struct ToolSession {
    turn: Mutex<Option<TurnTools>>,
    /// `true` once the agent has asked for the tools.
    is_known: AtomicBool,
}

/// The tools of the turn that is running, and the channel for calls of them.
#[derive(Clone)]
struct TurnTools {
    tools: Arc<[Tool]>,
    calls: mpsc::Sender<AgentToolCall>,
}

/// The credentials of one process. They are revoked when this is dropped.
pub(super) struct ToolToken {
    pub(super) url: String,
    pub(super) token: String,
    pub(super) session: Arc<ToolSession>,
    sessions: Arc<ToolSessions>,
}

impl Drop for ToolToken {
    fn drop(&mut self) {
        self.sessions.lock().remove(&digest(&self.token));
    }
}

impl ToolServer {
    pub(super) fn new(metrics: Metrics) -> Self {
        let (url, bridge_address) = (OnceCell::new(), OnceCell::new());
        Self { url, bridge_address, sessions: Arc::default(), metrics }
    }

    /// Issues credentials for one process.
    ///
    /// # Errors
    ///
    /// Fails with a reason if the server cannot listen.
    pub(super) async fn issue_token(
        &self,
        tasks: &TaskTracker,
        closing: &CancellationToken,
    ) -> Result<ToolToken, String> {
        let url = self.url.get_or_try_init(|| self.listen(tasks, closing)).await?;
        let token = format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
        let session = Arc::<ToolSession>::default();
        self.sessions.lock().insert(digest(&token), session.clone());
        Ok(ToolToken { url: url.clone(), token, session, sessions: self.sessions.clone() })
    }

    /// Returns the address for bridges.
    ///
    /// # Errors
    ///
    /// Fails with a reason if the server cannot listen.
    pub(super) async fn bridge_address(
        &self,
        tasks: &TaskTracker,
        closing: &CancellationToken,
    ) -> Result<SocketAddr, String> {
        let listening = || self.listen_for_bridges(tasks, closing);
        self.bridge_address.get_or_try_init(listening).await.copied()
    }

    /// Starts to listen, and returns the URL of the server.
    async fn listen(
        &self,
        tasks: &TaskTracker,
        closing: &CancellationToken,
    ) -> Result<String, String> {
        let (listener, address) = bind().await?;
        let mut config = StreamableHttpServerConfig::default();
        // A process is identified by its token instead of a session of MCP.
        config.legacy_session_mode = false;
        config.max_request_body_bytes = HTTP_BODY_BYTES_MAX;
        config.cancellation_token = closing.child_token();
        let mcp_sessions = Arc::new(LocalSessionManager::default());
        let service = StreamableHttpService::new(|| Ok(Handler::default()), mcp_sessions, config);
        let router = axum::Router::new()
            .fallback_service(service)
            .layer(from_fn_with_state(self.sessions.clone(), authenticate));
        let (service, metrics) = (HttpService::Agents, self.metrics.clone());
        let server = HttpServer { service, access: Access::Authenticated, router, metrics };
        tasks.spawn(server.serve(listener, closing.clone()));
        Ok(format!("http://{address}/mcp"))
    }

    /// Starts to listen for bridges, and returns the address.
    async fn listen_for_bridges(
        &self,
        tasks: &TaskTracker,
        closing: &CancellationToken,
    ) -> Result<SocketAddr, String> {
        let (listener, address) = bind().await?;
        let acceptor = ConnectionAcceptor::new(HttpService::Bridges, self.metrics.clone());
        let (sessions, closing) = (self.sessions.clone(), closing.clone());
        tasks.spawn(async move {
            let serve = |connection, place| {
                let (sessions, closing) = (sessions.clone(), closing.clone());
                async move {
                    let serving = serve_bridge(connection, place, &sessions);
                    closing.run_until_cancelled(serving).await;
                }
            };
            acceptor.run(listener, &closing, serve).await;
        });
        Ok(address)
    }
}

/// Listens on a free port of the loopback interface.
async fn bind() -> Result<(TcpListener, SocketAddr), String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
    let listener =
        listener.map_err(|error| format!("cannot listen on a port of 127.0.0.1: {error}"))?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    Ok((listener, address))
}

impl ToolSession {
    /// Returns `true` if the agent has asked for the tools: it knows that they exist.
    pub(super) fn is_known(&self) -> bool {
        self.is_known.load(Ordering::Relaxed)
    }

    /// Accepts calls of these tools until the guard is dropped.
    pub(super) fn open(self: &Arc<Self>, tools: Arc<[Tool]>) -> OpenToolSession {
        let (sender, calls) = mpsc::channel(CALLS_MAX);
        *self.lock() = Some(TurnTools { tools, calls: sender });
        OpenToolSession { session: self.clone(), calls }
    }

    /// Returns the tools for a request of the agent.
    fn turn_tools(&self) -> Option<TurnTools> {
        self.is_known.store(true, Ordering::Relaxed);
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Option<TurnTools>> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A tool session that accepts calls.
pub(super) struct OpenToolSession {
    session: Arc<ToolSession>,
    pub(super) calls: mpsc::Receiver<AgentToolCall>,
}

impl Drop for OpenToolSession {
    fn drop(&mut self) {
        *self.session.lock() = None;
    }
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// Finds the tool session of a request, or rejects the request.
async fn authenticate(
    State(sessions): State<Arc<ToolSessions>>,
    mut request: Request,
    next: Next,
) -> Response {
    let credentials = request.headers().get(header::AUTHORIZATION);
    let token = credentials.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let session = token.and_then(|token| sessions.find(token));
    if let Some(connection) = request.extensions().get::<ConnectionHandle>() {
        connection.set_authenticated(session.is_some());
    }
    match session {
        Some(session) => {
            request.extensions_mut().insert(session);
            next.run(request).await
        }
        None => {
            let reason = "this server accepts only agents that callpark has started\n";
            (StatusCode::UNAUTHORIZED, reason).into_response()
        }
    }
}

/// Serves a bridge, whose first line must be the token of a process.
async fn serve_bridge(connection: TcpStream, place: ConnectionPlace, sessions: &ToolSessions) {
    let (reader, writer) = connection.into_split();
    let lines = BoundedLines::new(reader, FirstError::default());
    let mut lines = BufReader::new(lines);
    let mut token = String::new();
    let reading = timeout(TOKEN_TIMEOUT, lines.read_line(&mut token));
    let read = tokio::select! {
        read = reading => read,
        () = place.displaced() => return,
    };
    let session = match read {
        Ok(Ok(_)) => sessions.find(token.trim()),
        Ok(Err(_)) => None,
        Err(_) => return place.refuse(HttpRefusal::Timeout),
    };
    let Some(session) = session else { return place.refuse(HttpRefusal::Unauthenticated) };
    place.handle().set_authenticated(true);
    // It is never idle: a bridge has one connection, and does not open another one.
    let _in_use = place.handle().begin_request();
    let served = serve_server(Handler { bridged: Some(session) }, (lines, writer)).await;
    match served {
        Ok(service) => {
            let _ended = service.waiting().await;
        }
        Err(error) => tracing::debug!(%error, "an agent ended its bridge at once"),
    }
}

/// The handler of MCP requests.
#[derive(Clone, Default)]
struct Handler {
    /// The tool session of a bridge. A request over HTTP brings its own.
    bridged: Option<Arc<ToolSession>>,
}

impl Handler {
    fn turn_tools(&self, context: &RequestContext<RoleServer>) -> Option<TurnTools> {
        if let Some(session) = &self.bridged {
            return session.turn_tools();
        }
        let parts = context.extensions.get::<http::request::Parts>()?;
        parts.extensions.get::<Arc<ToolSession>>()?.turn_tools()
    }
}

impl ServerHandler for Handler {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder().enable_tools().build();
        let name = Implementation::new(SERVER_NAME, env!("CARGO_PKG_VERSION"));
        InitializeResult::new(capabilities).with_server_info(name)
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let tools = self.turn_tools(&context).map(|turn| turn.tools).unwrap_or_default();
        Ok(ListToolsResult::with_all_items(tools.iter().map(described).collect()))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let Some(turn) = self.turn_tools(&context) else {
            return Ok(error_result(prompts::NO_TURN_RUNNING).into());
        };
        let (reply, answer) = oneshot::channel();
        let call = RequestedCall {
            id: format!("call_{}", uuid::Uuid::new_v4().simple()),
            tool: request.name.into_owned(),
            arguments: serde_json::Value::Object(request.arguments.unwrap_or_default()).to_string(),
            provider_data: None,
        };
        let answering = async {
            turn.calls.send((call, reply)).await.ok()?;
            answer.await.ok()
        };
        // If the agent cancels its request, the reply channel is dropped with this future.
        let answer = context.ct.run_until_cancelled(answering).await.flatten();
        Ok(match answer {
            Some(answer) => result(answer).into(),
            None => error_result(prompts::TURN_ENDED_BEFORE_ANSWER).into(),
        })
    }
}

/// Returns the text of an answer, followed by its images.
fn result(answer: CallAnswer) -> CallToolResult {
    let CallAnswer { text, images, failed } = answer;
    let images = images
        .into_iter()
        .map(|Image { media_type, data }| ContentBlock::image(STANDARD.encode(data), media_type));
    let content = [ContentBlock::text(text)].into_iter().chain(images).collect();
    if failed { CallToolResult::error(content) } else { CallToolResult::success(content) }
}

fn error_result(text: &str) -> CallToolResult {
    CallToolResult::error(vec![ContentBlock::text(text)])
}

fn described(tool: &Tool) -> McpTool {
    let schema = tool.input_schema.as_object().cloned().unwrap_or_default();
    McpTool::new(tool.name.clone(), tool.description.clone(), schema)
}

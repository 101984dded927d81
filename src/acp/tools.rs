//! Callpark's tools for its agents: an MCP server on the loopback interface, which knows each
//! process by a token of its own.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
use rmcp::service::{RequestContext, RoleServer};
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;
use tokio::sync::{OnceCell, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::agent::{CallAnswer, WantedCall};
use crate::model::limits::ARGUMENTS_BYTES_MAX;
use crate::model::{Picture, Tool};

/// What agents call the server; some put it before the names of its tools.
pub(super) const SERVER_NAME: &str = "callpark";

/// Calls of a turn that wait to be told.
const CALLS_MAX: usize = 16;

/// A call, and where its answer goes.
pub(super) type AskedCall = (WantedCall, oneshot::Sender<CallAnswer>);

/// The server, which begins to listen when the first agent needs it.
#[derive(Default)]
pub(super) struct ToolServer {
    url: OnceCell<String>,
    desks: Arc<Desks>,
}

/// The processes by the digests of their tokens: looking one up tells nothing about the others.
#[derive(Default)]
struct Desks(Mutex<HashMap<[u8; 32], Arc<Desk>>>);

impl Desks {
    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 32], Arc<Desk>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where the calls of one process arrive.
#[derive(Default)]
pub(super) struct Desk(Mutex<Option<Service>>);

#[derive(Clone)]
struct Service {
    tools: Arc<[Tool]>,
    calls: mpsc::Sender<AskedCall>,
}

/// A process's right to call. It ends when it is dropped.
pub(super) struct Pass {
    pub(super) url: String,
    /// What the process shows.
    pub(super) token: String,
    pub(super) desk: Arc<Desk>,
    desks: Arc<Desks>,
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.desks.lock().remove(&digest(&self.token));
    }
}

impl ToolServer {
    /// A right to call for one process. An error says why nobody can be listened to.
    pub(super) async fn admit(
        &self,
        tasks: &TaskTracker,
        closing: &CancellationToken,
    ) -> Result<Pass, String> {
        let url = self.url.get_or_try_init(|| listen(self.desks.clone(), tasks, closing)).await?;
        let token = format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
        let desk = Arc::<Desk>::default();
        self.desks.lock().insert(digest(&token), desk.clone());
        Ok(Pass { url: url.clone(), token, desk, desks: self.desks.clone() })
    }
}

impl Desk {
    /// Takes calls as long as what is returned is there.
    pub(super) fn open(self: &Arc<Self>, tools: Arc<[Tool]>) -> OpenDesk {
        let (calls, asked) = mpsc::channel(CALLS_MAX);
        *self.lock() = Some(Service { tools, calls });
        OpenDesk { desk: self.clone(), asked }
    }

    fn service(&self) -> Option<Service> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Service>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A desk that takes calls.
pub(super) struct OpenDesk {
    desk: Arc<Desk>,
    /// The calls.
    pub(super) asked: mpsc::Receiver<AskedCall>,
}

impl Drop for OpenDesk {
    fn drop(&mut self) {
        *self.desk.lock() = None;
    }
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// Begins to listen, and says where.
async fn listen(
    desks: Arc<Desks>,
    tasks: &TaskTracker,
    closing: &CancellationToken,
) -> Result<String, String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
    let listener = listener.map_err(|error| format!("no port of 127.0.0.1 can be had: {error}"))?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    let mut config = StreamableHttpServerConfig::default();
    // A session is a token here.
    config.legacy_session_mode = false;
    config.max_request_body_bytes = ARGUMENTS_BYTES_MAX.saturating_mul(2);
    config.cancellation_token = closing.child_token();
    let sessions = Arc::new(LocalSessionManager::default());
    let service = StreamableHttpService::new(|| Ok(Handler), sessions, config);
    let router = axum::Router::new()
        .fallback_service(service)
        .layer(from_fn_with_state(desks, admit_request));
    let stopped = closing.clone().cancelled_owned();
    let serving = axum::serve(listener, router).with_graceful_shutdown(stopped);
    tasks.spawn(async move {
        if let Err(error) = serving.await {
            tracing::error!(%error, "agents can't call tools any more");
        }
    });
    Ok(format!("http://{address}/mcp"))
}

/// Finds the process that a request comes from; others are sent away.
async fn admit_request(
    State(desks): State<Arc<Desks>>,
    mut request: Request,
    next: Next,
) -> Response {
    let shown = request.headers().get(header::AUTHORIZATION);
    let shown = shown.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let desk = shown.and_then(|token| desks.lock().get(&digest(token)).cloned());
    match desk {
        Some(desk) => {
            request.extensions_mut().insert(desk);
            next.run(request).await
        }
        None => {
            let reason = "this server is for the agents that callpark has started\n";
            (StatusCode::UNAUTHORIZED, reason).into_response()
        }
    }
}

/// Answers what agents ask.
#[derive(Clone)]
struct Handler;

impl Handler {
    fn service(context: &RequestContext<RoleServer>) -> Option<Service> {
        let parts = context.extensions.get::<http::request::Parts>()?;
        parts.extensions.get::<Arc<Desk>>()?.service()
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
        let tools = Self::service(&context).map(|service| service.tools).unwrap_or_default();
        Ok(ListToolsResult::with_all_items(tools.iter().map(described).collect()))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let Some(service) = Self::service(&context) else {
            return Ok(failed("no turn of this session runs: call tools in a turn only").into());
        };
        let (answered, answer) = oneshot::channel();
        let call = WantedCall {
            id: format!("call_{}", uuid::Uuid::new_v4().simple()),
            tool: request.name.into_owned(),
            arguments: serde_json::Value::Object(request.arguments.unwrap_or_default()).to_string(),
        };
        let asking = async {
            service.calls.send((call, answered)).await.ok()?;
            answer.await.ok()
        };
        // Whoever has left needs no answer: what waits for it is dropped with this.
        let answer = context.ct.run_until_cancelled(asking).await.flatten();
        Ok(match answer {
            Some(answer) => result(answer).into(),
            None => failed("the turn ended before the call was answered").into(),
        })
    }
}

/// The words, then the pictures.
fn result(answer: CallAnswer) -> CallToolResult {
    let CallAnswer { text, pictures, failed } = answer;
    let pictures = pictures
        .into_iter()
        .map(|Picture { media_type, data }| ContentBlock::image(STANDARD.encode(data), media_type));
    let content = [ContentBlock::text(text)].into_iter().chain(pictures).collect();
    if failed { CallToolResult::error(content) } else { CallToolResult::success(content) }
}

fn failed(text: impl Into<String>) -> CallToolResult {
    CallToolResult::error(vec![ContentBlock::text(text)])
}

fn described(tool: &Tool) -> McpTool {
    let schema = tool.input_schema.as_object().cloned().unwrap_or_default();
    McpTool::new(tool.name.clone(), tool.description.clone(), schema)
}

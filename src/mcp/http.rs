//! The HTTP client of a server at a URL. A request that fails is an error of that request: the
//! connection goes on, and so do the other requests.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use http::header::ACCEPT;
use http::{HeaderName, HeaderValue, StatusCode};
use reqwest::{RequestBuilder, Response};
use rmcp::model::{
    ClientJsonRpcMessage, ClientRequest, JsonRpcMessage, RequestId, ServerJsonRpcMessage,
};
use rmcp::transport::streamable_http_client::{
    SseError, StreamableHttpClient, StreamableHttpError, StreamableHttpPostResponse,
};
use rmcp_sse_stream::Sse;

use super::answer_error::own_error;
use super::convert::root_cause;
use super::events::{self, event_of};
use super::handler::McpClientHandler;
use super::http_body::{describe_status, media_type, read_beginning, read_body};
use super::message::{excerpt, read};
use super::open_requests::OpenRequests;
use super::token::Token;
use super::unreadable::Unreadable;

const SESSION_ID: &str = "mcp-session-id";
const LAST_EVENT_ID: &str = "last-event-id";
const EVENT_STREAM: &str = "text/event-stream";

type HttpError = StreamableHttpError<reqwest::Error>;

/// The client of one connection.
#[derive(Clone)]
pub(super) struct HttpClient(Arc<Inner>);

pub(super) struct Inner {
    client: reqwest::Client,
    token: Token,
    handler: McpClientHandler,
    /// `true` once the server was initialized. A second time its tools may be others.
    was_initialized: AtomicBool,
    pub(super) open: OpenRequests,
    pub(super) unreadable: Unreadable,
}

/// The message of a POST, as far as its answer needs it.
struct Post {
    /// The id of a request, or `None` if no answer is expected.
    id: Option<RequestId>,
    method: PostMethod,
    has_session: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum PostMethod {
    Discover,
    Initialize,
    Other,
}

impl HttpClient {
    pub(super) fn new(
        client: reqwest::Client,
        token: Token,
        handler: McpClientHandler,
        unreadable: Unreadable,
    ) -> Self {
        let (open, was_initialized) = (OpenRequests::default(), AtomicBool::new(false));
        Self(Arc::new(Inner { client, token, handler, was_initialized, open, unreadable }))
    }

    /// Sends a request, and again if it was refused and there is a new token.
    async fn send(&self, request: RequestBuilder) -> Result<Response, HttpError> {
        let again = request.try_clone();
        let response = self.authorized(request).send().await?;
        if response.status() == StatusCode::UNAUTHORIZED
            && let Some(again) = again
            && self.0.token.renew().await
        {
            return Ok(self.authorized(again).send().await?);
        }
        Ok(response)
    }

    fn authorized(&self, request: RequestBuilder) -> RequestBuilder {
        match self.0.token.get() {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    async fn post(
        &self,
        uri: &str,
        message: &ClientJsonRpcMessage,
        session: Option<Arc<str>>,
        headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<StreamableHttpPostResponse, HttpError> {
        self.0.open.sent(message);
        let post = Post::of(message, session.is_some());
        if post.method == PostMethod::Initialize
            && self.0.was_initialized.swap(true, Ordering::Relaxed)
        {
            self.0.handler.mark_stale();
        }
        let request = self.0.client.post(uri).header(ACCEPT, "application/json, text/event-stream");
        let request = with_session(request, session, headers).json(message);
        let answered = match self.send(request).await {
            Ok(response) => self.answer(response, &post).await,
            Err(error) => Err(error),
        };
        let error = match answered {
            Ok(answer) => return Ok(answer),
            Err(error @ StreamableHttpError::SessionExpired) => return Err(error),
            Err(error) => error,
        };
        if matches!(error, StreamableHttpError::Client(_)) {
            self.0.handler.mark_stale();
        }
        match post.id {
            // What goes wrong at the beginning is for the one who connects.
            Some(id) if post.method == PostMethod::Other => {
                self.0.open.take(&id);
                let reason = match &error {
                    StreamableHttpError::Client(_) => {
                        format!("the request failed: {}", root_cause(&error))
                    }
                    other => root_cause(other),
                };
                Ok(StreamableHttpPostResponse::Json(own_error(id, reason), None))
            }
            _ => Err(error),
        }
    }

    async fn answer(
        &self,
        response: Response,
        post: &Post,
    ) -> Result<StreamableHttpPostResponse, HttpError> {
        let status = response.status();
        if matches!(status, StatusCode::ACCEPTED | StatusCode::NO_CONTENT) {
            // The answer to a request may come over the stream of its session.
            let may_follow = status == StatusCode::ACCEPTED && post.has_session;
            return match post.id {
                Some(_) if !may_follow => {
                    Err(unexpected(format!("it answered with HTTP {status} and no message")))
                }
                _ => Ok(StreamableHttpPostResponse::Accepted),
            };
        }
        if status == StatusCode::NOT_FOUND && post.has_session {
            return Err(StreamableHttpError::SessionExpired);
        }
        if !status.is_success() {
            return self.refused(response, post).await;
        }
        let session = response.headers().get(SESSION_ID);
        let session = session.and_then(|id| id.to_str().ok()).map(str::to_owned);
        let media_type = media_type(&response);
        if media_type == EVENT_STREAM {
            let events = events::events(self.0.clone(), response, post.id.clone());
            return Ok(StreamableHttpPostResponse::Sse(events, session));
        }
        let Some(id) = &post.id else { return Ok(StreamableHttpPostResponse::Accepted) };
        let body = read_body(response).await?;
        let mut reading = read(&body, &self.0.open);
        if !reading.messages.iter().any(|message| is_answer(message, id)) {
            let text = String::from_utf8_lossy(&body);
            let reason = match text.trim() {
                "" => "its answer is empty".to_owned(),
                text => format!("its answer ({media_type}) is not one: {}", excerpt(text)),
            };
            if post.method != PostMethod::Other {
                return Err(unexpected(reason));
            }
            self.0.open.take(id);
            reading.messages.push(own_error(id.clone(), reason));
        }
        self.0.unreadable.note(reading.unreadable);
        Ok(match <[ServerJsonRpcMessage; 1]>::try_from(reading.messages) {
            Ok([message]) => StreamableHttpPostResponse::Json(message, session),
            Err(messages) => {
                let events: Vec<_> =
                    messages.iter().filter_map(event_of).map(Ok::<Sse, SseError>).collect();
                StreamableHttpPostResponse::Sse(stream::iter(events).boxed(), session)
            }
        })
    }

    /// Reads an answer with the status of an error.
    async fn refused(
        &self,
        response: Response,
        post: &Post,
    ) -> Result<StreamableHttpPostResponse, HttpError> {
        let status = response.status();
        let description = describe_status(&response);
        let body = read_beginning(response).await;
        let text = String::from_utf8_lossy(&body);
        // Some servers answer so when they do not know a session.
        if status == StatusCode::BAD_REQUEST
            && post.has_session
            && text.to_lowercase().contains("session")
        {
            return Err(StreamableHttpError::SessionExpired);
        }
        let is_denied = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
        if let Some(id) = &post.id
            && !is_denied
            && !text.trim().is_empty()
        {
            let messages = read(&body, &self.0.open).messages;
            if let Some(answer) = messages.into_iter().find(|message| is_answer(message, id)) {
                return Ok(StreamableHttpPostResponse::Json(answer, None));
            }
        }
        let words = match text.trim() {
            "" => String::new(),
            text => format!(": {}", excerpt(text)),
        };
        let reason = format!("{description}{words}");
        match &post.id {
            // Older servers refuse the discovery in many ways.
            Some(id)
                if post.method == PostMethod::Discover
                    && status.is_client_error()
                    && !is_denied =>
            {
                self.0.open.take(id);
                Ok(StreamableHttpPostResponse::Json(own_error(id.clone(), reason), None))
            }
            _ => Err(unexpected(reason)),
        }
    }

    async fn get(
        &self,
        uri: &str,
        session: Option<Arc<str>>,
        last_event_id: Option<String>,
        headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<BoxStream<'static, Result<Sse, SseError>>, HttpError> {
        let request = self.0.client.get(uri).header(ACCEPT, EVENT_STREAM);
        let mut request = with_session(request, session, headers);
        if let Some(id) = last_event_id {
            request = request.header(LAST_EVENT_ID, id);
        }
        let response = self.send(request).await?;
        if response.status() == StatusCode::METHOD_NOT_ALLOWED {
            return Err(StreamableHttpError::ServerDoesNotSupportSse);
        }
        if !response.status().is_success() {
            return Err(unexpected(describe_status(&response)));
        }
        match media_type(&response) {
            kind if kind == EVENT_STREAM => Ok(events::events(self.0.clone(), response, None)),
            kind => Err(StreamableHttpError::UnexpectedContentType(Some(kind))),
        }
    }
}

impl Post {
    fn of(message: &ClientJsonRpcMessage, has_session: bool) -> Self {
        let (id, method) = match message {
            JsonRpcMessage::Request(request) => {
                let method = match &request.request {
                    ClientRequest::DiscoverRequest(_) => PostMethod::Discover,
                    ClientRequest::InitializeRequest(_) => PostMethod::Initialize,
                    _ => PostMethod::Other,
                };
                (Some(request.id.clone()), method)
            }
            _ => (None, PostMethod::Other),
        };
        Self { id, method, has_session }
    }
}

fn with_session(
    mut request: RequestBuilder,
    session: Option<Arc<str>>,
    headers: HashMap<HeaderName, HeaderValue>,
) -> RequestBuilder {
    for (name, value) in headers {
        request = request.header(name, value);
    }
    match session {
        Some(session) => request.header(SESSION_ID, &*session),
        None => request,
    }
}

fn is_answer(message: &ServerJsonRpcMessage, id: &RequestId) -> bool {
    match message {
        JsonRpcMessage::Response(response) => response.id == *id,
        JsonRpcMessage::Error(error) => error.id.as_ref() == Some(id),
        JsonRpcMessage::Request(_) | JsonRpcMessage::Notification(_) => false,
    }
}

/// Returns an error that is the end of a sentence.
pub(super) fn unexpected(reason: String) -> HttpError {
    StreamableHttpError::UnexpectedServerResponse(reason.into())
}

impl StreamableHttpClient for HttpClient {
    type Error = reqwest::Error;

    async fn post_message(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session_id: Option<Arc<str>>,
        _auth_header: Option<String>,
        custom_headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<StreamableHttpPostResponse, HttpError> {
        self.post(&uri, &message, session_id, custom_headers).await
    }

    async fn delete_session(
        &self,
        uri: Arc<str>,
        session_id: Arc<str>,
        _auth_header: Option<String>,
        custom_headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<(), HttpError> {
        let request = self.0.client.delete(&*uri);
        let response = self.send(with_session(request, Some(session_id), custom_headers)).await?;
        match response.status() {
            StatusCode::METHOD_NOT_ALLOWED => {
                Err(StreamableHttpError::ServerDoesNotSupportDeleteSession)
            }
            status if status.is_success() => Ok(()),
            _ => Err(unexpected(describe_status(&response))),
        }
    }

    async fn get_stream(
        &self,
        uri: Arc<str>,
        session_id: Option<Arc<str>>,
        last_event_id: Option<String>,
        _auth_header: Option<String>,
        custom_headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<BoxStream<'static, Result<Sse, SseError>>, HttpError> {
        self.get(&uri, session_id, last_event_id, custom_headers).await
    }
}

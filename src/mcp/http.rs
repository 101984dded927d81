//! The HTTP client of a server at a URL. A request that fails is an error of that request: the
//! connection goes on, and so do the other requests.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::StatusCode;
use http::header::ACCEPT;
use reqwest::{RequestBuilder, Response};
use rmcp::model::{ClientJsonRpcMessage, JsonRpcMessage};
use rmcp::transport::streamable_http_client::{StreamableHttpError, StreamableHttpPostResponse};
use tokio::time::timeout;

use super::answer_error::own_error;
use super::events::{self, Events, Received};
use super::excerpt::excerpt;
use super::handler::McpClientHandler;
use super::http_body::{describe_status, media_type, read_beginning, read_body};
use super::http_request::{
    Headers, HttpError, Post, PostMethod, is_about_session, is_answer, reason_of, session_in,
    session_of, unexpected, with_session, with_token,
};
use super::http_session::{HttpSession, Sent};
use super::message::read;
use super::open_requests::OpenRequests;
use super::token::Token;
use super::unreadable::Unreadable;

const LAST_EVENT_ID: &str = "last-event-id";
const EVENT_STREAM: &str = "text/event-stream";

/// The timeout for beginning a session again.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(30);

/// The client of one connection.
#[derive(Clone)]
pub(super) struct HttpClient(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) client: reqwest::Client,
    token: Token,
    pub(super) handler: McpClientHandler,
    pub(super) session: HttpSession,
    pub(super) open: OpenRequests,
    pub(super) unreadable: Unreadable,
}

impl Inner {
    fn received(&self) -> Received {
        Received { open: self.open.clone(), unreadable: self.unreadable.clone() }
    }
}

impl HttpClient {
    pub(super) fn new(
        client: reqwest::Client,
        token: Token,
        handler: McpClientHandler,
        unreadable: Unreadable,
    ) -> Self {
        let (open, session) = (OpenRequests::default(), HttpSession::new());
        Self(Arc::new(Inner { client, token, handler, session, open, unreadable }))
    }

    /// Sends a request, and again if it was refused and there is a new token.
    pub(super) async fn send(&self, request: RequestBuilder) -> Result<Response, HttpError> {
        let again = request.try_clone();
        let used = self.0.token.get();
        let response = with_token(request, used.as_deref()).send().await?;
        if response.status() == StatusCode::UNAUTHORIZED
            && let Some(again) = again
            && self.0.token.renew(used.as_deref()).await
        {
            let token = self.0.token.get();
            return Ok(with_token(again, token.as_deref()).send().await?);
        }
        Ok(response)
    }

    /// Sends a message. What goes wrong with a request is the answer to it.
    pub(super) async fn post(
        &self,
        uri: &str,
        message: &ClientJsonRpcMessage,
        has_session: bool,
        headers: Headers,
    ) -> Result<StreamableHttpPostResponse, HttpError> {
        self.0.open.sent(message);
        self.0.session.sent(message, &headers).await;
        let post = Post::of(message, has_session);
        let error = match self.exchange(uri, message, &post, &headers).await {
            Ok(answer) => {
                if post.method == PostMethod::Initialize {
                    self.0.session.begin(session_in(&answer));
                }
                return Ok(answer);
            }
            Err(error) => error,
        };
        if matches!(error, StreamableHttpError::Client(_)) {
            self.0.handler.mark_stale();
        }
        match post.id {
            // What goes wrong at the beginning is for the one who connects.
            Some(id) if post.method == PostMethod::Other => {
                self.0.open.take(&id);
                Ok(StreamableHttpPostResponse::Json(own_error(id, reason_of(&error)), None))
            }
            _ => Err(error),
        }
    }

    /// Sends a message and reads the answer. If the session is over, it is begun again once.
    async fn exchange(
        &self,
        uri: &str,
        message: &ClientJsonRpcMessage,
        post: &Post,
        headers: &Headers,
    ) -> Result<StreamableHttpPostResponse, HttpError> {
        let mut session = post.has_session.then(|| self.0.session.current()).flatten();
        let mut may_begin = session.is_some();
        loop {
            let response =
                self.send(self.message(uri, message, session.as_deref(), headers)).await?;
            match self.answer(response, post, may_begin).await {
                Err(StreamableHttpError::SessionExpired) if may_begin => {
                    session = self.begin_again(uri, session.as_deref()).await?;
                    may_begin = false;
                }
                answered => return answered,
            }
        }
    }

    fn message(
        &self,
        uri: &str,
        message: &ClientJsonRpcMessage,
        session: Option<&str>,
        headers: &Headers,
    ) -> RequestBuilder {
        let request = self.0.client.post(uri).header(ACCEPT, "application/json, text/event-stream");
        with_session(request, session, headers).json(message)
    }

    /// Begins a session in place of the one that is over, unless that was done already. Returns the
    /// new one.
    async fn begin_again(
        &self,
        uri: &str,
        over: Option<&str>,
    ) -> Result<Option<Arc<str>>, HttpError> {
        let asked = Instant::now();
        let mut beginning = self.0.session.beginning.lock().await;
        let current = self.0.session.current();
        if current.as_deref() != over {
            return Ok(current);
        }
        if let Some((ended, reason)) = &beginning.failure
            && asked < *ended
        {
            return Err(unexpected(reason.clone()));
        }
        let failed = |reason: &str| {
            unexpected(format!("its session is over and could not be begun again: {reason}"))
        };
        let begin = async {
            let Some(initialize) = &beginning.initialize else { return Err(failed("it had none")) };
            self.0.open.sent(&initialize.message);
            let post = Post::of(&initialize.message, false);
            let request = self.message(uri, &initialize.message, None, &initialize.headers);
            let response = self.send(request).await?;
            let session = session_of(&response);
            let answer = self.answer(response, &post, false).await?;
            if let (JsonRpcMessage::Error(error), _) = answer.expect_initialized().await? {
                return Err(failed(&error.error.message));
            }
            if let Some(initialized) = &beginning.initialized {
                let Sent { message, headers } = initialized;
                let request = self.message(uri, message, session.as_deref(), headers);
                let response = self.send(request).await?;
                self.answer(response, &Post::of(message, false), false).await?;
            }
            Ok(session)
        };
        let begun = timeout(BEGIN_TIMEOUT, begin).await;
        let begun = begun
            .unwrap_or_else(|_| Err(failed(&format!("it did not answer in {BEGIN_TIMEOUT:?}"))));
        let session = match begun {
            Ok(session) => session,
            Err(error) => {
                beginning.failure = Some((Instant::now(), reason_of(&error)));
                return Err(error);
            }
        };
        tracing::info!("the session of an MCP server was over and has begun again");
        self.0.session.begin(session.as_deref());
        // Its tools may be others.
        self.0.handler.mark_stale();
        Ok(self.0.session.current())
    }

    /// Reads an answer. A session that is over is an error of its own if it `may_begin` again.
    async fn answer(
        &self,
        response: Response,
        post: &Post,
        may_begin: bool,
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
        if status == StatusCode::NOT_FOUND && may_begin {
            return Err(StreamableHttpError::SessionExpired);
        }
        if !status.is_success() {
            return self.refused(response, post, may_begin).await;
        }
        let session = session_of(&response);
        let media_type = media_type(&response);
        if media_type == EVENT_STREAM {
            let events = events::events(self.0.received(), response, post.id.clone());
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
        Ok(events::answer(reading.messages, session))
    }

    /// Reads an answer with the status of an error.
    async fn refused(
        &self,
        response: Response,
        post: &Post,
        may_begin: bool,
    ) -> Result<StreamableHttpPostResponse, HttpError> {
        let status = response.status();
        let description = describe_status(&response);
        let body = read_beginning(response).await;
        let text = String::from_utf8_lossy(&body);
        // Some servers answer so when they do not know a session.
        if status == StatusCode::BAD_REQUEST
            && may_begin
            && is_about_session(&body, post.id.as_ref())
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

    /// Opens a stream of events, in the current session if there is one.
    pub(super) async fn get(
        &self,
        uri: &str,
        has_session: bool,
        last_event_id: Option<&str>,
        headers: &Headers,
    ) -> Result<Events, HttpError> {
        let request = self.0.client.get(uri).header(ACCEPT, EVENT_STREAM);
        let session = has_session.then(|| self.0.session.current()).flatten();
        let mut request = with_session(request, session.as_deref(), headers);
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
            kind if kind == EVENT_STREAM => Ok(events::events(self.0.received(), response, None)),
            kind => Err(StreamableHttpError::UnexpectedContentType(Some(kind))),
        }
    }
}

//! Requests over HTTP: what their answers need, and what is in their heads.

use std::collections::HashMap;

use http::{HeaderName, HeaderValue};
use reqwest::{RequestBuilder, Response};
use rmcp::model::{
    ClientJsonRpcMessage, ClientRequest, JsonRpcMessage, RequestId, ServerJsonRpcMessage,
};
use rmcp::transport::streamable_http_client::{StreamableHttpError, StreamableHttpPostResponse};

use super::answer_error::OWN_ERROR;
use super::convert::root_cause;
use super::message::read;
use super::open_requests::{Method, OpenRequests};

const SESSION_ID: &str = "mcp-session-id";
/// The codes of errors with which servers refuse a session.
const SESSION_CODES: [i32; 3] = [-32000, -32001, -32600];

pub(super) type HttpError = StreamableHttpError<reqwest::Error>;
pub(super) type Headers = HashMap<HeaderName, HeaderValue>;

/// The message of a POST, as far as its answer needs it.
pub(super) struct Post {
    /// The id of a request, or `None` if no answer is expected.
    pub(super) id: Option<RequestId>,
    pub(super) method: PostMethod,
    pub(super) has_session: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum PostMethod {
    Discover,
    Initialize,
    Other,
}

impl Post {
    pub(super) fn of(message: &ClientJsonRpcMessage, has_session: bool) -> Self {
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

pub(super) fn with_session(
    mut request: RequestBuilder,
    session: Option<&str>,
    headers: &Headers,
) -> RequestBuilder {
    for (name, value) in headers {
        request = request.header(name, value);
    }
    match session {
        Some(session) => request.header(SESSION_ID, session),
        None => request,
    }
}

pub(super) fn with_token(request: RequestBuilder, token: Option<&str>) -> RequestBuilder {
    match token {
        Some(token) => request.bearer_auth(token),
        None => request,
    }
}

pub(super) fn session_of(response: &Response) -> Option<String> {
    response.headers().get(SESSION_ID).and_then(|id| id.to_str().ok()).map(str::to_owned)
}

pub(super) fn session_in(answer: &StreamableHttpPostResponse) -> Option<&str> {
    match answer {
        StreamableHttpPostResponse::Json(_, session) => session.as_deref(),
        StreamableHttpPostResponse::Sse(_, session) => session.as_deref(),
        _ => None,
    }
}

/// Returns the end of a sentence about a request that failed.
pub(super) fn reason_of(error: &HttpError) -> String {
    let cause = root_cause(error);
    match error {
        StreamableHttpError::Client(_) => format!("the request failed: {cause}"),
        _ => cause,
    }
}

pub(super) fn is_answer(message: &ServerJsonRpcMessage, id: &RequestId) -> bool {
    match message {
        JsonRpcMessage::Response(response) => response.id == *id,
        JsonRpcMessage::Error(error) => error.id.as_ref() == Some(id),
        JsonRpcMessage::Request(_) | JsonRpcMessage::Notification(_) => false,
    }
}

/// Returns `true` if the body of a refused request may be about its session. The error of a call can
/// be about a session of another kind.
pub(super) fn is_about_session(body: &[u8], id: Option<&RequestId>) -> bool {
    if !String::from_utf8_lossy(body).to_lowercase().contains("session") {
        return false;
    }
    let Some(id) = id else { return true };
    // The request stays open: it may be sent again.
    let open = OpenRequests::default();
    open.insert(id.clone(), Method::Other);
    let messages = read(body, &open).messages;
    match messages.into_iter().find(|message| is_answer(message, id)) {
        Some(JsonRpcMessage::Error(error)) => {
            let code = error.error.code;
            code == OWN_ERROR || SESSION_CODES.contains(&code.0)
        }
        Some(_) => false,
        None => true,
    }
}

/// Returns an error that is the end of a sentence.
pub(super) fn unexpected(reason: String) -> HttpError {
    StreamableHttpError::UnexpectedServerResponse(reason.into())
}

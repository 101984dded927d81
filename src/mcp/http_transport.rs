//! The client of a server at a URL, as the protocol's library uses it.

use std::sync::Arc;

use http::StatusCode;
use rmcp::model::ClientJsonRpcMessage;
use rmcp::transport::streamable_http_client::{
    StreamableHttpClient, StreamableHttpError, StreamableHttpPostResponse,
};

use super::events::Events;
use super::http::HttpClient;
use super::http_body::describe_status;
use super::http_request::{Headers, HttpError, unexpected, with_session};
use super::http_stream::common_stream;

impl StreamableHttpClient for HttpClient {
    type Error = reqwest::Error;

    async fn post_message(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session_id: Option<Arc<str>>,
        _auth_header: Option<String>,
        custom_headers: Headers,
    ) -> Result<StreamableHttpPostResponse, HttpError> {
        self.post(&uri, &message, session_id.is_some(), custom_headers).await
    }

    async fn delete_session(
        &self,
        uri: Arc<str>,
        _session_id: Arc<str>,
        _auth_header: Option<String>,
        custom_headers: Headers,
    ) -> Result<(), HttpError> {
        let (request, session) = (self.0.client.delete(&*uri), self.0.session.current());
        let response =
            self.send(with_session(request, session.as_deref(), &custom_headers)).await?;
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
        custom_headers: Headers,
    ) -> Result<Events, HttpError> {
        match (&session_id, &last_event_id) {
            (Some(_), None) => common_stream(self.clone(), uri, custom_headers).await,
            _ => {
                let last_event_id = last_event_id.as_deref();
                self.get(&uri, session_id.is_some(), last_event_id, &custom_headers).await
            }
        }
    }
}

//! Models behind an OpenAI-compatible chat endpoint, with streaming, tool calls and images.
//!
//! `request` and `conversation` write a request, `reading` and `answer` read its answer, `dialect` is the part
//! of the protocol that an endpoint accepts, and `retry` repeats what it refuses or asks to wait for.

mod answer;
mod calls;
mod content;
mod conversation;
mod dialect;
mod error;
mod error_report;
mod error_words;
mod finish;
#[cfg(fuzzing)]
pub mod fuzzing;
mod images;
mod lenient;
mod names;
mod overflow;
mod provider_data;
mod reading;
mod refusal_reason;
mod request;
mod retry;
mod schema;
mod sse;
#[cfg(test)]
mod tests;
mod url;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use reqwest::Response;
use reqwest::header::CONTENT_TYPE;
use reqwest::redirect::Policy;
use secrecy::{ExposeSecret as _, SecretString};

use super::config::READ_TIMEOUT_DEFAULT;
use super::headers::{Headers, read_value};
use super::{
    AnswerStream, ContextMeter, Model, ModelConfig, ModelError, ModelErrorCode, ModelEvent,
    ModelRequest,
};
use crate::model::Usage;
use answer::AnswerBuilder;
use dialect::Dialect;
use error::{AnswerError, Refusal};
use names::ToolNames;
use reading::AnswerReader;
use retry::{SendError, may_refuse_part};
use url::EndpointUrl;

/// The time limit for connecting, including TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A model behind an OpenAI-compatible chat endpoint.
#[derive(Clone)]
pub struct OpenAiModel {
    endpoint: Arc<Endpoint>,
}

struct Endpoint {
    config: ModelConfig,
    address: EndpointUrl,
    /// The address without its secrets, for errors.
    url: String,
    /// The name of the model at its endpoint, for data that goes back to it.
    source: String,
    headers: Headers,
    /// The part of the protocol that the endpoint accepts, which its refusals change.
    dialect: Mutex<Dialect>,
    context: ContextMeter,
    client: reqwest::Client,
    /// The key, or `None` if there is none or it is read from a file.
    key: Option<SecretString>,
}

impl OpenAiModel {
    /// Creates a model. `environment` holds the variables of the server.
    ///
    /// # Errors
    ///
    /// Fails if a variable with the key or a header is not set, or if no HTTP client can be created.
    pub fn new(
        config: ModelConfig,
        environment: &BTreeMap<String, String>,
    ) -> Result<Self, String> {
        let key = match &config.api_key_environment {
            Some(name) => {
                let key = environment.get(name).filter(|key| !key.is_empty());
                let key = key.ok_or_else(|| {
                    format!(
                        "api_key_environment names {name}, which is not set: export it, or use \
                         api_key_file"
                    )
                })?;
                Some(SecretString::from(key.clone()))
            }
            None => None,
        };
        // reqwest uses the process-wide provider, which may have been installed already.
        let _result = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(config.read_timeout.unwrap_or(READ_TIMEOUT_DEFAULT))
            // A redirect would send the key to another endpoint.
            .redirect(Policy::none())
            .user_agent(concat!("callpark/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| format!("cannot create an HTTP client: {error}"))?;
        let address = EndpointUrl::new(&config.endpoint)?;
        let url = address.shown();
        let source = provider_data::source(&config, &url);
        let headers = Headers::new(&config.headers, environment)?;
        let dialect = Mutex::new(Dialect::new(&config));
        let context = ContextMeter::new(config.context_tokens, config.max_output_tokens);
        let endpoint =
            Endpoint { config, address, url, source, headers, dialect, context, client, key };
        Ok(Self { endpoint: Arc::new(endpoint) })
    }
}

impl Model for OpenAiModel {
    fn name(&self) -> &str {
        &self.endpoint.config.name
    }

    fn context(&self) -> Option<&ContextMeter> {
        Some(&self.endpoint.context)
    }

    fn answer(&self, request: ModelRequest) -> AnswerStream {
        let endpoint = self.endpoint.clone();
        let price = endpoint.config.price;
        let priced = move |event| match event {
            ModelEvent::Used(usage) => {
                ModelEvent::Used(Usage { cost_usd: price.cost_usd(&usage), ..usage })
            }
            other => other,
        };
        endpoint.stream(request).map_ok(priced).boxed()
    }
}

impl Endpoint {
    /// Sends a request, and returns the answer once it has begun or failed. An endpoint may refuse the
    /// request in the place of an answer, too, after a status of success.
    async fn ask(
        &self,
        body: &serde_json::Value,
        names: Arc<ToolNames>,
    ) -> Result<AnswerEvents, SendError> {
        let response = self.send(body).await?;
        let mut events = self.read(response, names).boxed();
        let mut first = events.next().await;
        let mut used = None;
        if let Some(Ok(ModelEvent::Used(usage))) = first {
            used = Some(usage);
            first = events.next().await;
        }
        match first {
            Some(Err(AnswerError { error, reason: Some(reason) }))
                if may_refuse_part(error.code) =>
            {
                Err(SendError::Rejected { error, reason, used: used.unwrap_or_default() })
            }
            first => {
                let used = used.map(|usage| Ok(ModelEvent::Used(usage)));
                Ok(stream::iter(used.into_iter().chain(first)).chain(events).boxed())
            }
        }
    }

    async fn send(&self, body: &serde_json::Value) -> Result<Response, SendError> {
        let mut request = self.client.post(self.address.url()).json(body);
        if let Some(key) = self.key().await? {
            request = request.bearer_auth(key.expose_secret());
        }
        let headers = self.headers.read().await;
        let headers = headers.map_err(|message| {
            SendError::Final(ModelError { code: ModelErrorCode::Unauthenticated, message })
        })?;
        let response = request.headers(headers).send().await;
        let response =
            response.map_err(|error| SendError::Final(error::transport_error(error, &self.url)))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let Refusal { error, body, pause } = error::response_error(response, &self.url).await;
        Err(match error.code {
            ModelErrorCode::RateLimited => SendError::RateLimited(error, pause),
            code if may_refuse_part(code) => {
                SendError::Rejected { error, reason: body, used: Usage::default() }
            }
            _ => SendError::Final(error),
        })
    }

    async fn key(&self) -> Result<Option<SecretString>, SendError> {
        let Some(file) = &self.config.api_key_file else { return Ok(self.key.clone()) };
        let missing = |why: String| {
            SendError::Final(ModelError {
                code: ModelErrorCode::Unauthenticated,
                message: format!("api_key_file {}: {why}", file.display()),
            })
        };
        let key = read_value(file).await.map_err(missing)?;
        Ok(Some(SecretString::from(key)))
    }

    /// Returns the events of the answer in a response.
    fn read(
        &self,
        response: Response,
        names: Arc<ToolNames>,
    ) -> impl Stream<Item = Result<ModelEvent, AnswerError>> + Send + use<> {
        let content_type = response.headers().get(CONTENT_TYPE);
        let content_type = content_type.and_then(|value| value.to_str().ok()).unwrap_or_default();
        let (url, source) = (self.url.clone(), self.source.clone());
        let answer = AnswerBuilder::new(url.clone(), source, names);
        let reader = AnswerReader::new(url.clone(), content_type.to_owned(), answer);
        let transport_error = move |cause| error::transport_error(cause, &url);
        reading::read(response.bytes_stream(), transport_error, reader)
    }
}

/// The events of an answer that has begun.
type AnswerEvents = BoxStream<'static, Result<ModelEvent, AnswerError>>;

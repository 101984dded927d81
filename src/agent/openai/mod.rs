//! Models behind an OpenAI-compatible chat endpoint, with streaming, tool calls and images.

mod answer;
mod calls;
mod content;
mod conversation;
mod dialect;
mod error;
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
mod reason;
mod report;
mod request;
mod schema;
mod sse;
#[cfg(test)]
mod tests;
mod url;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_stream::try_stream;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use rand::RngExt as _;
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
use dialect::{Adaptation, Dialect, Refused};
use error::{AnswerError, Refusal};
use names::ToolNames;
use reading::AnswerReader;
use url::EndpointUrl;

/// The time limit for connecting, including TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The number of times that a request is repeated because the endpoint asked for a pause.
const PAUSES_MAX: u64 = 5;

/// The longest pause that an endpoint may ask for.
const PAUSE_MAX: Duration = Duration::from_secs(120);

/// The first pause if the endpoint doesn't give its length.
const PAUSE_DEFAULT: Duration = Duration::from_secs(2);

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
    fn stream(
        self: Arc<Self>,
        request: ModelRequest,
    ) -> impl Stream<Item = Result<ModelEvent, ModelError>> + Send {
        try_stream! {
            let names = Arc::new(ToolNames::new(&request.tools, &request.messages));
            let mut dialect = self.dialect();
            let mut body = request::body(&self.config, &request, &names, &dialect, &self.source);
            let (mut usage, mut learned) = (Usage::default(), Vec::<Adaptation>::new());
            let answer = loop {
                usage.requests += 1;
                let pause = match self.ask(&body, names.clone()).await {
                    Ok(answer) => break Ok(answer),
                    Err(SendError::RateLimited(error, requested)) => match pause(usage.requests, requested) {
                        Some(pause) => {
                            tracing::warn!(model = self.config.name, ?pause, %error, "rate limited");
                            yield ModelEvent::Pausing { delay: pause, error };
                            pause
                        }
                        None => break Err(error),
                    },
                    Err(SendError::Rejected { error, reason, used }) => {
                        usage += used;
                        if !self.adapt(&mut dialect, &mut learned, &body, (error.code, &reason)) {
                            break Err(error);
                        }
                        body = request::body(&self.config, &request, &names, &dialect, &self.source);
                        continue;
                    }
                    Err(SendError::Final(error)) => break Err(error),
                };
                tokio::time::sleep(pause).await;
            };
            drop((request, body));
            let mut events = match answer {
                Ok(events) => events,
                Err(error) => {
                    yield ModelEvent::Used(usage);
                    Err(error)?;
                    return;
                }
            };
            while let Some(event) = events.next().await {
                match event.map_err(|failure| failure.error)? {
                    ModelEvent::Used(used) => {
                        usage += used;
                        yield ModelEvent::Used(usage);
                    }
                    event => {
                        self.learn(learned.drain(..));
                        yield event;
                    }
                }
            }
        }
    }

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

    fn dialect(&self) -> Dialect {
        self.dialect.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes what the endpoint is sent for this request, if its reason for a refusal names something
    /// that it can do without. Returns `true` if the request is to be sent again.
    fn adapt(
        &self,
        dialect: &mut Dialect,
        learned: &mut Vec<Adaptation>,
        body: &serde_json::Value,
        (code, reason): (ModelErrorCode, &str),
    ) -> bool {
        let is_added = |field: &str| self.config.extra_body.contains_key(field);
        let refused = Refused { body, code, reason, tried: learned };
        let adaptations = dialect.adaptations(&refused, is_added);
        for adaptation in &adaptations {
            tracing::warn!(
                model = self.config.name,
                reason = error::truncated(reason),
                "the endpoint refuses a part of the request, which is sent again {adaptation}"
            );
            dialect.adapt(adaptation.clone());
        }
        learned.extend_from_slice(&adaptations);
        !adaptations.is_empty()
    }

    /// Keeps the changes with which the endpoint has accepted a request for all later ones.
    fn learn(&self, learned: impl Iterator<Item = Adaptation>) {
        for adaptation in learned {
            tracing::warn!(
                model = self.config.name,
                "until the server restarts, requests are sent {adaptation}"
            );
            let mut dialect = self.dialect.lock().unwrap_or_else(PoisonError::into_inner);
            dialect.adapt(adaptation);
        }
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

/// The reason for which a request got no answer.
enum SendError {
    /// The endpoint asks for a pause; its length, or `None` if the endpoint gives none.
    RateLimited(ModelError, Option<Duration>),
    /// The endpoint refuses the request, for the reason that it gives.
    Rejected {
        error: ModelError,
        reason: String,
        /// The tokens that it reports for the request.
        used: Usage,
    },
    /// The request is not repeated.
    Final(ModelError),
}

/// Returns `true` if an error with this code may refuse a part of a request. Some gateways refuse a
/// field with the code of a failure.
fn may_refuse_part(code: ModelErrorCode) -> bool {
    matches!(code, ModelErrorCode::Refused | ModelErrorCode::Server)
}

/// Returns the pause before the request is sent again, or `None` if it isn't. A pause that the
/// endpoint asks for is never shortened: the jitter only lengthens it.
fn pause(requests: u64, requested: Option<Duration>) -> Option<Duration> {
    if requests > PAUSES_MAX || requested.is_some_and(|requested| requested > PAUSE_MAX) {
        return None;
    }
    let base = requested.unwrap_or(PAUSE_DEFAULT * (1 << (requests - 1))).min(PAUSE_MAX);
    Some(base.mul_f64(rand::rng().random_range(1.0..=1.1)))
}

//! Models behind an OpenAI-compatible chat endpoint, with streaming, tool calls and images.

mod answer;
mod error;
mod names;
mod request;
mod sse;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_stream::try_stream;
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use rand::RngExt as _;
use reqwest::header::RETRY_AFTER;
use reqwest::redirect::Policy;
use reqwest::{Response, StatusCode};
use secrecy::{ExposeSecret as _, SecretString};

use super::config::READ_TIMEOUT_DEFAULT;
use super::{
    AnswerStream, Model, ModelConfig, ModelError, ModelErrorCode, ModelEvent, ModelRequest,
};
use crate::model::Usage;
use answer::AnswerBuilder;
use names::ToolNames;

/// The time limit for connecting, including TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The number of times that a request is repeated because the endpoint asked for a pause.
const PAUSES_MAX: u32 = 5;

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
    url: String,
    client: reqwest::Client,
    /// The key, or `None` if there is none or it is read from a file.
    key: Option<SecretString>,
}

impl OpenAiModel {
    /// Creates a model. `environment` holds the variables of the server.
    ///
    /// # Errors
    ///
    /// Fails if the variable with the key is not set, or if no HTTP client can be created.
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
        let url = format!("{}/chat/completions", config.endpoint.trim_end_matches('/'));
        Ok(Self { endpoint: Arc::new(Endpoint { config, url, client, key }) })
    }
}

impl Model for OpenAiModel {
    fn name(&self) -> &str {
        &self.endpoint.config.name
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
            let names = ToolNames::new(&request.tools);
            let body = request::body(&self.config, &request, &names);
            drop(request);
            let mut requests = 0;
            let response = loop {
                requests += 1;
                let sent = self.send(&body).await;
                let pause = match sent {
                    Ok(response) => break Ok(response),
                    Err(SendError::RateLimited(error, requested)) => match pause(requests, requested) {
                        Some(pause) => {
                            tracing::warn!(model = self.config.name, ?pause, %error, "rate limited");
                            yield ModelEvent::Pausing { delay: pause, error };
                            pause
                        }
                        None => break Err(error),
                    },
                    Err(SendError::Final(error)) => break Err(error),
                };
                tokio::time::sleep(pause).await;
            };
            drop(body);
            let counted = Usage { requests: requests.into(), ..Usage::default() };
            let response = match response {
                Ok(response) => response,
                Err(error) => {
                    yield ModelEvent::Used(counted);
                    Err(error)?;
                    return;
                }
            };
            let mut answer = AnswerBuilder::new(names, counted);
            let mut chunks = std::pin::pin!(self.chunks(response));
            while let Some(chunk) = chunks.next().await {
                let pushed = chunk.and_then(|chunk| answer.push(&chunk, &self.url));
                match pushed {
                    Ok(events) => {
                        for event in events {
                            yield event;
                        }
                    }
                    Err(error) => {
                        yield ModelEvent::Used(answer.usage());
                        Err(error)?;
                    }
                }
            }
            yield ModelEvent::Used(answer.usage());
            yield ModelEvent::Finished(answer.finish(&self.url)?);
        }
    }

    async fn send(&self, body: &serde_json::Value) -> Result<Response, SendError> {
        let mut request = self.client.post(&self.url).json(body);
        if let Some(key) = self.key().await? {
            request = request.bearer_auth(key.expose_secret());
        }
        let response = request.send().await;
        let response = response
            .map_err(|error| SendError::Final(error::transport_error(&error, &self.url)))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let requested = requested_pause(&response);
        let error = error::response_error(response, &self.url).await;
        match status {
            StatusCode::TOO_MANY_REQUESTS => Err(SendError::RateLimited(error, requested)),
            _ => Err(SendError::Final(error)),
        }
    }

    async fn key(&self) -> Result<Option<SecretString>, SendError> {
        let Some(file) = &self.config.api_key_file else { return Ok(self.key.clone()) };
        let missing = |why: String| {
            SendError::Final(ModelError {
                code: ModelErrorCode::Unauthenticated,
                message: format!("api_key_file {}: {why}", file.display()),
            })
        };
        let key = tokio::fs::read_to_string(file).await;
        let key = key.map_err(|error| missing(error.to_string()))?;
        match key.trim() {
            "" => Err(missing("it is empty".into())),
            key => Ok(Some(SecretString::from(key))),
        }
    }

    /// Returns the data of each event of the answer, up to the final marker.
    fn chunks(&self, response: Response) -> impl Stream<Item = Result<String, ModelError>> + Send {
        let url = self.url.clone();
        let transport_error = move |cause| error::transport_error(&cause, &url);
        sse::data(response.bytes_stream(), transport_error, &self.url)
    }
}

/// The reason for which a request got no answer.
enum SendError {
    /// The endpoint asks for a pause; its length, or `None` if the endpoint gives none.
    RateLimited(ModelError, Option<Duration>),
    /// The request is not repeated.
    Final(ModelError),
}

fn requested_pause(response: &Response) -> Option<Duration> {
    let text = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim();
    // A pause that doesn't fit a Duration exceeds the limit.
    let seconds: f64 = text.parse().ok().filter(|seconds| *seconds >= 0.0)?;
    Some(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
}

/// Returns the pause before the request is sent again, or `None` if it isn't. A pause that the
/// endpoint asks for is never shortened: the jitter only lengthens it.
fn pause(requests: u32, requested: Option<Duration>) -> Option<Duration> {
    if requests > PAUSES_MAX || requested.is_some_and(|requested| requested > PAUSE_MAX) {
        return None;
    }
    let base = requested.unwrap_or(PAUSE_DEFAULT * 2u32.pow(requests - 1)).min(PAUSE_MAX);
    Some(base.mul_f64(rand::rng().random_range(1.0..=1.1)))
}

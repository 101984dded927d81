//! Models behind an OpenAI-compatible chat endpoint: streaming, with calls of tools and pictures.

mod answer;
mod error;
mod names;
mod request;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_stream::try_stream;
use eventsource_stream::Eventsource as _;
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use rand::Rng as _;
use reqwest::header::RETRY_AFTER;
use reqwest::redirect::Policy;
use reqwest::{Response, StatusCode};
use secrecy::{ExposeSecret as _, SecretString};

use super::config::READ_TIMEOUT_DEFAULT;
use super::{
    AnswerStream, Model, ModelConfig, ModelError, ModelErrorCode, ModelEvent, ModelRequest,
};
use crate::model::Usage;
use crate::model::limits::{MODEL_ANSWER_BYTES_MAX, MODEL_STREAM_BYTES_MAX};
use answer::Assembly;
use names::Names;

/// How long connecting may take, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a request is sent again because the endpoint asked for a pause.
const PAUSES_MAX: u32 = 5;

/// The longest pause that is made because the endpoint asks for it.
const PAUSE_MAX: Duration = Duration::from_secs(120);

/// The pause when it doesn't say how long.
const PAUSE_DEFAULT: Duration = Duration::from_secs(2);

/// A model behind an OpenAI-compatible chat endpoint.
#[derive(Clone)]
pub struct OpenAiModel {
    shared: Arc<Shared>,
}

struct Shared {
    config: ModelConfig,
    url: String,
    client: reqwest::Client,
    /// The key, where it doesn't come from a file.
    key: Option<SecretString>,
}

impl OpenAiModel {
    /// A model as the configuration has it, with the server's variables.
    ///
    /// # Errors
    /// The variable with the key isn't there, or no HTTP client can be made.
    pub fn new(
        config: ModelConfig,
        environment: &BTreeMap<String, String>,
    ) -> Result<Self, String> {
        let key = match &config.api_key_environment {
            Some(name) => {
                let key = environment.get(name).filter(|key| !key.is_empty());
                let key = key.ok_or_else(|| {
                    format!("api_key_environment names {name}, which is not set: export it, or use api_key_file")
                })?;
                Some(SecretString::from(key.clone()))
            }
            None => None,
        };
        // reqwest takes the provider of the whole program; another one may be there already.
        let _result = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(config.read_timeout.unwrap_or(READ_TIMEOUT_DEFAULT))
            // The key is for this endpoint only.
            .redirect(Policy::none())
            .user_agent(concat!("callpark/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| format!("no HTTP client could be made: {error}"))?;
        let url = format!("{}/chat/completions", config.endpoint.trim_end_matches('/'));
        Ok(Self { shared: Arc::new(Shared { config, url, client, key }) })
    }
}

impl Model for OpenAiModel {
    fn name(&self) -> &str {
        &self.shared.config.name
    }

    fn answer(&self, request: ModelRequest) -> AnswerStream {
        let shared = self.shared.clone();
        let price = shared.config.price;
        let priced = move |event| match event {
            ModelEvent::Used(usage) => {
                ModelEvent::Used(Usage { cost_usd: price.cost_usd(&usage), ..usage })
            }
            other => other,
        };
        shared.stream(request).map_ok(priced).boxed()
    }
}

impl Shared {
    fn stream(
        self: Arc<Self>,
        request: ModelRequest,
    ) -> impl Stream<Item = Result<ModelEvent, ModelError>> + Send {
        try_stream! {
            let names = Names::new(&request.tools);
            let body = request::body(&self.config, &request, &names);
            drop(request);
            let mut requests = 0;
            let response = loop {
                requests += 1;
                let sent = self.send(&body).await;
                let pause = match sent {
                    Ok(response) => break Ok(response),
                    Err(Fault::Pause(error, asked)) => match pause(requests, asked) {
                        Some(pause) => {
                            tracing::warn!(model = self.config.name, ?pause, %error, "rate limited");
                            pause
                        }
                        None => break Err(error),
                    },
                    Err(Fault::Final(error)) => break Err(error),
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
            let mut assembly = Assembly::new(names, counted);
            let mut chunks = std::pin::pin!(self.chunks(response));
            while let Some(chunk) = chunks.next().await {
                let taken = chunk.and_then(|chunk| assembly.take(&chunk, self.at()));
                match taken {
                    Ok(events) => {
                        for event in events {
                            yield event;
                        }
                    }
                    Err(error) => {
                        yield ModelEvent::Used(assembly.usage());
                        Err(error)?;
                    }
                }
            }
            yield ModelEvent::Used(assembly.usage());
            yield ModelEvent::Finished(assembly.finish(self.at())?);
        }
    }

    /// What it is called in errors.
    fn at(&self) -> &str {
        &self.url
    }

    async fn send(&self, body: &serde_json::Value) -> Result<Response, Fault> {
        let mut request = self.client.post(&self.url).json(body);
        if let Some(key) = self.key().await? {
            request = request.bearer_auth(key.expose_secret());
        }
        let response = request.send().await;
        let response =
            response.map_err(|error| Fault::Final(error::of_transport(&error, self.at())))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let asked = asked_pause(&response);
        let error = error::of_response(response, self.at()).await;
        match status {
            StatusCode::TOO_MANY_REQUESTS => Err(Fault::Pause(error, asked)),
            _ => Err(Fault::Final(error)),
        }
    }

    async fn key(&self) -> Result<Option<SecretString>, Fault> {
        let Some(file) = &self.config.api_key_file else { return Ok(self.key.clone()) };
        let missing = |why: String| {
            Fault::Final(ModelError {
                code: ModelErrorCode::Unauthenticated,
                message: format!("api_key_file {}: {why}", file.display()),
            })
        };
        let key = tokio::fs::read_to_string(file).await;
        let key = key.map_err(|error| missing(error.to_string()))?;
        match key.trim() {
            "" => Err(missing("is empty".into())),
            key => Ok(Some(SecretString::from(key))),
        }
    }

    /// The data of each event of the answer, up to the one that says that it is done.
    fn chunks(&self, response: Response) -> impl Stream<Item = Result<String, ModelError>> + Send {
        let at = self.at().to_owned();
        let (mut room, mut line) = (MODEL_STREAM_BYTES_MAX, 0);
        let bounded = response.bytes_stream().map(move |bytes| {
            let bytes = bytes.map_err(|error| error::of_transport(&error, &at))?;
            // The reader of events keeps a line until it is whole.
            line = match bytes.iter().rposition(|byte| *byte == b'\n') {
                Some(end) => bytes.len() - end - 1,
                None => line + bytes.len(),
            };
            let left = room.checked_sub(bytes.len()).filter(|_| line <= MODEL_ANSWER_BYTES_MAX);
            room = left.ok_or_else(|| error::too_large(&at))?;
            Ok(bytes)
        });
        let at = self.at().to_owned();
        let events = bounded.eventsource().map(move |event| {
            event.map(|event| event.data).map_err(|error| error::of_events(error, &at))
        });
        events.try_take_while(|data| futures::future::ready(Ok(data != "[DONE]")))
    }
}

/// Why there is no answer.
enum Fault {
    /// The endpoint asks for a pause, of this length if it says.
    Pause(ModelError, Option<Duration>),
    /// That is all.
    Final(ModelError),
}

fn asked_pause(response: &Response) -> Option<Duration> {
    let text = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim();
    // One that is too long for a span is too long for us.
    let seconds: f64 = text.parse().ok().filter(|seconds| *seconds >= 0.0)?;
    Some(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
}

/// The pause before the request is sent again; none: it isn't. What the endpoint asks for is
/// kept to, and jittered upwards only.
fn pause(requests: u32, asked: Option<Duration>) -> Option<Duration> {
    if requests > PAUSES_MAX || asked.is_some_and(|asked| asked > PAUSE_MAX) {
        return None;
    }
    let base = asked.unwrap_or(PAUSE_DEFAULT * 2u32.pow(requests - 1)).min(PAUSE_MAX);
    Some(base.mul_f64(rand::rng().random_range(1.0..=1.1)))
}

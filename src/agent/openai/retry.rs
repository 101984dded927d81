//! The requests that an endpoint is sent again: after a pause if it limits their rate, and at once, without the
//! part that it refuses, if it can do without that.
//!
//! All other retries, of failures that may pass and of empty answers, are those of the turn:
//! `engine/turn/round.rs`.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use async_stream::try_stream;
use futures::{Stream, StreamExt as _};
use rand::RngExt as _;

use super::dialect::{Adaptation, Dialect, Refused};
use super::names::ToolNames;
use super::{Endpoint, error, request};
use crate::agent::{ModelError, ModelErrorCode, ModelEvent, ModelRequest};
use crate::model::Usage;

/// The number of times that a request is repeated because the endpoint asked for a pause.
const PAUSES_MAX: u64 = 5;

/// The longest pause that an endpoint may ask for.
const PAUSE_MAX: Duration = Duration::from_secs(120);

/// The first pause if the endpoint doesn't give its length.
const PAUSE_DEFAULT: Duration = Duration::from_secs(2);

impl Endpoint {
    /// Sends a request, again where that may help, and returns the events of its answer.
    pub(super) fn stream(
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
}

/// The reason for which a request got no answer.
pub(super) enum SendError {
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
pub(super) fn may_refuse_part(code: ModelErrorCode) -> bool {
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

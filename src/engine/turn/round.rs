//! One request to the model: sent, shown while it is answered, and sent again if that may help.

use std::time::Duration;

use futures::StreamExt as _;
use rand::Rng as _;
use tokio::time::Instant;

use super::play::Turn;
use crate::agent::{
    Finish, Model, ModelError, ModelErrorCode, ModelEvent, ModelRequest, WantedCall,
};
use crate::engine::sleep_until;
use crate::model::limits::{DELTA_BYTES_MAX, DELTA_DELAY_MS};
use crate::model::{TurnError, TurnReport, Usage};

/// The longest pause between two attempts, in pauses of the first kind.
const PAUSE_GROWTH_MAX: u32 = 10;

/// What the model has answered.
pub(super) struct Answer {
    pub(super) text: String,
    pub(super) calls: Vec<WantedCall>,
    pub(super) finish: Finish,
}

/// Why there is no answer.
enum Fault {
    /// The model failed.
    Model(ModelError),
    /// The turn can't go on.
    Turn(TurnError),
}

impl From<TurnError> for Fault {
    fn from(error: TurnError) -> Self {
        Self::Turn(error)
    }
}

impl Turn {
    /// Asks the model, as often as it may be asked.
    pub(super) async fn ask(&mut self, model: &dyn Model) -> Result<Answer, TurnError> {
        let metrics = self.play.engine.shared.metrics.clone();
        let mut failures = 0;
        loop {
            let fault = match self.ask_once(model).await {
                Ok(answer) => {
                    metrics.model_request(model.name(), Ok(()));
                    return Ok(answer);
                }
                Err(Fault::Model(error)) => error,
                Err(Fault::Turn(error)) => return Err(error),
            };
            metrics.model_request(model.name(), Err(fault.code.name()));
            failures += 1;
            let error = turn_error(&fault);
            if !fault.code.is_transient() || failures >= self.play.attempts_max {
                return Err(error);
            }
            self.attempt += 1;
            let delay = self.pause(failures);
            self.tell(TurnReport::Retrying { attempt: self.attempt, delay, error }).await?;
            tokio::time::sleep(delay).await;
        }
    }

    pub(super) fn pause(&self, failures: u32) -> Duration {
        let growth = 2u32.saturating_pow(failures - 1).min(PAUSE_GROWTH_MAX);
        let base = self.play.engine.shared.options.model_retry_delay * growth;
        base.mul_f64(rand::rng().random_range(0.5..=1.0))
    }

    async fn ask_once(&mut self, model: &dyn Model) -> Result<Answer, Fault> {
        let mut stream = model.answer(ModelRequest {
            system: self.play.system.clone(),
            messages: self.history.messages(),
            tools: self.tools.clone(),
        });
        let model = model.name().to_owned();
        let mut delta = Delta::default();
        let mut whole = String::new();
        loop {
            let event = tokio::select! {
                biased;
                event = stream.next() => event,
                () = sleep_until(delta.due()) => {
                    self.show(&mut delta).await?;
                    continue;
                }
            };
            match event {
                Some(Ok(ModelEvent::Text(text))) => {
                    whole.push_str(&text);
                    self.add(&mut delta, Sort::Text, &text).await?;
                }
                Some(Ok(ModelEvent::Reasoning(text))) => {
                    self.add(&mut delta, Sort::Reasoning, &text).await?;
                }
                Some(Ok(ModelEvent::Used(usage))) => {
                    self.show(&mut delta).await?;
                    self.used(usage, &model).await?;
                }
                Some(Ok(ModelEvent::Finished(answer))) => {
                    self.show(&mut delta).await?;
                    let (calls, finish) = (answer.calls, answer.finish);
                    return Ok(Answer { text: whole, calls, finish });
                }
                Some(Err(error)) => {
                    self.show(&mut delta).await?;
                    return Err(Fault::Model(error));
                }
                None => {
                    let message = format!("the answer of {model} ended without an end");
                    let code = ModelErrorCode::Cut;
                    return Err(Fault::Model(ModelError { code, message }));
                }
            }
        }
    }

    pub(super) async fn used(&self, usage: Usage, model: &str) -> Result<(), TurnError> {
        self.play.engine.shared.metrics.model_used(model, &usage);
        self.tell(TurnReport::Used { usage, model: model.to_owned() }).await
    }

    pub(super) async fn add(
        &self,
        delta: &mut Delta,
        sort: Sort,
        text: &str,
    ) -> Result<(), TurnError> {
        let is_full = delta.text.len() + text.len() > DELTA_BYTES_MAX;
        if !delta.text.is_empty() && (delta.sort != sort || is_full) {
            self.show(delta).await?;
        }
        delta.sort = sort;
        let mut rest = text;
        while rest.len() > DELTA_BYTES_MAX {
            let (piece, more) = rest.split_at(rest.floor_char_boundary(DELTA_BYTES_MAX));
            delta.text.push_str(piece);
            self.show(delta).await?;
            rest = more;
        }
        delta.text.push_str(rest);
        Ok(())
    }

    /// Tells what has gathered. While it is being stored the endpoint isn't read.
    pub(super) async fn show(&self, delta: &mut Delta) -> Result<(), TurnError> {
        if delta.text.is_empty() {
            return Ok(());
        }
        let text = std::mem::take(&mut delta.text);
        self.tell(match delta.sort {
            Sort::Text => TurnReport::Text(text),
            Sort::Reasoning => TurnReport::Reasoning(text),
        })
        .await?;
        delta.shown = Some(Instant::now());
        Ok(())
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Sort {
    #[default]
    Text,
    Reasoning,
}

/// Text that waits to be told.
#[derive(Default)]
pub(super) struct Delta {
    sort: Sort,
    text: String,
    /// When the text before it was told.
    shown: Option<Instant>,
}

impl Delta {
    /// When it is to be told: at once, unless text was told just before. None: there is none.
    pub(super) fn due(&self) -> Option<Instant> {
        if self.text.is_empty() {
            return None;
        }
        let pause = Duration::from_millis(DELTA_DELAY_MS);
        Some(self.shown.map_or_else(Instant::now, |shown| shown + pause))
    }
}

pub(super) fn turn_error(error: &ModelError) -> TurnError {
    let ModelError { code, message } = error;
    let retryable = code.is_transient() || *code == ModelErrorCode::RateLimited;
    TurnError { code: code.name().into(), message: message.clone(), retryable }
}

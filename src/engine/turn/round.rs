//! One request to the model. Its answer is recorded as it arrives; if the request fails, it is
//! repeated where that may help.
//!
//! The retries of failures that may pass, of empty answers, and of requests that are too long are decided
//! here; `run` makes the pauses between them. An adapter repeats what only it can judge:
//! `agent/openai/retry.rs` waits for the end of a rate limit, and sends a request again without the part that
//! its endpoint refuses.

use std::time::Duration;

use futures::StreamExt as _;
use tokio::time::Instant;

use super::compaction::{self, COMPACTIONS_MAX};
use super::run::TurnRun;
use crate::agent::{
    FinishReason, Model, ModelAnswer, ModelError, ModelErrorCode, ModelEvent, ModelRequest,
    RequestedCall,
};
use crate::engine::sleep_until;
use crate::model::limits::{DELTA_BYTES_MAX, DELTA_DELAY_MS};
use crate::model::{ProviderData, TurnError, TurnReport};
use crate::redact::redacted;

/// A complete answer of the model.
pub(super) struct Answer {
    pub(super) text: String,
    pub(super) calls: Vec<RequestedCall>,
    pub(super) finish: FinishReason,
    pub(super) provider_data: Option<Box<ProviderData>>,
}

impl Answer {
    /// Returns `true` if the model ended its answer without having said anything.
    fn is_empty(&self) -> bool {
        self.finish == FinishReason::Done && self.calls.is_empty() && self.text.trim().is_empty()
    }
}

/// The reason for which a request has no answer.
enum RequestError {
    /// The request failed.
    Model(ModelError),
    /// The turn cannot continue.
    Turn(TurnError),
}

impl From<TurnError> for RequestError {
    fn from(error: TurnError) -> Self {
        Self::Turn(error)
    }
}

/// Asks the model, and repeats the request if it fails for a reason that may pass. An empty answer is
/// such a failure, unless the turn has nothing more to say.
pub(super) async fn ask(
    run: &mut TurnRun,
    model: &dyn Model,
    round: u32,
) -> Result<Answer, TurnError> {
    let metrics = run.spec.engine.shared.metrics.clone();
    let (mut failures, mut compactions) = (0, 0);
    loop {
        compaction::fit(run, model).await?;
        let is_last = failures + 1 >= run.spec.attempts_max;
        let error = match ask_once(run, model).await {
            Ok(answer) if answer.is_empty() && !may_be_silent(run, round, is_last) => {
                RequestError::Model(empty_answer(model))
            }
            Ok(answer) => {
                metrics.model_request(model.name(), Ok(()));
                return Ok(answer);
            }
            Err(error) => error,
        };
        let error = match error {
            RequestError::Model(error) => error,
            RequestError::Turn(error) => return Err(error),
        };
        metrics.model_request(model.name(), Err(error.code.name()));
        let is_too_long =
            matches!(error.code, ModelErrorCode::ContextExceeded | ModelErrorCode::BodyTooLarge);
        if is_too_long && compactions < COMPACTIONS_MAX {
            compactions += 1;
            if compaction::after_refusal(run, model, error.code).await? {
                run.record_retry(Duration::ZERO, model_turn_error(&error)).await?;
                continue;
            }
        }
        failures += 1;
        if !error.code.is_transient() || is_last {
            return Err(model_turn_error(&error));
        }
        run.pause_before_retry(failures, model_turn_error(&error)).await?;
    }
}

/// Returns `true` if an empty answer may end the turn: it has said something before, or it delivers
/// follow-ups, which need no answer. A background turn that has called tools may be silent, too, if
/// the model insists.
fn may_be_silent(run: &TurnRun, round: u32, is_last: bool) -> bool {
    let has_worked = round > 1;
    let is_noted = run.spec.background && is_last;
    run.spec.delivers || (has_worked && (!run.final_text.is_empty() || is_noted))
}

fn empty_answer(model: &dyn Model) -> ModelError {
    let message = format!(
        "{} ended its answer without text and without a call; try again, or change the prompt",
        model.name()
    );
    ModelError { code: ModelErrorCode::Empty, message }
}

async fn ask_once(run: &mut TurnRun, model: &dyn Model) -> Result<Answer, RequestError> {
    let mut stream = model.answer(ModelRequest {
        system: run.spec.system.clone(),
        messages: run.history.request_messages(),
        tools: run.tools.clone(),
    });
    let mut deltas = DeltaBuffer::new(run);
    let mut text = String::new();
    loop {
        let event = tokio::select! {
            biased;
            event = stream.next() => event,
            () = sleep_until(deltas.due_time()) => {
                deltas.flush().await?;
                continue;
            }
        };
        match event {
            Some(Ok(ModelEvent::Text(more))) => {
                text.push_str(&more);
                deltas.push(DeltaKind::Text, &more).await?;
            }
            Some(Ok(ModelEvent::Reasoning(more))) => {
                deltas.push(DeltaKind::Reasoning, &more).await?;
            }
            Some(Ok(ModelEvent::Pausing { delay, error })) => {
                run.record_retry(delay, model_turn_error(&error)).await?;
                deltas = DeltaBuffer::new(run);
            }
            Some(Ok(ModelEvent::Used(usage))) => {
                deltas.flush().await?;
                if let Some(context) = model.context() {
                    context.counted(run.request_bytes(), usage.input_tokens);
                }
                run.record_usage(usage, model.name()).await?;
            }
            Some(Ok(ModelEvent::Finished(answer))) => {
                deltas.flush().await?;
                let ModelAnswer { calls, finish, provider_data, dropped_bytes } = answer;
                if dropped_bytes > 0 {
                    run.spec.engine.shared.metrics.provider_data_dropped(model.name());
                    tracing::warn!(turn_id = %run.spec.turn_id, model = model.name(), dropped_bytes,
                        "reasoning or signatures of an answer exceed their limit and don't go back");
                }
                return Ok(Answer { text, calls, finish, provider_data });
            }
            Some(Err(error)) => {
                deltas.flush().await?;
                return Err(RequestError::Model(error));
            }
            None => {
                let message =
                    format!("the answer of {} ended before it was complete", model.name());
                let code = ModelErrorCode::Truncated;
                return Err(RequestError::Model(ModelError { code, message }));
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum DeltaKind {
    Text,
    Reasoning,
}

/// Text of an answer that is about to be recorded. While it is being stored, the endpoint isn't read.
pub(super) struct DeltaBuffer<'a> {
    run: &'a TurnRun,
    kind: DeltaKind,
    text: String,
    /// The time at which the previous text was recorded.
    last_flush: Option<Instant>,
}

impl<'a> DeltaBuffer<'a> {
    pub(super) fn new(run: &'a TurnRun) -> Self {
        Self { run, kind: DeltaKind::Text, text: String::new(), last_flush: None }
    }

    /// Appends text. Text of another kind, or more than fits into one event, is recorded first.
    pub(super) async fn push(&mut self, kind: DeltaKind, text: &str) -> Result<(), TurnError> {
        let is_full = self.text.len() + text.len() > DELTA_BYTES_MAX;
        if !self.text.is_empty() && (self.kind != kind || is_full) {
            self.flush().await?;
        }
        self.kind = kind;
        let mut rest = text;
        while rest.len() > DELTA_BYTES_MAX {
            let (piece, more) = rest.split_at(rest.floor_char_boundary(DELTA_BYTES_MAX));
            self.text.push_str(piece);
            self.flush().await?;
            rest = more;
        }
        self.text.push_str(rest);
        Ok(())
    }

    /// Records the text, if there is any.
    pub(super) async fn flush(&mut self) -> Result<(), TurnError> {
        if self.text.is_empty() {
            return Ok(());
        }
        let text = std::mem::take(&mut self.text);
        let report = match self.kind {
            DeltaKind::Text => TurnReport::Text(text),
            DeltaKind::Reasoning => TurnReport::Reasoning(text),
        };
        self.run.record(report).await?;
        self.last_flush = Some(Instant::now());
        Ok(())
    }

    /// Returns the time at which the text is to be recorded, or `None` if there is no text. It is due
    /// at once, unless other text was recorded just before.
    pub(super) fn due_time(&self) -> Option<Instant> {
        if self.text.is_empty() {
            return None;
        }
        let pause = Duration::from_millis(DELTA_DELAY_MS);
        Some(self.last_flush.map_or_else(Instant::now, |last| last + pause))
    }
}

/// Returns the error of a turn whose request to the model failed.
pub(super) fn model_turn_error(error: &ModelError) -> TurnError {
    let ModelError { code, message } = error;
    // The endpoint may have repeated what it was sent.
    let retryable = code.is_transient() || *code == ModelErrorCode::RateLimited;
    TurnError { code: code.name().into(), message: redacted(message), retryable }
}

//! Assembles an answer from the pieces of a stream, or from a document in the place of one.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::calls::Calls;
use super::content::{self, Part};
use super::error::{self, AnswerError};
use super::error_report::ErrorReport;
use super::finish::Finish;
use super::lenient::{self, TextJoiner};
use super::names::ToolNames;
use super::provider_data::{self, Collected, MESSAGE_FIELDS};
use super::sse::SseEvent;
use crate::agent::{FinishReason, ModelAnswer, ModelError, ModelEvent, RequestedCall};
use crate::model::Usage;
use crate::model::limits::{MODEL_ANSWER_BYTES_MAX, MODEL_CALLS_MAX};

/// The data of the event after which an answer has no further events.
const FINAL_MARKER: &str = "[DONE]";

/// The part of an answer that has been received.
pub(super) struct AnswerBuilder {
    url: String,
    /// The name of the model at its endpoint, for data that goes back.
    source: String,
    names: Arc<ToolNames>,
    usage: Usage,
    /// The number of the choice that is read. Others arrive only if several answers were requested.
    choice: Option<u64>,
    /// `true` if text or a call has arrived in a piece.
    has_pieces: bool,
    text: TextJoiner,
    reasoning: TextJoiner,
    calls: Calls,
    data: Collected,
    finish: Option<Finish>,
    /// `true` if the model refuses to answer. Its words may go on, so this is no end.
    is_refusal: bool,
    /// `true` if the end was marked, with or without a reason.
    is_marked: bool,
    /// The first event that isn't a piece of an answer.
    odd: String,
    unknown_parts: usize,
    bytes: usize,
}

impl AnswerBuilder {
    /// Begins an answer. `url` is for errors, `source` names the model at its endpoint.
    pub(super) fn new(url: String, source: String, names: Arc<ToolNames>) -> Self {
        Self {
            url,
            source,
            names,
            usage: Usage::default(),
            choice: None,
            has_pieces: false,
            text: TextJoiner::default(),
            reasoning: TextJoiner::default(),
            calls: Calls::default(),
            data: Collected::default(),
            finish: None,
            is_refusal: false,
            is_marked: false,
            odd: String::new(),
            unknown_parts: 0,
            bytes: 0,
        }
    }

    /// Adds an event, and appends what it says to `said`.
    pub(super) fn push(
        &mut self,
        event: &SseEvent,
        said: &mut Vec<ModelEvent>,
    ) -> Result<(), AnswerError> {
        let data = event.data.trim();
        if data.eq_ignore_ascii_case(FINAL_MARKER) {
            self.is_marked = true;
        }
        if self.is_marked || data.is_empty() {
            return Ok(());
        }
        let parsed = lenient::parse(data);
        if event.name.eq_ignore_ascii_case("error") {
            let report =
                parsed.map_or_else(|_| ErrorReport::of_text(data), |v| ErrorReport::of(&v));
            return Err(self.reported_error(report));
        }
        match parsed {
            Ok(value) => self.push_value(&value, said),
            // The empty lines between events are missing.
            Err(_) if data.contains('\n') => data.lines().try_for_each(|line| {
                self.push(&SseEvent { name: String::new(), data: line.to_owned() }, said)
            }),
            Err(cause) if data.starts_with(['{', '[']) => {
                Err(error::malformed(&cause, data, &self.url).into())
            }
            Err(_) => {
                self.note_odd(data);
                Ok(())
            }
        }
    }

    /// Adds a document that was sent in the place of a stream.
    pub(super) fn push_document(
        &mut self,
        document: &str,
        content_type: &str,
        said: &mut Vec<ModelEvent>,
    ) -> Result<(), AnswerError> {
        let mut values = serde_json::Deserializer::from_str(document).into_iter::<Value>();
        let values = match lenient::parse(document.trim()) {
            Ok(value) => vec![value],
            // One piece on each line.
            Err(_) => values.by_ref().map_while(Result::ok).collect(),
        };
        for value in &values {
            self.push_value(value, said)?;
        }
        if self.choice.is_none() {
            return Err(error::not_an_answer(content_type, document, &self.url).into());
        }
        self.is_marked = true;
        Ok(())
    }

    fn push_value(&mut self, value: &Value, said: &mut Vec<ModelEvent>) -> Result<(), AnswerError> {
        match value {
            Value::Object(piece) => self.push_piece(piece, said),
            Value::Array(items) => items.iter().try_for_each(|item| match item {
                Value::Object(piece) => self.push_piece(piece, said),
                _ => Ok(()),
            }),
            Value::String(words) => {
                self.note_odd(words);
                Ok(())
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
        }
    }

    fn push_piece(
        &mut self,
        piece: &Map<String, Value>,
        said: &mut Vec<ModelEvent>,
    ) -> Result<(), AnswerError> {
        if let Some(report) = ErrorReport::find(piece) {
            return Err(self.reported_error(report));
        }
        for holder in [piece.get("usage"), piece.get("x_groq").and_then(|own| own.get("usage"))] {
            add_usage(&mut self.usage, holder.unwrap_or(&Value::Null));
        }
        let choices = piece.get("choices").into_iter().flat_map(lenient::items);
        for choice in choices.filter(|choice| choice.is_object()) {
            let number = lenient::number(choice, "index").unwrap_or_default();
            if *self.choice.get_or_insert(number) == number {
                self.push_choice(choice, said)?;
            }
        }
        Ok(())
    }

    fn push_choice(
        &mut self,
        choice: &Value,
        said: &mut Vec<ModelEvent>,
    ) -> Result<(), ModelError> {
        add_usage(&mut self.usage, choice.get("usage").unwrap_or(&Value::Null));
        let delta = lenient::field(choice, "delta").filter(|delta| is_piece(delta));
        match (delta, lenient::field(choice, "message")) {
            (Some(delta), _) => {
                let earlier = said.len();
                self.push_delta(delta, said)?;
                let is_text = |event: &ModelEvent| matches!(event, ModelEvent::Text(_));
                self.has_pieces |= said[earlier..].iter().any(is_text) || !self.calls.is_empty();
            }
            // A whole message behind its own pieces repeats them.
            (None, Some(_)) if self.has_pieces => {}
            (None, Some(message)) => self.push_delta(message, said)?,
            (None, None) => {
                if let Some(text) = lenient::text(choice, "text") {
                    self.push_text(text, said)?;
                }
            }
        }
        if let Some(reason) = lenient::text(choice, "finish_reason").filter(|r| *r != "null") {
            let finish = Finish::of(reason);
            match (&self.finish, &finish) {
                (None, _) | (Some(Finish::Reason(_)), Finish::Error(..)) => {
                    self.finish = Some(finish)
                }
                (Some(_), _) => {}
            }
        }
        Ok(())
    }

    fn push_delta(&mut self, delta: &Value, said: &mut Vec<ModelEvent>) -> Result<(), ModelError> {
        for text in content::reasoning(delta) {
            self.push_reasoning(text, said)?;
        }
        for part in content::parts(delta.get("content").unwrap_or(&Value::Null)) {
            match part {
                Part::Text(text) => self.push_text(text, said)?,
                Part::Reasoning(text) => self.push_reasoning(text, said)?,
                Part::Refusal(text) => self.push_refusal(text, said)?,
                Part::Unknown(kind) => {
                    self.unknown_parts += 1;
                    tracing::debug!(url = self.url, kind, "a part of an answer cannot be used");
                }
            }
        }
        if let Some(text) = lenient::text(delta, "refusal") {
            self.push_refusal(text, said)?;
        }
        let mut bytes = delta.get("tool_calls").map_or(0, |calls| self.calls.push(calls));
        if let Some(function) = lenient::field(delta, "function_call") {
            bytes += self.calls.push_single(function);
        }
        bytes += self.data.push(delta, MESSAGE_FIELDS);
        self.count(bytes)?;
        if self.calls.len() > MODEL_CALLS_MAX {
            return Err(error::too_large(&self.url));
        }
        Ok(())
    }

    fn push_text(&mut self, text: &str, said: &mut Vec<ModelEvent>) -> Result<(), ModelError> {
        let text = self.text.push(text);
        self.count(text.len())?;
        said.extend(Some(text).filter(|text| !text.is_empty()).map(ModelEvent::Text));
        Ok(())
    }

    fn push_refusal(&mut self, text: &str, said: &mut Vec<ModelEvent>) -> Result<(), ModelError> {
        self.is_refusal = true;
        self.push_text(text, said)
    }

    fn push_reasoning(&mut self, text: &str, said: &mut Vec<ModelEvent>) -> Result<(), ModelError> {
        let text = self.reasoning.push(text);
        self.count(text.len())?;
        said.extend(Some(text).filter(|text| !text.is_empty()).map(ModelEvent::Reasoning));
        Ok(())
    }

    fn count(&mut self, bytes: usize) -> Result<(), ModelError> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > MODEL_ANSWER_BYTES_MAX { Err(error::too_large(&self.url)) } else { Ok(()) }
    }

    fn reported_error(&self, report: ErrorReport) -> AnswerError {
        let error = error::reported_error(&report, &self.url);
        let is_in_place_of_answer = self.bytes == 0;
        AnswerError { error, reason: is_in_place_of_answer.then_some(report.source) }
    }

    /// Keeps the words of the first event that isn't a piece of an answer, for an error.
    pub(super) fn note_odd(&mut self, words: &str) {
        if self.odd.is_empty() {
            words.trim().clone_into(&mut self.odd);
        }
    }

    /// Returns the usage that the endpoint has reported.
    pub(super) fn usage(&self) -> Usage {
        self.usage
    }

    /// Returns `true` if the end was marked: nothing follows.
    pub(super) fn is_over(&self) -> bool {
        self.is_marked
    }

    /// Returns `true` if the answer has an end. Only its usage and the mark of the end may follow.
    pub(super) fn has_finished(&self) -> bool {
        self.finish.is_some()
    }

    /// Appends the last of what the answer says to `said`.
    pub(super) fn flush(&mut self, said: &mut Vec<ModelEvent>) {
        said.extend(self.reasoning.finish().map(|end| ModelEvent::Reasoning(end.into())));
        said.extend(self.text.finish().map(|end| ModelEvent::Text(end.into())));
    }

    /// Returns the complete answer.
    ///
    /// # Errors
    ///
    /// Fails if the reason for the end is an error, or if there is neither a reason nor a mark: then
    /// the answer is incomplete.
    pub(super) fn finish(mut self) -> Result<ModelAnswer, ModelError> {
        let finish = match self.finish {
            Some(Finish::Reason(finish)) => finish,
            Some(Finish::Error(code, reason)) => {
                return Err(error::failed_answer(code, &reason, &self.url));
            }
            // Some endpoints give no reason.
            None if self.is_marked && self.calls.are_whole() => FinishReason::Done,
            None => return Err(error::truncated_answer(&self.odd, &self.url)),
        };
        let finish = if self.is_refusal { FinishReason::Refused } else { finish };
        if self.unknown_parts > 0 {
            let parts = self.unknown_parts;
            tracing::warn!(
                url = self.url,
                parts,
                "an answer has parts that are neither text nor calls"
            );
        }
        let mut calls = self.calls.finish(&self.names);
        let collected = calls.iter_mut().map(|(_, collected)| collected);
        let dropped_bytes = provider_data::bound(&mut self.data, collected);
        // Reasoning goes back with the calls that it led to.
        let provider_data = match calls.is_empty() {
            true => None,
            false => self.data.finish(&self.source),
        };
        let calls = calls.into_iter().map(|(call, collected)| RequestedCall {
            provider_data: collected.finish(&self.source),
            ..call
        });
        Ok(ModelAnswer { calls: calls.collect(), finish, provider_data, dropped_bytes })
    }
}

/// Returns `true` if a delta has more than a role.
fn is_piece(delta: &Value) -> bool {
    let fields = delta.as_object().into_iter().flatten();
    fields.into_iter().any(|(name, value)| name != "role" && !lenient::is_nothing(value))
}

/// Adds what an endpoint reports. Some repeat a growing usage in each piece, so the largest counts.
fn add_usage(total: &mut Usage, reported: &Value) {
    let first = |names: &[&str]| names.iter().find_map(|name| lenient::number(reported, name));
    let detail = |name: &str| {
        lenient::field(reported, name).and_then(|d| lenient::number(d, "cached_tokens"))
    };
    let input = first(&["prompt_tokens", "input_tokens"]);
    let output = first(&["completion_tokens", "output_tokens"]);
    let cached = detail("prompt_tokens_details").or_else(|| detail("input_tokens_details"));
    // The names of DeepSeek and Kimi.
    let cached = cached.or_else(|| first(&["prompt_cache_hit_tokens", "cached_tokens"]));
    total.input_tokens = total.input_tokens.max(input.unwrap_or_default());
    total.output_tokens = total.output_tokens.max(output.unwrap_or_default());
    total.cached_input_tokens = total.cached_input_tokens.max(cached.unwrap_or_default());
}

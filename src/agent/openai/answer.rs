//! Assembles an answer from the pieces of a stream.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::error;
use super::names::ToolNames;
use crate::agent::{
    FinishReason, ModelAnswer, ModelError, ModelErrorCode, ModelEvent, RequestedCall,
};
use crate::model::Usage;
use crate::model::limits::{MODEL_ANSWER_BYTES_MAX, MODEL_CALLS_MAX};

/// One piece. Endpoints differ in what they leave out, so nearly every field is optional.
#[derive(Debug, Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
    #[serde(default)]
    usage: Option<WireUsage>,
    #[serde(default)]
    error: Option<serde_json::Value>,
}

#[derive(Debug, Deserialize)]
struct Choice {
    #[serde(default)]
    index: u32,
    #[serde(default)]
    delta: Delta,
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Delta {
    content: Option<String>,
    refusal: Option<String>,
    /// The name that DeepSeek, vLLM and others use.
    reasoning_content: Option<String>,
    /// The name that OpenRouter and others use.
    reasoning: Option<String>,
    tool_calls: Option<Vec<CallDelta>>,
}

#[derive(Debug, Deserialize)]
struct CallDelta {
    #[serde(default)]
    index: u32,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    function: FunctionDelta,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct FunctionDelta {
    name: Option<String>,
    arguments: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct WireUsage {
    prompt_tokens: u64,
    completion_tokens: u64,
    prompt_tokens_details: Option<PromptDetails>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PromptDetails {
    cached_tokens: Option<u64>,
}

/// The part of an answer that has been received.
pub(super) struct AnswerBuilder {
    names: ToolNames,
    calls: BTreeMap<u32, RequestedCall>,
    usage: Usage,
    finish: Option<FinishReason>,
    bytes: usize,
}

impl AnswerBuilder {
    pub(super) fn new(names: ToolNames, usage: Usage) -> Self {
        Self { names, calls: BTreeMap::new(), usage, finish: None, bytes: 0 }
    }

    /// Adds one piece, and returns its events.
    pub(super) fn push(&mut self, data: &str, url: &str) -> Result<Vec<ModelEvent>, ModelError> {
        let chunk: Chunk =
            serde_json::from_str(data).map_err(|cause| error::malformed(&cause, url))?;
        if let Some(reported) = chunk.error.filter(|reported| !reported.is_null()) {
            return Err(error::reported_error(&reported, url));
        }
        if let Some(usage) = chunk.usage {
            self.usage.input_tokens = usage.prompt_tokens;
            self.usage.output_tokens = usage.completion_tokens;
            let details = usage.prompt_tokens_details.unwrap_or_default();
            self.usage.cached_input_tokens = details.cached_tokens.unwrap_or_default();
        }
        let mut events = Vec::new();
        // Other choices arrive only if several answers were requested.
        for choice in chunk.choices.into_iter().filter(|choice| choice.index == 0) {
            let Delta { content, refusal, reasoning_content, reasoning, tool_calls } = choice.delta;
            for text in [reasoning_content, reasoning].into_iter().flatten() {
                self.count(text.len(), url)?;
                events.push(ModelEvent::Reasoning(text));
            }
            if refusal.is_some() {
                self.finish = Some(FinishReason::Refused);
            }
            for text in [content, refusal].into_iter().flatten() {
                self.count(text.len(), url)?;
                events.push(ModelEvent::Text(text));
            }
            for call in tool_calls.into_iter().flatten() {
                self.push_call(call, url)?;
            }
            if let Some(reason) = choice.finish_reason {
                let finish = match reason.as_str() {
                    "length" => FinishReason::Length,
                    "content_filter" => FinishReason::Refused,
                    _ => FinishReason::Done,
                };
                self.finish.get_or_insert(finish);
            }
        }
        events.retain(|event| {
            !matches!(event, ModelEvent::Text(text) | ModelEvent::Reasoning(text) if text.is_empty())
        });
        Ok(events)
    }

    fn push_call(&mut self, delta: CallDelta, url: &str) -> Result<(), ModelError> {
        let FunctionDelta { name, arguments } = delta.function;
        let known = self.calls.len();
        let is_new = !self.calls.contains_key(&delta.index);
        if is_new && known >= MODEL_CALLS_MAX {
            return Err(error::too_large(url));
        }
        let sizes = [&delta.id, &name, &arguments].into_iter().flatten().map(String::len);
        self.count(sizes.sum(), url)?;
        let empty =
            || RequestedCall { id: String::new(), tool: String::new(), arguments: String::new() };
        let call = self.calls.entry(delta.index).or_insert_with(empty);
        if let Some(id) = delta.id.filter(|id| !id.is_empty()) {
            call.id = id;
        }
        // The name is never split; some endpoints repeat it in each piece.
        if let Some(name) = name.filter(|name| !name.is_empty()) {
            call.tool = name;
        }
        call.arguments.push_str(&arguments.unwrap_or_default());
        Ok(())
    }

    fn count(&mut self, bytes: usize, url: &str) -> Result<(), ModelError> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > MODEL_ANSWER_BYTES_MAX { Err(error::too_large(url)) } else { Ok(()) }
    }

    /// Returns the usage that the endpoint has reported.
    pub(super) fn usage(&self) -> Usage {
        self.usage
    }

    /// Returns the complete answer.
    ///
    /// # Errors
    ///
    /// Fails if the endpoint gave no reason for the end: then the answer is incomplete.
    pub(super) fn finish(self, url: &str) -> Result<ModelAnswer, ModelError> {
        let Some(finish) = self.finish else {
            return Err(ModelError {
                code: ModelErrorCode::Truncated,
                message: format!("the answer of {url} ended before it was complete"),
            });
        };
        let named = |(index, call): (u32, RequestedCall)| RequestedCall {
            // Some endpoints give no id, and all of them require one back.
            id: if call.id.is_empty() { format!("call_{index}") } else { call.id },
            tool: self.names.resolve(&call.tool),
            arguments: self.names.unwrap_arguments(&call.tool, call.arguments),
        };
        Ok(ModelAnswer { calls: self.calls.into_iter().map(named).collect(), finish })
    }
}

//! An answer, put together from its pieces.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::error;
use super::names::Names;
use crate::agent::{Finish, ModelAnswer, ModelError, ModelErrorCode, ModelEvent, WantedCall};
use crate::model::Usage;
use crate::model::limits::{MODEL_ANSWER_BYTES_MAX, MODEL_CALLS_MAX};

/// One piece. Endpoints differ in what they leave out, so nearly all of it may be.
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
    /// What DeepSeek, vLLM and others call it.
    reasoning_content: Option<String>,
    /// What OpenRouter and others call it.
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

/// What has come of an answer so far.
pub(super) struct Assembly {
    names: Names,
    calls: BTreeMap<u32, WantedCall>,
    usage: Usage,
    finish: Option<Finish>,
    bytes: usize,
}

impl Assembly {
    pub(super) fn new(names: Names, usage: Usage) -> Self {
        Self { names, calls: BTreeMap::new(), usage, finish: None, bytes: 0 }
    }

    /// Takes one piece in, and gives what can be shown of it.
    pub(super) fn take(&mut self, data: &str, at: &str) -> Result<Vec<ModelEvent>, ModelError> {
        let chunk: Chunk =
            serde_json::from_str(data).map_err(|cause| error::garbled(&cause, at))?;
        if let Some(fault) = chunk.error.filter(|fault| !fault.is_null()) {
            return Err(error::of_body(&fault, at));
        }
        if let Some(usage) = chunk.usage {
            self.usage.input_tokens = usage.prompt_tokens;
            self.usage.output_tokens = usage.completion_tokens;
            let details = usage.prompt_tokens_details.unwrap_or_default();
            self.usage.cached_input_tokens = details.cached_tokens.unwrap_or_default();
        }
        let mut events = Vec::new();
        // Others come only where several answers are asked for.
        for choice in chunk.choices.into_iter().filter(|choice| choice.index == 0) {
            let Delta { content, refusal, reasoning_content, reasoning, tool_calls } = choice.delta;
            for text in [reasoning_content, reasoning].into_iter().flatten() {
                self.count(text.len(), at)?;
                events.push(ModelEvent::Reasoning(text));
            }
            if refusal.is_some() {
                self.finish = Some(Finish::Refused);
            }
            for text in [content, refusal].into_iter().flatten() {
                self.count(text.len(), at)?;
                events.push(ModelEvent::Text(text));
            }
            for call in tool_calls.into_iter().flatten() {
                self.call(call, at)?;
            }
            if let Some(reason) = choice.finish_reason {
                let finish = match reason.as_str() {
                    "length" => Finish::Length,
                    "content_filter" => Finish::Refused,
                    _ => Finish::Done,
                };
                self.finish.get_or_insert(finish);
            }
        }
        events.retain(|event| {
            !matches!(event, ModelEvent::Text(text) | ModelEvent::Reasoning(text) if text.is_empty())
        });
        Ok(events)
    }

    fn call(&mut self, delta: CallDelta, at: &str) -> Result<(), ModelError> {
        let FunctionDelta { name, arguments } = delta.function;
        let known = self.calls.len();
        let is_new = !self.calls.contains_key(&delta.index);
        if is_new && known >= MODEL_CALLS_MAX {
            return Err(error::too_large(at));
        }
        let sizes = [&delta.id, &name, &arguments].into_iter().flatten().map(String::len);
        self.count(sizes.sum(), at)?;
        let empty =
            || WantedCall { id: String::new(), tool: String::new(), arguments: String::new() };
        let call = self.calls.entry(delta.index).or_insert_with(empty);
        if let Some(id) = delta.id.filter(|id| !id.is_empty()) {
            call.id = id;
        }
        // The name comes whole; some endpoints give it with each piece.
        if let Some(name) = name.filter(|name| !name.is_empty()) {
            call.tool = name;
        }
        call.arguments.push_str(&arguments.unwrap_or_default());
        Ok(())
    }

    fn count(&mut self, bytes: usize, at: &str) -> Result<(), ModelError> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > MODEL_ANSWER_BYTES_MAX { Err(error::too_large(at)) } else { Ok(()) }
    }

    /// What the request has used, as far as the endpoint has said.
    pub(super) fn usage(&self) -> Usage {
        self.usage
    }

    /// The answer. One that doesn't say why it ends was cut, however politely.
    pub(super) fn finish(self, at: &str) -> Result<ModelAnswer, ModelError> {
        let Some(finish) = self.finish else {
            return Err(ModelError {
                code: ModelErrorCode::Cut,
                message: format!("the answer of {at} ended before it was whole"),
            });
        };
        let named = |(index, call): (u32, WantedCall)| WantedCall {
            // Some endpoints give none, and all want one back.
            id: if call.id.is_empty() { format!("call_{index}") } else { call.id },
            tool: self.names.own(&call.tool),
            arguments: call.arguments,
        };
        Ok(ModelAnswer { calls: self.calls.into_iter().map(named).collect(), finish })
    }
}

//! The calls that an agent makes of its own tools, from its updates about them.

use std::collections::HashMap;

use agent_client_protocol::v1::schema::{
    ContentBlock, ToolCall, ToolCallContent, ToolCallId, ToolCallStatus, ToolCallUpdate,
    ToolCallUpdateFields, ToolKind,
};
use bytes::Bytes;
use serde_json::{Map, Value};
use tokio::sync::mpsc;

use super::event_sink::{EventSink, TurnAbort};
use super::permission::tool_name;
use super::tool_server::SERVER_NAME;
use crate::agent::{AgentEvent, OwnCall, OwnCallEvent};
use crate::model::limits::OUTPUT_CHUNK_BYTES_MAX;
use crate::model::{Tool, ToolResult};
use crate::telemetry::Metrics;

/// The number of events of one call that wait to be received.
const EVENTS_MAX: usize = 16;
/// The number of calls of one turn that are shown. Further calls are only counted.
const CALLS_MAX: usize = 10_000;

/// The separator in front of output that doesn't continue the previous output.
const REPLACED_OUTPUT: &str = "\n--- the agent has replaced its output; all of it follows ---\n";

/// The calls of one turn.
pub(super) struct OwnCalls {
    agent: String,
    /// The tools of callpark.
    tools: std::sync::Arc<[Tool]>,
    known: HashMap<ToolCallId, KnownCall>,
    metrics: Metrics,
    has_left_out: bool,
}

struct KnownCall {
    kind: ToolKind,
    /// `true` if it is a call of one of callpark's tools, which callpark shows itself.
    is_callparks: bool,
    /// The call, or `None` if it has ended or isn't shown here.
    open: Option<OpenCall>,
}

struct OpenCall {
    events: mpsc::Sender<OwnCallEvent>,
    /// The output that has been emitted.
    output: String,
}

impl OwnCalls {
    pub(super) fn new(agent: &str, tools: std::sync::Arc<[Tool]>, metrics: Metrics) -> Self {
        let (agent, known) = (agent.to_owned(), HashMap::new());
        Self { agent, tools, known, metrics, has_left_out: false }
    }

    /// Handles the first update about a call.
    pub(super) async fn start(
        &mut self,
        call: ToolCall,
        sink: &EventSink,
    ) -> Result<(), TurnAbort> {
        if self.known.len() >= CALLS_MAX && !self.known.contains_key(&call.tool_call_id) {
            self.count_left_out();
            return Ok(());
        }
        self.update(call.into(), sink).await
    }

    fn count_left_out(&mut self) {
        self.metrics.agent_call_left_out(&self.agent);
        if !std::mem::replace(&mut self.has_left_out, true) {
            let agent = &self.agent;
            tracing::warn!(
                agent,
                "a turn has more than {CALLS_MAX} calls: the others are not shown"
            );
        }
    }

    /// Handles a further update about a call.
    pub(super) async fn update(
        &mut self,
        update: ToolCallUpdate,
        sink: &EventSink,
    ) -> Result<(), TurnAbort> {
        let (id, fields) = (update.tool_call_id, update.fields);
        if !self.known.contains_key(&id) {
            // The call was left out when it began.
            if self.known.len() >= CALLS_MAX {
                return Ok(());
            }
            let known = self.open(&fields, sink).await?;
            self.known.insert(id.clone(), known);
        }
        let Some(known) = self.known.get_mut(&id) else { return Ok(()) };
        known.kind = fields.kind.unwrap_or(known.kind);
        let Some(open) = &mut known.open else { return Ok(()) };
        if let Some(content) = &fields.content {
            open.emit_output(text(content), sink).await?;
        }
        let is_error = match fields.status {
            Some(ToolCallStatus::Completed) => false,
            Some(ToolCallStatus::Failed) => true,
            _ => return Ok(()),
        };
        let error_message = match is_error && open.output.is_empty() {
            true => failure_reason(fields.raw_output.as_ref()),
            false => String::new(),
        };
        let result = ToolResult { is_error, error_message, ..ToolResult::default() };
        let ended = OwnCallEvent::Ended(Box::new(result));
        let events = open.events.clone();
        known.open = None;
        sink.emit_of_call(&events, ended).await
    }

    async fn open(
        &self,
        fields: &ToolCallUpdateFields,
        sink: &EventSink,
    ) -> Result<KnownCall, TurnAbort> {
        let kind = fields.kind.unwrap_or_default();
        let is_callparks = self.is_callparks(fields);
        if is_callparks {
            return Ok(KnownCall { kind, is_callparks, open: None });
        }
        let (events, receiver) = mpsc::channel(EVENTS_MAX);
        let call = OwnCall {
            tool: tool_name(&self.agent, kind),
            description: fields.title.clone().unwrap_or_default(),
            arguments: arguments(fields.raw_input.clone()),
            events: receiver,
        };
        sink.emit(AgentEvent::OwnCall(call)).await?;
        Ok(KnownCall { kind, is_callparks, open: Some(OpenCall { events, output: String::new() }) })
    }

    /// Returns `true` for a call of one of callpark's tools. Agents put the name of the server in
    /// front of the tool's name, with various separators.
    fn is_callparks(&self, fields: &ToolCallUpdateFields) -> bool {
        let names = fields.name.iter().chain(&fields.title);
        names.into_iter().any(|name| {
            let name = name.strip_prefix("mcp__").unwrap_or(name);
            let rest = name.strip_prefix(SERVER_NAME).unwrap_or_default();
            let tool = rest.trim_start_matches(['-', '_', '.', '/', ':']);
            let has_separator = tool.len() < rest.len();
            has_separator && self.tools.iter().any(|known| tool.starts_with(&known.name))
        })
    }

    /// Returns the kind of the tool for which permission is requested, and whether it is one of
    /// callpark's tools.
    pub(super) fn requested_tool(&self, update: &ToolCallUpdate) -> (ToolKind, bool) {
        let known = self.known.get(&update.tool_call_id);
        let kind = update.fields.kind.or(known.map(|known| known.kind)).unwrap_or_default();
        let is_callparks = known.is_some_and(|known| known.is_callparks);
        (kind, is_callparks || self.is_callparks(&update.fields))
    }
}

impl OpenCall {
    /// Emits the part of the whole output so far that is new.
    async fn emit_output(&mut self, whole: String, sink: &EventSink) -> Result<(), TurnAbort> {
        let new = match whole.strip_prefix(self.output.as_str()) {
            Some(new) => new.to_owned(),
            // The update may be about something else.
            None if whole.is_empty() => return Ok(()),
            None => format!("{REPLACED_OUTPUT}{whole}"),
        };
        self.output = whole;
        let new = Bytes::from(new);
        let starts = (0..new.len()).step_by(OUTPUT_CHUNK_BYTES_MAX);
        for start in starts {
            let end = new.len().min(start + OUTPUT_CHUNK_BYTES_MAX);
            let piece = OwnCallEvent::Output(new.slice(start..end));
            sink.emit_of_call(&self.events, piece).await?;
        }
        Ok(())
    }
}

/// Returns the output of a call as text.
fn text(content: &[ToolCallContent]) -> String {
    let mut text = String::new();
    for content in content {
        match content {
            ToolCallContent::Content(content) => match &content.content {
                ContentBlock::Text(more) => text.push_str(&more.text),
                ContentBlock::Image(_) => text.push_str("[an image]\n"),
                ContentBlock::Audio(_) => text.push_str("[a sound]\n"),
                ContentBlock::ResourceLink(link) => text.push_str(&format!("[{}]\n", link.uri)),
                _ => text.push_str("[a document]\n"),
            },
            ToolCallContent::Diff(diff) => {
                text.push_str(&format!("{}:\n{}\n", diff.path.display(), diff.new_text));
            }
            _ => {}
        }
    }
    text
}

/// Returns the input of a tool as an object.
fn arguments(raw_input: Option<Value>) -> Map<String, Value> {
    match raw_input {
        Some(Value::Object(arguments)) => arguments,
        None | Some(Value::Null) => Map::new(),
        Some(other) => Map::from_iter([("input".to_owned(), other)]),
    }
}

/// Returns the reason for the failure of a call without output.
fn failure_reason(raw_output: Option<&Value>) -> String {
    match raw_output {
        Some(Value::String(reason)) => reason.clone(),
        Some(Value::Object(fields)) => match fields.get("message") {
            Some(Value::String(reason)) => reason.clone(),
            _ => Value::Object(fields.clone()).to_string(),
        },
        _ => "the agent reported a failure without a reason".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::*;

    #[tokio::test]
    async fn calls_beyond_the_bound_are_counted() {
        let metrics = Metrics::default();
        let (events, mut received) = mpsc::channel(1);
        let sink = EventSink { events, stop: CancellationToken::new() };
        let mut calls = OwnCalls::new("copilot", std::sync::Arc::default(), metrics.clone());
        let sending = async {
            for number in 0..CALLS_MAX + 3 {
                let call = ToolCall::new(format!("t{number}"), "look");
                assert!(calls.start(call, &sink).await.is_ok());
            }
            // Further updates about a call, shown or not, aren't counted.
            for id in ["t1", "t10001"] {
                let update = ToolCallUpdate::new(id, ToolCallUpdateFields::new());
                assert!(calls.update(update, &sink).await.is_ok());
            }
            drop(sink);
        };
        let receiving = async {
            let mut count = 0;
            while received.recv().await.is_some() {
                count += 1;
            }
            count
        };
        let ((), count) = tokio::join!(sending, receiving);
        assert_eq!(count, CALLS_MAX);
        let line = r#"callpark_agent_calls_left_out_total{model="copilot"} 3"#;
        assert!(metrics.render().lines().any(|l| l == line), "{}", metrics.render());
    }
}

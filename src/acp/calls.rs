//! The tools that an agent uses: what it tells of them, as calls of callpark's.

use std::collections::HashMap;

use agent_client_protocol::v1::schema::{
    ContentBlock, ToolCall, ToolCallContent, ToolCallId, ToolCallStatus, ToolCallUpdate,
    ToolCallUpdateFields, ToolKind,
};
use bytes::Bytes;
use serde_json::{Map, Value};
use tokio::sync::mpsc;

use super::permission::tool_name;
use super::telling::{Halt, Telling};
use super::tools::SERVER_NAME;
use crate::agent::{AgentEvent, OwnCall, OwnCallEvent};
use crate::model::limits::OUTPUT_CHUNK_BYTES_MAX;
use crate::model::{Tool, ToolResult};
use crate::telemetry::Metrics;

/// Events of one call that wait to be read.
const EVENTS_MAX: usize = 16;
/// Calls of one turn that are remembered. Those beyond aren't told of, and counted.
const CALLS_MAX: usize = 10_000;

/// What stands before output that doesn't continue what was told before. Then all of it is told.
const REWRITTEN: &str = "\n--- the agent has replaced its output; all of it follows ---\n";

/// The calls of one turn.
pub(super) struct Calls {
    agent: String,
    /// Callpark's, which the agent may call, too.
    tools: std::sync::Arc<[Tool]>,
    known: HashMap<ToolCallId, Known>,
    metrics: Metrics,
    has_left_out: bool,
}

struct Known {
    kind: ToolKind,
    is_callparks: bool,
    /// None: it has ended, or nobody is told.
    open: Option<Open>,
}

struct Open {
    events: mpsc::Sender<OwnCallEvent>,
    /// The output that was told.
    told: String,
}

impl Calls {
    pub(super) fn new(agent: &str, tools: std::sync::Arc<[Tool]>, metrics: Metrics) -> Self {
        let (agent, known) = (agent.to_owned(), HashMap::new());
        Self { agent, tools, known, metrics, has_left_out: false }
    }

    /// The agent has begun to use a tool.
    pub(super) async fn begun(&mut self, call: ToolCall, telling: &Telling) -> Result<(), Halt> {
        if self.known.len() >= CALLS_MAX && !self.known.contains_key(&call.tool_call_id) {
            self.leave_out();
            return Ok(());
        }
        self.changed(call.into(), telling).await
    }

    fn leave_out(&mut self) {
        self.metrics.agent_call_left_out(&self.agent);
        if !std::mem::replace(&mut self.has_left_out, true) {
            let agent = &self.agent;
            tracing::warn!(
                agent,
                "a turn has more than {CALLS_MAX} calls: the others aren't told of"
            );
        }
    }

    /// It tells more of it.
    pub(super) async fn changed(
        &mut self,
        update: ToolCallUpdate,
        telling: &Telling,
    ) -> Result<(), Halt> {
        let (id, fields) = (update.tool_call_id, update.fields);
        if !self.known.contains_key(&id) {
            // It was left out when it began.
            if self.known.len() >= CALLS_MAX {
                return Ok(());
            }
            let known = self.begin(&fields, telling).await?;
            self.known.insert(id.clone(), known);
        }
        let Some(known) = self.known.get_mut(&id) else { return Ok(()) };
        known.kind = fields.kind.unwrap_or(known.kind);
        let Some(open) = &mut known.open else { return Ok(()) };
        if let Some(content) = &fields.content {
            open.output(text(content), telling).await?;
        }
        let is_error = match fields.status {
            Some(ToolCallStatus::Completed) => false,
            Some(ToolCallStatus::Failed) => true,
            _ => return Ok(()),
        };
        let error_message = match is_error && open.told.is_empty() {
            true => reason(fields.raw_output.as_ref()),
            false => String::new(),
        };
        let result = ToolResult { is_error, error_message, ..ToolResult::default() };
        let ended = OwnCallEvent::Ended(Box::new(result));
        let events = open.events.clone();
        known.open = None;
        telling.tell_of_call(&events, ended).await
    }

    async fn begin(&self, fields: &ToolCallUpdateFields, telling: &Telling) -> Result<Known, Halt> {
        let kind = fields.kind.unwrap_or_default();
        let is_callparks = self.is_callparks(fields);
        if is_callparks {
            return Ok(Known { kind, is_callparks, open: None });
        }
        let (events, told_events) = mpsc::channel(EVENTS_MAX);
        let call = OwnCall {
            tool: tool_name(&self.agent, kind),
            description: fields.title.clone().unwrap_or_default(),
            arguments: arguments(fields.raw_input.clone()),
            events: told_events,
        };
        telling.tell(AgentEvent::OwnCall(call)).await?;
        Ok(Known { kind, is_callparks, open: Some(Open { events, told: String::new() }) })
    }

    /// It is a call of one of callpark's tools, which callpark sees by itself. Agents put the name of
    /// the server before that of the tool, with one separator or another.
    fn is_callparks(&self, fields: &ToolCallUpdateFields) -> bool {
        let names = fields.name.iter().chain(&fields.title);
        names.into_iter().any(|name| {
            let name = name.strip_prefix("mcp__").unwrap_or(name);
            let rest = name.strip_prefix(SERVER_NAME).unwrap_or_default();
            let tool = rest.trim_start_matches(['-', '_', '.', '/', ':']);
            let is_separated = tool.len() < rest.len();
            is_separated && self.tools.iter().any(|known| tool.starts_with(&known.name))
        })
    }

    /// What it asks to use: the kind, and whether it is a tool of callpark's.
    pub(super) fn asked_for(&self, update: &ToolCallUpdate) -> (ToolKind, bool) {
        let known = self.known.get(&update.tool_call_id);
        let kind = update.fields.kind.or(known.map(|known| known.kind)).unwrap_or_default();
        let is_callparks = known.is_some_and(|known| known.is_callparks);
        (kind, is_callparks || self.is_callparks(&update.fields))
    }
}

impl Open {
    /// Tells what is new in the whole output so far.
    async fn output(&mut self, whole: String, telling: &Telling) -> Result<(), Halt> {
        let new = match whole.strip_prefix(self.told.as_str()) {
            Some(new) => new.to_owned(),
            // An update may be about something else.
            None if whole.is_empty() => return Ok(()),
            None => format!("{REWRITTEN}{whole}"),
        };
        self.told = whole;
        let new = Bytes::from(new);
        let starts = (0..new.len()).step_by(OUTPUT_CHUNK_BYTES_MAX);
        for start in starts {
            let end = new.len().min(start + OUTPUT_CHUNK_BYTES_MAX);
            let piece = OwnCallEvent::Output(new.slice(start..end));
            telling.tell_of_call(&self.events, piece).await?;
        }
        Ok(())
    }
}

/// What a call has given so far, as text.
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

/// What a tool is given, as an object.
fn arguments(raw_input: Option<Value>) -> Map<String, Value> {
    match raw_input {
        Some(Value::Object(arguments)) => arguments,
        None | Some(Value::Null) => Map::new(),
        Some(other) => Map::from_iter([("input".to_owned(), other)]),
    }
}

/// Why a call failed that gave nothing.
fn reason(raw_output: Option<&Value>) -> String {
    match raw_output {
        Some(Value::String(reason)) => reason.clone(),
        Some(Value::Object(fields)) => match fields.get("message") {
            Some(Value::String(reason)) => reason.clone(),
            _ => Value::Object(fields.clone()).to_string(),
        },
        _ => "the agent says that it failed".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::*;

    #[tokio::test]
    async fn calls_beyond_the_bound_are_counted() {
        let metrics = Metrics::default();
        let (events, mut told) = mpsc::channel(1);
        let telling = Telling { events, stop: CancellationToken::new() };
        let mut calls = Calls::new("copilot", std::sync::Arc::default(), metrics.clone());
        let telling = async {
            for number in 0..CALLS_MAX + 3 {
                let call = ToolCall::new(format!("t{number}"), "look");
                assert!(calls.begun(call, &telling).await.is_ok());
            }
            // What is told of one that is known, or isn't, counts no more.
            for id in ["t1", "t10001"] {
                let update = ToolCallUpdate::new(id, ToolCallUpdateFields::new());
                assert!(calls.changed(update, &telling).await.is_ok());
            }
            drop(telling);
        };
        let listening = async {
            let mut count = 0;
            while told.recv().await.is_some() {
                count += 1;
            }
            count
        };
        let ((), count) = tokio::join!(telling, listening);
        assert_eq!(count, CALLS_MAX);
        let line = r#"callpark_agent_calls_left_out_total{model="copilot"} 3"#;
        assert!(metrics.render().lines().any(|l| l == line), "{}", metrics.render());
    }
}

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

/// Events of one call that wait to be read.
const EVENTS_MAX: usize = 16;
/// Calls of one turn that are remembered. Those beyond aren't told of.
const CALLS_MAX: usize = 10_000;

/// What stands before output that doesn't continue what was told before. Then all of it is told.
const REWRITTEN: &str = "\n--- the agent has replaced its output; all of it follows ---\n";

/// The calls of one turn.
pub(super) struct Calls {
    agent: String,
    /// Callpark's, which the agent may call, too.
    tools: std::sync::Arc<[Tool]>,
    known: HashMap<ToolCallId, Known>,
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
    pub(super) fn new(agent: &str, tools: std::sync::Arc<[Tool]>) -> Self {
        Self { agent: agent.to_owned(), tools, known: HashMap::new() }
    }

    /// The agent has begun to use a tool.
    pub(super) async fn begun(&mut self, call: ToolCall, telling: &Telling) -> Result<(), Halt> {
        self.changed(call.into(), telling).await
    }

    /// It tells more of it.
    pub(super) async fn changed(
        &mut self,
        update: ToolCallUpdate,
        telling: &Telling,
    ) -> Result<(), Halt> {
        let (id, fields) = (update.tool_call_id, update.fields);
        if !self.known.contains_key(&id) {
            if self.known.len() >= CALLS_MAX {
                tracing::warn!(agent = self.agent, "calls of an agent are left out: too many");
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

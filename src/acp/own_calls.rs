//! The calls that an agent makes of its own tools, from its updates about them.
//!
//! Agents announce a call before they know its input, and complete it by later updates. A call is
//! shown once its input is known, it has output, it asks for permission, or it ends, and after
//! [`DETAILS_TIMEOUT`] in any case. Details that arrive later are reported as its progress.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use agent_client_protocol::v1::schema::{
    ContentBlock, ToolCall, ToolCallContent, ToolCallId, ToolCallStatus, ToolCallUpdate,
    ToolCallUpdateFields, ToolKind,
};
use bytes::Bytes;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::call_details::CallDetails;
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
/// The time for which the input of a call is waited for before the call is shown.
const DETAILS_TIMEOUT: Duration = Duration::from_secs(5);

/// The separator in front of output that doesn't continue the previous output.
const REPLACED_OUTPUT: &str = "\n--- the agent has replaced its output; all of it follows ---\n";

/// The calls of one turn.
pub(super) struct OwnCalls {
    agent: String,
    /// The tools of callpark.
    tools: Arc<[Tool]>,
    known: HashMap<ToolCallId, KnownCall>,
    /// The calls that are not shown yet, oldest first.
    pending: Vec<(ToolCallId, Instant)>,
    metrics: Metrics,
    has_left_out: bool,
}

struct KnownCall {
    kind: ToolKind,
    details: CallDetails,
    state: CallState,
}

enum CallState {
    /// Announced, and not shown yet.
    Pending,
    Open(OpenCall),
    Ended,
    /// A call of one of callpark's tools, which callpark shows itself.
    Callparks,
}

struct OpenCall {
    events: mpsc::Sender<OwnCallEvent>,
    /// The output that has been emitted.
    output: String,
}

impl OwnCalls {
    pub(super) fn new(agent: &str, tools: Arc<[Tool]>, metrics: Metrics) -> Self {
        let (agent, known, pending) = (agent.to_owned(), HashMap::new(), Vec::new());
        Self { agent, tools, known, pending, metrics, has_left_out: false }
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
        let (id, mut fields) = (update.tool_call_id, update.fields);
        if !self.known.contains_key(&id) {
            // The call was left out when it began.
            if self.known.len() >= CALLS_MAX {
                return Ok(());
            }
            let (kind, details) = (ToolKind::default(), CallDetails::default());
            self.known.insert(id.clone(), KnownCall { kind, details, state: CallState::Pending });
            self.pending.push((id.clone(), Instant::now() + DETAILS_TIMEOUT));
        }
        let is_callparks = self.is_callparks(&fields);
        let Some(known) = self.known.get_mut(&id) else { return Ok(()) };
        known.kind = fields.kind.unwrap_or(known.kind);
        let change = known.details.merge(&mut fields);
        let output = fields.content.as_deref().map(text);
        let end = match fields.status {
            Some(ToolCallStatus::Completed) => Some(false),
            Some(ToolCallStatus::Failed) => Some(true),
            _ => None,
        };
        match &known.state {
            CallState::Pending if is_callparks => known.state = CallState::Callparks,
            CallState::Pending => {
                let has_output = output.as_ref().is_some_and(|output| !output.is_empty());
                if known.details.has_input() || has_output || end.is_some() {
                    self.open(&id, sink).await?;
                }
            }
            CallState::Open(open) => {
                if let Some(change) = change {
                    let events = open.events.clone();
                    sink.emit_of_call(&events, OwnCallEvent::Details(change)).await?;
                }
            }
            CallState::Ended | CallState::Callparks => {}
        }
        let Some(known) = self.known.get_mut(&id) else { return Ok(()) };
        let CallState::Open(open) = &mut known.state else { return Ok(()) };
        if let Some(output) = output {
            open.emit_output(output, sink).await?;
        }
        let Some(is_error) = end else { return Ok(()) };
        let error_message = match is_error && open.output.is_empty() {
            true => failure_reason(fields.raw_output.as_ref()),
            false => String::new(),
        };
        let result = ToolResult { is_error, error_message, ..ToolResult::default() };
        let ended = OwnCallEvent::Ended(Box::new(result));
        let events = open.events.clone();
        known.state = CallState::Ended;
        sink.emit_of_call(&events, ended).await
    }

    /// Handles the details that a request for permission has about a call. The call is shown, since
    /// the agent has decided on it.
    pub(super) async fn permission_requested(
        &mut self,
        update: &ToolCallUpdate,
        sink: &EventSink,
    ) -> Result<(), TurnAbort> {
        let id = &update.tool_call_id;
        if self.known.contains_key(id) {
            self.update(update.clone(), sink).await?;
            self.open(id, sink).await?;
        }
        Ok(())
    }

    /// Returns the time at which the next call must be shown, or `None` if all are.
    pub(super) fn due_time(&mut self) -> Option<Instant> {
        let known = &self.known;
        self.pending.retain(|(id, _)| {
            known.get(id).is_some_and(|call| matches!(call.state, CallState::Pending))
        });
        self.pending.first().map(|(_, due)| *due)
    }

    /// Shows the calls whose details are not waited for any longer.
    pub(super) async fn open_due(
        &mut self,
        now: Instant,
        sink: &EventSink,
    ) -> Result<(), TurnAbort> {
        let due: Vec<ToolCallId> =
            self.pending.iter().filter(|(_, due)| *due <= now).map(|(id, _)| id.clone()).collect();
        for id in due {
            self.open(&id, sink).await?;
        }
        Ok(())
    }

    /// Shows all calls at the end of the turn.
    pub(super) async fn open_all(&mut self, sink: &EventSink) -> Result<(), TurnAbort> {
        for (id, _) in std::mem::take(&mut self.pending) {
            self.open(&id, sink).await?;
        }
        Ok(())
    }

    /// Shows a call, unless it is shown already.
    async fn open(&mut self, id: &ToolCallId, sink: &EventSink) -> Result<(), TurnAbort> {
        let Some(known) = self.known.get_mut(id) else { return Ok(()) };
        if !matches!(known.state, CallState::Pending) {
            return Ok(());
        }
        let (events, receiver) = mpsc::channel(EVENTS_MAX);
        let call = OwnCall {
            tool: tool_name(&self.agent, known.kind),
            description: known.details.description(),
            arguments: known.details.arguments(),
            events: receiver,
        };
        known.details.set_shown();
        known.state = CallState::Open(OpenCall { events, output: String::new() });
        sink.emit(AgentEvent::OwnCall(call)).await
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
        let is_callparks = known.is_some_and(|known| matches!(known.state, CallState::Callparks));
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
    async fn a_call_whose_input_never_comes_is_shown_in_time() {
        let (events, mut received) = mpsc::channel(4);
        let sink = EventSink { events, stop: CancellationToken::new() };
        let mut calls = OwnCalls::new("copilot", Arc::default(), Metrics::default());
        for id in ["t1", "t2"] {
            assert!(calls.start(ToolCall::new(id, "look"), &sink).await.is_ok());
        }
        assert!(received.try_recv().is_err(), "their input may still come");
        let due = calls.due_time().expect("a time");
        let ended = ToolCallUpdateFields::new().status(ToolCallStatus::Completed);
        assert!(calls.update(ToolCallUpdate::new("t1", ended), &sink).await.is_ok());
        assert!(matches!(received.try_recv(), Ok(Ok(AgentEvent::OwnCall(_)))));
        assert!(calls.open_due(due - Duration::from_millis(1), &sink).await.is_ok());
        assert!(received.try_recv().is_err(), "too early");
        let due = calls.due_time().expect("the time of the second");
        assert!(calls.open_due(due, &sink).await.is_ok());
        let Ok(Ok(AgentEvent::OwnCall(call))) = received.try_recv() else { panic!("not shown") };
        assert_eq!(call.description, "look");
        assert_eq!(calls.due_time(), None);
    }

    #[tokio::test]
    async fn calls_beyond_the_bound_are_counted() {
        let metrics = Metrics::default();
        let (events, mut received) = mpsc::channel(1);
        let sink = EventSink { events, stop: CancellationToken::new() };
        let mut calls = OwnCalls::new("copilot", std::sync::Arc::default(), metrics.clone());
        let sending = async {
            for number in 0..CALLS_MAX + 3 {
                let call = ToolCall::new(format!("t{number}"), "look");
                let call = call.raw_input(serde_json::json!({ "path": "/x" }));
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

//! What a turn does, for people: its text on standard output, everything else on standard error.

use std::collections::BTreeMap;

use callpark_client::v1::{self, SessionEvent, session_event::Payload};

use super::turn::Ended;
use crate::cli::{
    exit::Exit,
    failure::Failure,
    json,
    output::{Out, clean, first_line, tell},
    time::wire_span,
    words,
};

/// What a line shows of a call's arguments, at most, in characters.
const ARGUMENTS_CHARACTERS_MAX: usize = 100;

/// Shows a turn, event by event.
pub(super) struct Show<'o> {
    out: &'o mut Out,
    /// Known from the first event on.
    pub(super) turn_id: String,
    /// The tools of its calls.
    tools: BTreeMap<String, String>,
    /// The text so far doesn't end a line.
    is_open: bool,
    usage: v1::Usage,
}

impl<'o> Show<'o> {
    pub(super) fn new(out: &'o mut Out) -> Self {
        Self {
            out,
            turn_id: String::new(),
            tools: BTreeMap::new(),
            is_open: false,
            usage: v1::Usage::default(),
        }
    }

    /// Shows an event. The last one of the turn says how to exit.
    pub(super) async fn event(&mut self, event: SessionEvent) -> Result<Option<Ended>, Failure> {
        if self.turn_id.is_empty() {
            self.turn_id.clone_from(&event.turn_id);
        }
        if self.out.json {
            self.out.json_line(&event).await?;
        }
        let call_id = event.call_id;
        match event.payload {
            Some(Payload::AssistantDelta(delta)) if !self.out.json => {
                self.is_open = !delta.text.ends_with('\n');
                let text = if self.out.terminal { clean(&delta.text) } else { delta.text };
                self.out.bytes(text.as_bytes()).await?;
            }
            Some(Payload::ToolCallStarted(call)) if !call.tool.is_empty() => {
                if call.state() == v1::State::Running {
                    self.started(&call).await?;
                }
                self.tools.insert(call_id, call.tool);
            }
            Some(Payload::ToolCallParked(parked)) if self.tools.contains_key(&call_id) => {
                let id = parked.background_id;
                self.note(&format!("it takes long and goes on in the background as {id}")).await?;
            }
            Some(Payload::ToolCallFinished(end)) => self.finished(&call_id, &end).await?,
            Some(Payload::TurnRetrying(retry)) => {
                let why = retry.error.unwrap_or_default().message;
                let delay = wire_span(retry.delay.as_ref());
                self.note(&format!("{why}; again in {delay}")).await?;
            }
            Some(Payload::SessionIdle(idle)) => return self.idle(idle).await.map(Some),
            Some(Payload::SessionError(error)) => return self.failed(error).await.map(Some),
            Some(Payload::SessionShutdown(_)) => {
                self.note("the session was closed").await?;
                return Ok(Some(Ended { exit: Exit::Refused, leaves_work: false }));
            }
            _ => {}
        }
        Ok(None)
    }

    async fn started(&mut self, call: &v1::ToolCallStarted) -> Result<(), Failure> {
        let arguments = call.arguments.as_ref().map(json::from_struct);
        let arguments = arguments.map(|arguments| arguments.to_string()).unwrap_or_default();
        let arguments = first_line(&arguments, ARGUMENTS_CHARACTERS_MAX);
        self.note(&format!("{} {arguments}", call.tool)).await
    }

    async fn finished(&mut self, id: &str, end: &v1::ToolCallFinished) -> Result<(), Failure> {
        let Some(tool) = self.tools.remove(id) else { return Ok(()) };
        let state = words::word("STATE_", end.state().as_str_name());
        let why = if end.reason.is_empty() { String::new() } else { format!(": {}", end.reason) };
        self.note(&format!("{tool} {state}{why}")).await
    }

    async fn idle(&mut self, idle: v1::SessionIdle) -> Result<Ended, Failure> {
        self.usage = idle.usage.unwrap_or_default();
        self.end_line().await?;
        let reason = idle.stop_reason();
        if reason != v1::StopReason::EndTurn {
            let reason = words::word("STOP_REASON_", reason.as_str_name());
            self.note(&format!("the turn ended: {}", reason.replace('_', " "))).await?;
        }
        for id in &idle.running_background_ids {
            self.note(&format!("{id} goes on in the background")).await?;
        }
        self.note(&self.cost()).await?;
        let exit = match reason {
            v1::StopReason::Cancelled => Exit::Cancelled,
            _ => Exit::Success,
        };
        Ok(Ended { exit, leaves_work: !idle.running_background_ids.is_empty() })
    }

    async fn failed(&mut self, error: v1::SessionError) -> Result<Ended, Failure> {
        self.note(&format!("the turn failed ({}): {}", error.code, error.message)).await?;
        let leaves_work = !error.unresolved_calls.is_empty();
        for call in error.unresolved_calls {
            self.note(&format!("{} of {} goes on", call.call_id, call.tool)).await?;
        }
        if error.retryable {
            self.note("the same prompt may succeed when it is sent again").await?;
        }
        Ok(Ended { exit: Exit::Failed, leaves_work })
    }

    fn cost(&self) -> String {
        let v1::Usage { input_tokens, output_tokens, requests, cost_usd, .. } = self.usage;
        let cost = if cost_usd > 0.0 { format!(", ${cost_usd:.4}") } else { String::new() };
        format!("{input_tokens} tokens in, {output_tokens} out, {requests} requests{cost}")
    }

    /// A line that isn't the agent's.
    async fn note(&mut self, text: &str) -> Result<(), Failure> {
        self.end_line().await?;
        tell(&format!("callpark: {text}"));
        Ok(())
    }

    async fn end_line(&mut self) -> Result<(), Failure> {
        if std::mem::take(&mut self.is_open) {
            self.out.bytes(b"\n").await?;
        }
        Ok(())
    }
}

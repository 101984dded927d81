//! The events of a turn for people: its text on standard output, everything else on standard error.

use std::collections::BTreeMap;

use callpark_client::v1::{self, SessionEvent, session_event::Payload};

use crate::cli::{
    error::Failure,
    exit::Exit,
    print::{
        json,
        labels::phrase,
        output::{Out, eprint_note},
        text::{count, first_line, sanitize},
        time::format_wire_span,
    },
};

/// The longest part of a call's arguments that a line shows, in characters.
const ARGUMENTS_CHARACTERS_MAX: usize = 100;

/// The end of a turn for the chat.
pub(super) struct TurnEnd {
    pub(super) exit: Exit,
    /// `true` if the turn, or calls of it, continue.
    pub(super) leaves_work: bool,
}

/// Prints a turn, event by event.
pub(super) struct TurnPrinter<'o> {
    out: &'o mut Out,
    /// Empty before the first event.
    pub(super) turn_id: String,
    /// The tools of the unfinished calls, by the ids of the calls.
    tools: BTreeMap<String, String>,
    /// `true` if the printed text does not end with a line break.
    line_is_open: bool,
}

impl<'o> TurnPrinter<'o> {
    pub(super) fn new(out: &'o mut Out) -> Self {
        Self { out, turn_id: String::new(), tools: BTreeMap::new(), line_is_open: false }
    }

    /// Prints an event. Returns the end of the turn with its last event.
    pub(super) async fn event(&mut self, event: SessionEvent) -> Result<Option<TurnEnd>, Failure> {
        if self.turn_id.is_empty() {
            self.turn_id.clone_from(&event.turn_id);
        }
        if self.out.json {
            self.out.json_line(&event).await?;
        }
        let call_id = event.call_id;
        match event.payload {
            Some(Payload::AssistantDelta(delta)) => self.text(delta.text).await?,
            Some(Payload::ToolCallAccepted(call)) => self.call_accepted(call_id, *call).await?,
            Some(Payload::ToolCallParked(parked)) => self.call_parked(&call_id, &parked).await?,
            Some(Payload::ToolCallFinished(end)) => self.call_finished(&call_id, &end).await?,
            Some(Payload::TurnRetrying(retry)) => {
                let error = retry.error.unwrap_or_default().message;
                let delay = format_wire_span(retry.delay.as_ref());
                self.note(&format!("{error}; retrying in {delay}")).await?;
            }
            Some(Payload::SessionIdle(idle)) => return self.idle(idle).await.map(Some),
            Some(Payload::SessionError(error)) => return self.failed(error).await.map(Some),
            Some(Payload::SessionShutdown(_)) => {
                self.note("the session was closed").await?;
                return Ok(Some(TurnEnd { exit: Exit::Refused, leaves_work: false }));
            }
            Some(
                // The deltas before it have its text.
                Payload::AssistantMessage(_)
                | Payload::ReasoningDelta(_)
                // The result of a call goes to the model.
                | Payload::ToolOutput(_)
                | Payload::ToolProgress(_)
                | Payload::ToolCallCancelling(_)
                // The last event has the sum.
                | Payload::UsageReported(_)
                | Payload::TurnStarted(_)
                // The note of its acceptance shows the call.
                | Payload::ToolCallStarted(_)
                | Payload::SessionUpdated(_)
                | Payload::FollowUpScheduled(_)
                | Payload::FollowUpStarted(_)
                | Payload::FollowUpFinished(_),
            )
            | None => {}
        }
        Ok(None)
    }

    async fn text(&mut self, text: String) -> Result<(), Failure> {
        if self.out.json {
            return Ok(());
        }
        self.line_is_open = !text.ends_with('\n');
        let text = if self.out.terminal { sanitize(&text) } else { text };
        self.out.bytes(text.as_bytes()).await
    }

    async fn call_accepted(
        &mut self,
        id: String,
        call: v1::ToolCallAccepted,
    ) -> Result<(), Failure> {
        // The call of the turn itself has no tool.
        if call.tool.is_empty() {
            return Ok(());
        }
        let arguments = call.arguments.as_ref().map(json::from_struct);
        let arguments = arguments.map(|arguments| arguments.to_string()).unwrap_or_default();
        let arguments = first_line(&arguments, ARGUMENTS_CHARACTERS_MAX);
        self.note(&format!("{} {arguments}", call.tool)).await?;
        self.tools.insert(id, call.tool);
        Ok(())
    }

    async fn call_parked(&mut self, id: &str, call: &v1::ToolCallParked) -> Result<(), Failure> {
        let Some(tool) = self.tools.get(id) else { return Ok(()) };
        let background_id = &call.background_id;
        let text =
            format!("{tool} is still running and continues in the background as {background_id}");
        self.note(&text).await
    }

    async fn call_finished(
        &mut self,
        id: &str,
        call: &v1::ToolCallFinished,
    ) -> Result<(), Failure> {
        let Some(tool) = self.tools.remove(id) else { return Ok(()) };
        let state = phrase(call.state());
        let reason =
            if call.reason.is_empty() { String::new() } else { format!(": {}", call.reason) };
        self.note(&format!("{tool} {state}{reason}")).await
    }

    async fn idle(&mut self, idle: v1::SessionIdle) -> Result<TurnEnd, Failure> {
        self.end_line().await?;
        let reason = idle.stop_reason();
        if reason != v1::StopReason::EndTurn {
            self.note(&format!("the turn ended: {}", phrase(reason))).await?;
        }
        for id in &idle.running_background_ids {
            self.note(&format!("{id} continues in the background")).await?;
        }
        if let Some(usage) = usage(&idle.usage.unwrap_or_default()) {
            self.note(&usage).await?;
        }
        let exit = match reason {
            v1::StopReason::Cancelled => Exit::Cancelled,
            v1::StopReason::Unspecified
            | v1::StopReason::EndTurn
            | v1::StopReason::MaxRounds
            | v1::StopReason::MaxTokens
            | v1::StopReason::Refusal => Exit::Success,
        };
        Ok(TurnEnd { exit, leaves_work: !idle.running_background_ids.is_empty() })
    }

    async fn failed(&mut self, error: v1::SessionError) -> Result<TurnEnd, Failure> {
        self.note(&format!("the turn failed ({}): {}", error.code, error.message)).await?;
        let leaves_work = !error.unresolved_calls.is_empty();
        for call in error.unresolved_calls {
            self.note(&format!("{} ({}) is still running", call.tool, call.call_id)).await?;
        }
        if error.retryable {
            self.note("the error may be temporary: send the prompt again").await?;
        }
        Ok(TurnEnd { exit: Exit::Failed, leaves_work })
    }

    /// Prints a line that is not the agent's.
    async fn note(&mut self, text: &str) -> Result<(), Failure> {
        self.end_line().await?;
        eprint_note(text);
        Ok(())
    }

    async fn end_line(&mut self) -> Result<(), Failure> {
        if std::mem::take(&mut self.line_is_open) {
            self.out.bytes(b"\n").await?;
        }
        Ok(())
    }
}

/// Returns the tokens, the requests and the cost of a turn, or `None` if no agent has counted any.
fn usage(usage: &v1::Usage) -> Option<String> {
    let counted = [
        (usage.input_tokens, "input token"),
        (usage.output_tokens, "output token"),
        (usage.requests, "request"),
    ];
    let counted = counted.into_iter().filter(|(number, _)| *number > 0);
    let mut parts: Vec<String> = counted.map(|(number, noun)| count(number, noun)).collect();
    if usage.cost_usd > 0.0 {
        parts.push(format!("${:.4}", usage.cost_usd));
    }
    (!parts.is_empty()).then(|| parts.join(", "))
}

//! The events of a turn for people: its text on standard output, everything else on standard error.

use std::collections::{BTreeMap, BTreeSet};

use callpark_client::v1::{self, SessionEvent, session_event::Payload};

use super::activity::Activity;
use crate::cli::{
    error::Failure,
    exit::Exit,
    print::{
        event, json,
        labels::phrase,
        output::{Out, eprint_note},
        text::{count, first_line, sanitize},
        time::{format_wire_span, from_wire},
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
    /// The name of the agent or the model; empty before the turn starts.
    model: String,
    /// The tools of the unfinished calls, by the ids of the calls.
    tools: BTreeMap<String, String>,
    /// The ids of those that the turn does not wait for any more.
    parked: BTreeSet<String>,
    activity: Activity,
    /// `true` if the printed text does not end with a line break.
    line_is_open: bool,
}

impl<'o> TurnPrinter<'o> {
    pub(super) fn new(out: &'o mut Out) -> Self {
        Self {
            out,
            turn_id: String::new(),
            model: String::new(),
            tools: BTreeMap::new(),
            parked: BTreeSet::new(),
            activity: Activity::new(),
            line_is_open: false,
        }
    }

    /// Returns the id of the turn, or an empty text before its first event. Nothing is shown of its
    /// activity any more.
    pub(super) fn into_turn_id(self) -> String {
        self.turn_id
    }

    /// Returns what the turn is doing, for the time until the next event.
    pub(super) fn activity(&mut self) -> &mut Activity {
        &mut self.activity
    }

    /// Prints an event, and shows what the turn does until the next one. Returns the end of the turn
    /// with its last event.
    pub(super) async fn event(&mut self, event: SessionEvent) -> Result<Option<TurnEnd>, Failure> {
        let pause = match &event.payload {
            Some(Payload::TurnRetrying(retry)) => Some(from_wire(retry.delay.as_ref())),
            _ => None,
        };
        let is_begun = matches!(
            event.payload,
            Some(
                Payload::TurnStarted(_)
                    | Payload::ToolCallAccepted(_)
                    | Payload::ToolCallParked(_)
                    | Payload::ToolCallFinished(_)
                    | Payload::ReasoningDelta(_)
            )
        );
        let end = self.print(event).await?;
        match (end.is_none() && !self.line_is_open && !self.out.json, pause) {
            (true, Some(pause)) => {
                let (waiting, next) = ("waiting to ask again".to_owned(), self.doing());
                self.activity.show_for(pause.unwrap_or_default(), waiting, next);
            }
            (true, None) if is_begun => self.activity.show(self.doing()),
            (true, None) => {}
            (false, _) => self.activity.hide(),
        }
        Ok(end)
    }

    /// Returns what the turn does: it waits for its calls, or for the model.
    fn doing(&self) -> String {
        let awaited = self.tools.iter().filter(|(id, _)| !self.parked.contains(*id));
        let tools: Vec<&str> = awaited.map(|(_, tool)| tool.as_str()).collect();
        match (tools.as_slice(), self.model.as_str()) {
            ([], "") => "thinking".to_owned(),
            ([], model) => format!("{model} is thinking"),
            (tools, _) => format!("running {}", tools.join(", ")),
        }
    }

    async fn print(&mut self, event: SessionEvent) -> Result<Option<TurnEnd>, Failure> {
        if self.turn_id.is_empty() {
            self.turn_id.clone_from(&event.turn_id);
        }
        if self.out.json {
            self.out.json_line(&event).await?;
        }
        if let Some(Payload::TurnStarted(turn)) = &event.payload {
            self.model.clone_from(&turn.model);
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
            Some(Payload::TurnResumed(_)) => {
                self.note("the server was restarted, and goes on with the turn").await?;
            }
            Some(Payload::HistoryCompacted(compaction)) => {
                let left_out = event::compacted(&compaction);
                self.note(&format!("the model's context is full: {left_out}")).await?;
            }
            Some(Payload::SessionIdle(idle)) => return self.idle(idle).await.map(Some),
            Some(Payload::SessionError(error)) => return self.failed(error).await.map(Some),
            Some(Payload::SessionShutdown(_)) => {
                self.note("the session was closed").await?;
                return Ok(Some(TurnEnd { exit: Exit::Refused, leaves_work: false }));
            }
            // The deltas before it have its text.
            Some(Payload::AssistantMessage(message)) => {
                if !message.incomplete_call_ids.is_empty() {
                    self.note(
                        "the model's answer reached its token limit in the middle of a call, which \
                         is not run; see max_output_tokens of the model",
                    )
                    .await?;
                }
            }
            Some(
                Payload::ReasoningDelta(_)
                // The result of a call goes to the model.
                | Payload::ToolOutput(_)
                | Payload::ToolProgress(_)
                | Payload::ToolOutputBlocked(_)
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
        self.activity.hide();
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
        self.parked.insert(id.to_owned());
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
        match idle.usage.unwrap_or_default() {
            // Many agents do not say what they used.
            usage if usage == v1::Usage::default() => {}
            usage => self.note(&usage_text(&usage)).await?,
        }
        let exit = match reason {
            v1::StopReason::Cancelled => Exit::Cancelled,
            v1::StopReason::Unspecified
            | v1::StopReason::EndTurn
            | v1::StopReason::MaxRounds
            | v1::StopReason::MaxTokens
            | v1::StopReason::BudgetUsedUp
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
        self.activity.hide();
        if std::mem::take(&mut self.line_is_open) {
            self.out.bytes(b"\n").await?;
        }
        Ok(())
    }
}

/// Returns the tokens, the requests and the cost of a turn.
fn usage_text(usage: &v1::Usage) -> String {
    let input = count(usage.input_tokens, "input token");
    let output = count(usage.output_tokens, "output token");
    let requests = count(usage.requests, "request");
    let cost = match usage.cost_usd {
        cost if cost > 0.0 => format!(", ${cost:.4}"),
        _ => String::new(),
    };
    format!("{input}, {output}, {requests}{cost}")
}

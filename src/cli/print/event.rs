//! Events of a session, each in one line for people.

use callpark_client::v1::{
    AssistantMessage, HistoryCompacted, Kind, Progress, SessionEvent, SessionShutdown,
    ToolCallAccepted, ToolCallCancelling, ToolCallFinished, ToolOutput, TurnRetrying,
    UsageReported, session_event::Payload, tool_call_finished::Outcome,
};

use super::{
    json,
    labels::{label, phrase},
    output::eprint_note,
    result,
    text::{count, first_line, sanitize},
    time::{format_wire_span, time_of_day},
};

/// The longest part of a text that a line shows, in characters.
const TEXT_CHARACTERS_MAX: usize = 80;

/// Returns the sequence, the time of day, the kind of the event, its call and its details. `show_id`
/// returns an id as the line shows it.
pub(crate) fn line(event: &SessionEvent, show_id: impl Fn(&str) -> String) -> String {
    let (name, details) = match &event.payload {
        Some(payload) => describe(payload, &show_id),
        // A kind that this version does not know.
        None => ("unknown", String::new()),
    };
    let time = time_of_day(event.create_time.as_ref());
    let subject = if event.call_id.is_empty() { &event.turn_id } else { &event.call_id };
    let subject = show_id(subject);
    let line = format!("{:>5}  {time}  {name:<20}  {subject:<13}  {details}", event.sequence);
    sanitize(line.trim_end()).replace('\n', " ")
}

/// Returns the progress of a task: `3/10 files`.
pub(crate) fn progress(progress: &Progress) -> String {
    let done = match progress.total {
        Some(total) => format!("{}/{total}", progress.done),
        None => progress.done.to_string(),
    };
    format!("{done} {}", progress.message).trim_end().to_owned()
}

/// Prints a note that events are missing from the log.
pub(crate) fn eprint_gap(from: i64, to: i64) {
    if from == to {
        eprint_note(&format!("event {from} is no longer in the log"));
    } else {
        eprint_note(&format!("events {from} to {to} are no longer in the log"));
    }
}

/// Returns the name of a payload's field in `SessionEvent`, and its details.
fn describe(payload: &Payload, show_id: &impl Fn(&str) -> String) -> (&'static str, String) {
    match payload {
        Payload::TurnStarted(turn) => ("turn_started", quote(&turn.prompt)),
        Payload::AssistantDelta(delta) => ("assistant_delta", quote(&delta.text)),
        Payload::ReasoningDelta(delta) => ("reasoning_delta", quote(&delta.text)),
        Payload::AssistantMessage(message) => ("assistant_message", said(message)),
        Payload::TurnRetrying(retry) => ("turn_retrying", retrying(retry)),
        Payload::TurnResumed(resumed) => {
            ("turn_resumed", format!("number {}, attempt {}", resumed.resumption, resumed.attempt))
        }
        Payload::HistoryCompacted(compaction) => ("history_compacted", compacted(compaction)),
        Payload::ToolCallAccepted(call) => ("tool_call_accepted", accepted(call)),
        Payload::ToolCallStarted(call) => ("tool_call_started", tool_name(&call.tool, call.kind())),
        Payload::ToolOutput(piece) => ("tool_output", output(piece)),
        Payload::ToolProgress(report) => {
            ("tool_progress", report.progress.as_ref().map(progress).unwrap_or_default())
        }
        Payload::ToolOutputBlocked(blocked) => ("tool_output_blocked", quote(&blocked.cause)),
        Payload::ToolCallParked(call) => (
            "tool_call_parked",
            format!("{} ({})", show_id(&call.background_id), phrase(call.reason())),
        ),
        Payload::ToolCallCancelling(cancel) => ("tool_call_cancelling", cancelling(cancel)),
        Payload::ToolCallFinished(call) => ("tool_call_finished", finished(call)),
        Payload::UsageReported(report) => ("usage_reported", usage(report)),
        Payload::FollowUpScheduled(follow_up) => {
            ("follow_up_scheduled", show_id(&follow_up.background_id))
        }
        Payload::FollowUpStarted(follow_up) => {
            ("follow_up_started", format!("attempt {}", follow_up.delivery_attempt))
        }
        Payload::FollowUpFinished(follow_up) => ("follow_up_finished", label(follow_up.state())),
        Payload::SessionIdle(idle) => ("session_idle", quote(&idle.final_text)),
        Payload::SessionError(error) => {
            ("session_error", format!("{} {}", error.code, quote(&error.message)))
        }
        Payload::SessionUpdated(update) => {
            let paths = update.update_paths.join(", ");
            ("session_updated", format!("{paths} by {}", update.requested_by))
        }
        Payload::SessionShutdown(shutdown) => ("session_shutdown", closed(shutdown)),
    }
}

fn retrying(retry: &TurnRetrying) -> String {
    format!("attempt {} in {}", retry.attempt, format_wire_span(retry.delay.as_ref()))
}

/// Returns what a compaction left out of the requests to a model.
pub(crate) fn compacted(compaction: &HistoryCompacted) -> String {
    let shortened = match compaction.results_shortened {
        0 => String::new(),
        results => format!(", {} shortened", count(results, "result")),
    };
    format!(
        "{} omitted{shortened}, {} of {} bytes remain",
        count(compaction.messages_omitted, "message"),
        compaction.request_bytes_after,
        compaction.request_bytes_before
    )
}

fn accepted(call: &ToolCallAccepted) -> String {
    let arguments = match (&call.arguments, call.arguments_omitted_bytes) {
        (Some(arguments), _) => json::from_struct(arguments).to_string(),
        (None, 0) => String::new(),
        (None, bytes) => format!("({} of arguments omitted)", count(bytes, "byte")),
    };
    let arguments = first_line(&arguments, TEXT_CHARACTERS_MAX);
    let tool = tool_name(&call.tool, call.kind());
    format!("{tool} {arguments}").trim_end().to_owned()
}

/// Returns the name of a tool, or the kind of a call that has none.
fn tool_name(tool: &str, kind: Kind) -> String {
    match tool {
        "" => label(kind),
        tool => tool.to_owned(),
    }
}

fn output(output: &ToolOutput) -> String {
    let stream = label(output.stream());
    let text = quote(&String::from_utf8_lossy(&output.data));
    let dropped = match output.dropped_bytes_before {
        0 => String::new(),
        bytes => format!(" after {}", count(bytes, "dropped byte")),
    };
    format!("{stream} {}{dropped} {text}", count(output.data.len(), "byte"))
}

fn cancelling(cancel: &ToolCallCancelling) -> String {
    let force = if cancel.force { ", by force" } else { "" };
    format!("by {}{force} {}", cancel.requested_by, quote(&cancel.reason))
}

fn finished(call: &ToolCallFinished) -> String {
    let outcome = match &call.outcome {
        Some(Outcome::Result(result)) => result::exit(result),
        Some(Outcome::Error(error)) => error.message.clone(),
        None => String::new(),
    };
    let mut parts = vec![label(call.state()), call.reason.clone(), outcome];
    // The reason of a failure repeats its exit.
    parts.dedup();
    parts.push(format_wire_span(call.elapsed.as_ref()));
    parts.retain(|part| !part.is_empty());
    parts.join(", ")
}

fn usage(report: &UsageReported) -> String {
    let usage = report.usage.unwrap_or_default();
    let input = count(usage.input_tokens, "input token");
    let output = count(usage.output_tokens, "output token");
    format!("{input}, {output} {}", report.model)
}

fn closed(shutdown: &SessionShutdown) -> String {
    let cancelled = count(shutdown.cancelled_tasks, "task");
    format!("{cancelled} cancelled {}", quote(&shutdown.reason))
}

fn said(message: &AssistantMessage) -> String {
    match message.incomplete_call_ids.as_slice() {
        [] => quote(&message.text),
        _ => format!("{} token limit in the middle of a call", quote(&message.text)),
    }
}

/// Returns the beginning of a text in quotes, or an empty text for an empty one.
fn quote(text: &str) -> String {
    match text.trim_end_matches('\n') {
        "" => String::new(),
        text => format!("\"{}\"", first_line(text, TEXT_CHARACTERS_MAX)),
    }
}

#[cfg(test)]
mod tests {
    use callpark_client::v1::{OutputStream, State, ToolProgress, ToolResult, tool_result};

    use super::*;
    use crate::cli::print::text::short_id;

    fn line_of(payload: Payload) -> String {
        let event = SessionEvent {
            sequence: 12,
            call_id: "call-0123456789abcdef".into(),
            payload: Some(payload),
            ..Default::default()
        };
        line(&event, short_id)
    }

    #[test]
    fn output_is_shown_by_its_first_line() {
        let output = ToolOutput {
            stream: OutputStream::Stderr.into(),
            data: b"one\x1b\ntwo\n".to_vec().into(),
            ..Default::default()
        };
        assert_eq!(
            line_of(Payload::ToolOutput(output)),
            "   12    tool_output           call-01234567  stderr 9 bytes \"one\u{fffd}…\""
        );
    }

    #[test]
    fn an_end_has_its_state_and_its_exit() {
        let exit = Some(tool_result::Exit::ExitCode(1));
        let finished = ToolCallFinished {
            state: State::Failed.into(),
            reason: "exit code 1".into(),
            outcome: Some(Outcome::Result(ToolResult { exit, ..Default::default() })),
            ..Default::default()
        };
        let line = line_of(Payload::ToolCallFinished(Box::new(finished)));
        assert!(line.ends_with("failed, exit code 1"), "{line}");
    }

    #[test]
    fn progress_may_have_no_total() {
        let mut report = Progress { done: 3.0, total: Some(10.0), message: "files".into() };
        assert_eq!(progress(&report), "3/10 files");
        report.total = None;
        report.message.clear();
        assert_eq!(progress(&report), "3");
        let line = line_of(Payload::ToolProgress(ToolProgress { progress: None }));
        assert!(line.ends_with("call-01234567"), "{line}");
    }

    #[test]
    fn an_unknown_payload_has_a_line_too() {
        let event = SessionEvent { sequence: 3, ..Default::default() };
        assert_eq!(line(&event, short_id), "    3    unknown");
    }
}

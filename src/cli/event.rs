//! Events of a session in one line for people.

use callpark_client::v1::{
    Progress, SessionEvent, State, ToolCallFinished, ToolCallStarted, ToolOutput,
    session_event::Payload, tool_call_finished::Outcome,
};

use super::{
    ids, json,
    output::{clean, first_line},
    result,
    time::{time_of_day, wire_span},
    words,
};

/// What a line shows of a text, at most, in characters.
const TEXT_CHARACTERS_MAX: usize = 80;

/// Sequence, time of day, what happened, to which call, and what there is to say of it.
pub(crate) fn line(event: &SessionEvent) -> String {
    let (name, details) = match &event.payload {
        Some(payload) => describe(payload),
        None => ("unknown", String::new()),
    };
    let time = time_of_day(event.create_time.as_ref());
    let subject = if event.call_id.is_empty() { &event.turn_id } else { &event.call_id };
    let subject = ids::short(subject);
    let line = format!("{:>5}  {time}  {name:<20}  {subject:<13}  {details}", event.sequence);
    clean(line.trim_end()).replace('\n', " ")
}

/// How far a task has got, in words.
pub(crate) fn progress(progress: &Progress) -> String {
    let counted = match progress.total {
        Some(total) => format!("{}/{total}", progress.done),
        None => progress.done.to_string(),
    };
    format!("{counted} {}", progress.message).trim_end().to_owned()
}

/// The name of a payload, as it stands in `SessionEvent`, and what to say of it.
fn describe(payload: &Payload) -> (&'static str, String) {
    match payload {
        Payload::TurnStarted(turn) => ("turn_started", quote(&turn.prompt)),
        Payload::AssistantDelta(delta) => ("assistant_delta", quote(&delta.text)),
        Payload::ReasoningDelta(delta) => ("reasoning_delta", quote(&delta.text)),
        Payload::AssistantMessage(message) => ("assistant_message", quote(&message.text)),
        Payload::TurnRetrying(retry) => {
            let delay = wire_span(retry.delay.as_ref());
            ("turn_retrying", format!("attempt {} in {delay}", retry.attempt))
        }
        Payload::ToolCallStarted(started) => ("tool_call_started", start(started)),
        Payload::ToolOutput(output) => ("tool_output", piece(output)),
        Payload::ToolProgress(report) => {
            ("tool_progress", report.progress.as_ref().map(progress).unwrap_or_default())
        }
        Payload::ToolCallParked(parked) => {
            let reason = words::word("PARK_REASON_", parked.reason().as_str_name());
            ("tool_call_parked", format!("{} ({})", parked.background_id, reason.replace('_', " ")))
        }
        Payload::ToolCallCancelling(cancel) => {
            let force = if cancel.force { ", by force" } else { "" };
            let by = &cancel.requested_by;
            ("tool_call_cancelling", format!("by {by}{force} {}", quote(&cancel.reason)))
        }
        Payload::ToolCallFinished(finished) => ("tool_call_finished", end(finished)),
        rest => describe_rest(rest),
    }
}

fn describe_rest(payload: &Payload) -> (&'static str, String) {
    match payload {
        Payload::ApprovalRequested(request) => {
            let approval = request.approval.as_ref();
            let message = approval.map(|approval| quote(&approval.message));
            ("approval_requested", message.unwrap_or_default())
        }
        Payload::ApprovalResolved(answer) => {
            let decision = words::word("APPROVAL_DECISION_", answer.decision().as_str_name());
            let reason = quote(&answer.reason);
            ("approval_resolved", format!("{decision} by {} {reason}", answer.resolved_by))
        }
        Payload::UsageReported(report) => {
            let usage = report.usage.unwrap_or_default();
            let text = format!("{} in, {} out", usage.input_tokens, usage.output_tokens);
            ("usage_reported", format!("{text} {}", report.model))
        }
        Payload::FollowUpScheduled(follow_up) => {
            ("follow_up_scheduled", follow_up.background_id.clone())
        }
        Payload::FollowUpStarted(follow_up) => {
            ("follow_up_started", format!("attempt {}", follow_up.delivery_attempt))
        }
        Payload::FollowUpFinished(follow_up) => {
            let state = words::follow_up_state(follow_up.state());
            ("follow_up_finished", state)
        }
        Payload::SessionIdle(idle) => ("session_idle", quote(&idle.final_text)),
        Payload::SessionError(error) => {
            ("session_error", format!("{} {}", error.code, quote(&error.message)))
        }
        Payload::SessionShutdown(shutdown) => {
            let reason = quote(&shutdown.reason);
            ("session_shutdown", format!("{} tasks cancelled {reason}", shutdown.cancelled_tasks))
        }
        // Those that `describe` tells.
        _ => ("unknown", String::new()),
    }
}

fn start(started: &ToolCallStarted) -> String {
    let waits = if started.state() == State::Pending { " (waits for its turn)" } else { "" };
    let arguments = match (&started.arguments, started.arguments_omitted_bytes) {
        (Some(arguments), _) => json::from_struct(arguments).to_string(),
        (None, 0) => String::new(),
        (None, bytes) => format!("({bytes} bytes of arguments)"),
    };
    let arguments = first_line(&arguments, TEXT_CHARACTERS_MAX);
    let tool = match started.tool.as_str() {
        "" => words::kind(started.kind()),
        tool => tool.to_owned(),
    };
    format!("{tool}{waits} {arguments}").trim_end().to_owned()
}

fn piece(output: &ToolOutput) -> String {
    let stream = words::word("OUTPUT_STREAM_", output.stream().as_str_name());
    let text = quote(&String::from_utf8_lossy(&output.data));
    let dropped = match output.dropped_bytes_before {
        0 => String::new(),
        bytes => format!(" after {bytes} dropped bytes"),
    };
    format!("{stream} {} bytes{dropped} {text}", output.data.len())
}

fn end(finished: &ToolCallFinished) -> String {
    let outcome = match &finished.outcome {
        Some(Outcome::Result(result)) => result::exit(result),
        Some(Outcome::Error(error)) => error.message.clone(),
        None => String::new(),
    };
    let state = words::state(finished.state());
    let mut parts = vec![state, finished.reason.clone(), outcome];
    // The reason of a failure is its exit.
    parts.dedup();
    parts.push(wire_span(finished.elapsed.as_ref()));
    parts.retain(|part| !part.is_empty());
    parts.join(", ")
}

/// The beginning of a text in quotes; empty for an empty text.
fn quote(text: &str) -> String {
    match text.trim_end_matches('\n') {
        "" => String::new(),
        text => format!("\"{}\"", first_line(text, TEXT_CHARACTERS_MAX)),
    }
}

#[cfg(test)]
mod tests {
    use callpark_client::v1::{OutputStream, ToolProgress, ToolResult, tool_result};

    use super::*;

    fn told(payload: Payload) -> String {
        let event = SessionEvent {
            sequence: 12,
            call_id: "call-0123456789abcdef".into(),
            payload: Some(payload),
            ..Default::default()
        };
        line(&event)
    }

    #[test]
    fn output_is_shown_by_its_first_line() {
        let output = ToolOutput {
            stream: OutputStream::Stderr.into(),
            data: b"one\x1b\ntwo\n".to_vec().into(),
            ..Default::default()
        };
        assert_eq!(
            told(Payload::ToolOutput(output)),
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
        assert!(
            told(Payload::ToolCallFinished(Box::new(finished))).ends_with("failed, exit code 1")
        );
    }

    #[test]
    fn progress_may_have_no_end() {
        let mut report = Progress { done: 3.0, total: Some(10.0), message: "files".into() };
        assert_eq!(progress(&report), "3/10 files");
        report.total = None;
        report.message.clear();
        assert_eq!(progress(&report), "3");
        let told = told(Payload::ToolProgress(ToolProgress { progress: None }));
        assert!(told.ends_with("call-01234567"), "{told}");
    }

    #[test]
    fn an_unknown_payload_is_a_line_too() {
        let event = SessionEvent { sequence: 3, ..Default::default() };
        assert_eq!(line(&event), "    3    unknown");
    }
}

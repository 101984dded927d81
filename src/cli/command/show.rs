//! `callpark show`: a task or a session in detail.

use callpark_client::v1::{
    FollowUpPolicy, ParkReason, Session, StreamSummary, Task, task::Outcome,
};

use super::Context;
use crate::cli::{
    event,
    exit::Exit,
    failure::Failure,
    ids,
    output::Out,
    result,
    table::pairs,
    time::{moment, wire_span},
    words,
};

/// Show a task or a session in detail
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ShowArgs {
    /// The task or the session
    #[arg(value_name = "ID", value_parser = ids::any)]
    id: String,
}

pub(crate) async fn run(args: ShowArgs, context: &mut Context) -> Result<Exit, Failure> {
    let Context { client, out, .. } = context;
    if args.id.starts_with("ses-") {
        let session = client.sessions().get(args.id).await?;
        if out.json {
            out.document(&session).await?;
        } else {
            print(session_lines(&session), out).await?;
        }
    } else {
        let task = client.tasks().get(args.id).await?;
        if out.json {
            out.document(&task).await?;
        } else {
            print(task_lines(&task), out).await?;
        }
    }
    Ok(Exit::Success)
}

type Lines = Vec<(&'static str, String)>;

/// A line for each value that there is, names in one column.
async fn print(lines: Lines, out: &mut Out) -> Result<(), Failure> {
    let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, value) in lines.into_iter().filter(|(_, value)| !value.is_empty()) {
        out.line(&format!("{name:<width$}  {value}")).await?;
    }
    Ok(())
}

fn task_lines(task: &Task) -> Lines {
    let mut lines = vec![
        ("task", task.background_id.clone()),
        ("call", task.call_id.clone()),
        ("session", task.session_id.clone()),
        ("parent", task.parent_background_id.clone()),
        ("tool", task.tool.clone()),
        ("kind", words::kind(task.kind())),
        ("description", task.description.clone()),
        ("labels", pairs(&task.labels)),
        ("state", words::state(task.state())),
        ("reason", task.reason.clone()),
        ("elapsed", wire_span(task.elapsed.as_ref())),
        ("progress", task.progress.as_ref().map(event::progress).unwrap_or_default()),
        ("created", moment(task.create_time.as_ref())),
        ("started", moment(task.start_time.as_ref())),
        ("parked", parked(task)),
        ("ended", moment(task.end_time.as_ref())),
        ("forgotten", moment(task.expire_time.as_ref())),
        ("budget", wire_span(task.call_budget.as_ref())),
        ("timeout", wire_span(task.execution_timeout.as_ref())),
    ];
    if task.attempt > 1 {
        lines.push(("attempt", task.attempt.to_string()));
    }
    if task.detached {
        lines.push(("kept", "goes on when its session is closed".to_owned()));
    }
    if !matches!(task.follow_up(), FollowUpPolicy::Unspecified | FollowUpPolicy::None) {
        lines.push(("follow-up", words::follow_up_policy(task.follow_up())));
    }
    lines.extend(outcome_lines(task));
    lines
}

fn parked(task: &Task) -> String {
    let time = moment(task.park_time.as_ref());
    match task.park_reason() {
        ParkReason::Unspecified => time,
        reason => {
            let reason = words::word("PARK_REASON_", reason.as_str_name()).replace('_', " ");
            format!("{time} ({reason})")
        }
    }
}

fn outcome_lines(task: &Task) -> Lines {
    let mut lines = Lines::new();
    if let Some(approval) = &task.approval {
        lines.push(("asks", approval.message.clone()));
    }
    if let Some(cancel) = &task.cancellation {
        let reason = if cancel.reason.is_empty() { "" } else { ": " };
        let time = moment(cancel.request_time.as_ref());
        let text = format!("{time}, by {}{reason}{}", cancel.requested_by, cancel.reason);
        lines.push(("cancel", text));
    }
    match &task.outcome {
        Some(Outcome::Result(outcome)) => {
            // The reason of a failure is its exit.
            let exit = result::exit(outcome);
            lines.push(("exit", if exit == task.reason { String::new() } else { exit }));
            lines.push(("error", outcome.error_message.clone()));
        }
        Some(Outcome::Error(error)) => lines.push(("error", error.message.clone())),
        None => {}
    }
    if let Some(output) = &task.output {
        lines.push(("stdout", output.stdout.as_ref().map(bytes).unwrap_or_default()));
        lines.push(("stderr", output.stderr.as_ref().map(bytes).unwrap_or_default()));
    }
    lines
}

fn bytes(stream: &StreamSummary) -> String {
    match stream.dropped_bytes {
        0 => format!("{} bytes", stream.total_bytes),
        dropped => format!("{} bytes, of which {dropped} were dropped", stream.total_bytes),
    }
}

fn session_lines(session: &Session) -> Lines {
    vec![
        ("session", session.session_id.clone()),
        ("description", session.description.clone()),
        ("labels", pairs(&session.labels)),
        ("state", words::session_state(session.state())),
        ("created", moment(session.create_time.as_ref())),
        ("changed", moment(session.update_time.as_ref())),
        ("closed", moment(session.close_time.as_ref())),
        ("tools", session.allowed_tools.join(" ")),
        ("folder", session.working_directory.clone()),
        ("live tasks", format!("{} of {}", session.live_tasks, session.max_live_tasks)),
        ("events", format!("{} to {}", session.first_sequence, session.head_sequence)),
    ]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use callpark_client::v1::{State, ToolResult, tool_result};

    use super::*;
    use crate::cli::time::to_wire;

    fn value(lines: &Lines, name: &str) -> String {
        let found = lines.iter().find(|(line, _)| *line == name);
        found.map(|(_, value)| value.clone()).unwrap_or_default()
    }

    #[test]
    fn a_task_is_told_with_its_end() {
        let exit = Some(tool_result::Exit::Signal(15));
        let task = Task {
            background_id: "bg-1".into(),
            state: State::Cancelled.into(),
            elapsed: Some(to_wire(Duration::from_secs(2))),
            park_reason: ParkReason::BackgroundStart.into(),
            outcome: Some(Outcome::Result(ToolResult { exit, ..Default::default() })),
            ..Default::default()
        };
        let lines = task_lines(&task);
        assert_eq!(value(&lines, "task"), "bg-1");
        assert_eq!(value(&lines, "state"), "cancelled");
        assert_eq!(value(&lines, "exit"), "signal 15");
        assert_eq!(value(&lines, "parked"), " (background start)");
        assert_eq!(value(&lines, "follow-up"), "");
    }

    #[test]
    fn dropped_output_is_told() {
        let stream = StreamSummary { total_bytes: 10, dropped_bytes: 4, ..Default::default() };
        assert_eq!(bytes(&stream), "10 bytes, of which 4 were dropped");
    }
}

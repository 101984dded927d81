//! `callpark show`: a task or a session in detail.

use callpark_client::{
    Client,
    v1::{FollowUpPolicy, ParkReason, Session, StreamSummary, Task, task::Outcome},
};

use super::Context;
use crate::cli::{
    args::ids,
    error::Failure,
    exit::Exit,
    print::{
        event,
        labels::{label, phrase},
        lists::label_pairs,
        output::Out,
        result,
        text::count,
        time::{format_wire_span, relative_time},
    },
};

/// Show a task or a session in detail
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ShowArgs {
    /// Id of the task or the session, the beginning of one, or `last` for the newest task
    #[arg(value_name = "ID", value_parser = ids::session_or_task)]
    id: ids::GivenId,
}

pub(crate) async fn run(args: ShowArgs, context: &mut Context) -> Result<Exit, Failure> {
    let Context { client, out, .. } = context;
    let id = args.id.resolve(client).await?;
    if args.id.is_session() {
        let session = client.sessions().get(id).await?;
        if out.json {
            out.document(&session).await?;
        } else {
            print(session_rows(&session), out).await?;
        }
    } else {
        let task = client.tasks().get(id).await?;
        if out.json {
            out.document(&task).await?;
        } else {
            let shim = shim(&task, client).await;
            print(task_rows(&task, shim), out).await?;
        }
    }
    Ok(Exit::Success)
}

/// The names and values of a task or a session.
type Rows = Vec<(&'static str, String)>;

/// Prints a line for each value that is not empty, with the names in one column.
async fn print(rows: Rows, out: &mut Out) -> Result<(), Failure> {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, value) in rows.into_iter().filter(|(_, value)| !value.is_empty()) {
        match name {
            "state" => out.state(&format!("{name:<width$}  "), &value).await?,
            _ => out.line(&format!("{name:<width$}  {value}")).await?,
        }
    }
    Ok(())
}

/// Returns the owner of the task's process, or an empty text if it is no shim.
async fn shim(task: &Task, client: &Client) -> String {
    if task.shim_pid == 0 {
        return String::new();
    }
    // The version is an extra: without it, the task is shown all the same.
    let shims = client.server_info().await.map(|info| info.shims).unwrap_or_default();
    let shim = shims.iter().find(|shim| shim.pid == task.shim_pid);
    let version = shim.map(|shim| format!(" ({})", shim.version)).unwrap_or_default();
    format!("in shim {}{version}", task.shim_pid)
}

fn task_rows(task: &Task, shim: String) -> Rows {
    let mut rows = vec![
        ("task", task.background_id.clone()),
        ("call", task.call_id.clone()),
        ("session", task.session_id.clone()),
        ("parent", task.parent_background_id.clone()),
        ("tool", task.tool.clone()),
        ("kind", label(task.kind())),
        ("description", task.description.clone()),
        ("labels", label_pairs(&task.labels)),
        ("state", phrase(task.state())),
        ("reason", task.reason.clone()),
        ("process", shim),
        ("elapsed", format_wire_span(task.elapsed.as_ref())),
        ("progress", task.progress.as_ref().map(event::progress).unwrap_or_default()),
        ("created", relative_time(task.create_time.as_ref())),
        ("started", relative_time(task.start_time.as_ref())),
        ("parked", parked(task)),
        ("finished", relative_time(task.end_time.as_ref())),
        ("expires", relative_time(task.expire_time.as_ref())),
        ("budget", format_wire_span(task.call_budget.as_ref())),
        ("timeout", format_wire_span(task.execution_timeout.as_ref())),
    ];
    if task.attempt > 1 {
        rows.push(("attempt", task.attempt.to_string()));
    }
    if task.detached {
        rows.push(("keep", "continues when its session is closed".to_owned()));
    }
    if !matches!(task.follow_up(), FollowUpPolicy::Unspecified | FollowUpPolicy::None) {
        rows.push(("follow-up", label(task.follow_up())));
    }
    rows.extend(outcome_rows(task));
    rows
}

fn parked(task: &Task) -> String {
    let time = relative_time(task.park_time.as_ref());
    match task.park_reason() {
        ParkReason::Unspecified => time,
        reason => format!("{time} ({})", phrase(reason)),
    }
}

fn outcome_rows(task: &Task) -> Rows {
    let mut rows = Rows::new();
    if let Some(cancel) = &task.cancellation {
        let reason = if cancel.reason.is_empty() { "" } else { ": " };
        let time = relative_time(cancel.request_time.as_ref());
        let text = format!("{time}, by {}{reason}{}", cancel.requested_by, cancel.reason);
        rows.push(("cancellation", text));
    }
    match &task.outcome {
        Some(Outcome::Result(outcome)) => {
            // The reason of a failure repeats its exit.
            let exit = result::exit(outcome);
            rows.push(("exit", if exit == task.reason { String::new() } else { exit }));
            rows.push(("error", outcome.error_message.clone()));
        }
        Some(Outcome::Error(error)) => rows.push(("error", error.message.clone())),
        None => {}
    }
    if let Some(output) = &task.output {
        rows.push(("stdout", output.stdout.as_ref().map(bytes).unwrap_or_default()));
        rows.push(("stderr", output.stderr.as_ref().map(bytes).unwrap_or_default()));
    }
    rows
}

fn bytes(stream: &StreamSummary) -> String {
    match stream.dropped_bytes {
        0 => count(stream.total_bytes, "byte"),
        dropped => format!("{}, {dropped} of them dropped", count(stream.total_bytes, "byte")),
    }
}

fn session_rows(session: &Session) -> Rows {
    vec![
        ("session", session.session_id.clone()),
        ("description", session.description.clone()),
        ("labels", label_pairs(&session.labels)),
        ("state", label(session.state())),
        ("created", relative_time(session.create_time.as_ref())),
        ("updated", relative_time(session.update_time.as_ref())),
        ("closed", relative_time(session.close_time.as_ref())),
        ("tools", session.allowed_tools.join(" ")),
        ("working directory", session.working_directory.clone()),
        ("live tasks", format!("{} of {}", session.live_tasks, session.max_live_tasks)),
        ("events", format!("{} to {}", session.first_sequence, session.head_sequence)),
    ]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use callpark_client::v1::{State, ToolResult, tool_result};

    use super::*;
    use crate::cli::args::duration::to_wire;

    fn value(rows: &Rows, name: &str) -> String {
        let found = rows.iter().find(|(line, _)| *line == name);
        found.map(|(_, value)| value.clone()).unwrap_or_default()
    }

    #[test]
    fn a_finished_task_has_its_exit() {
        let exit = Some(tool_result::Exit::Signal(15));
        let task = Task {
            background_id: "bg-1".into(),
            state: State::Cancelled.into(),
            elapsed: Some(to_wire(Duration::from_secs(2))),
            park_reason: ParkReason::BackgroundStart.into(),
            outcome: Some(Outcome::Result(ToolResult { exit, ..Default::default() })),
            ..Default::default()
        };
        let rows = task_rows(&task, String::new());
        assert_eq!(value(&rows, "task"), "bg-1");
        assert_eq!(value(&rows, "state"), "cancelled");
        assert_eq!(value(&rows, "exit"), "signal 15");
        assert_eq!(value(&rows, "parked"), " (background start)");
        assert_eq!(value(&rows, "follow-up"), "");
    }

    #[test]
    fn dropped_output_is_counted() {
        let stream = StreamSummary { total_bytes: 10, dropped_bytes: 4, ..Default::default() };
        assert_eq!(bytes(&stream), "10 bytes, 4 of them dropped");
    }
}

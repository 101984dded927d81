//! Tables of tasks, sessions, follow-ups and tools.

use std::collections::BTreeMap;

use callpark_client::v1::{FollowUp, Session, Shim, State, Task, Tool};

use super::{
    json,
    labels::label,
    table::{Column, Table},
    time::{format_wire_span, relative_time},
};

/// The states of tasks that have not finished.
pub(crate) const LIVE: [State; 3] = [State::Pending, State::Running, State::Cancelling];

/// Returns a table with a line for each task.
pub(crate) fn tasks(tasks: &[Task]) -> Table {
    let mut table = Table::new([
        ("ID", Column::Id),
        ("TOOL", Column::Text),
        ("STATE", Column::State),
        ("ELAPSED", Column::Value),
        ("CREATED", Column::Value),
        ("DESCRIPTION", Column::Text),
    ]);
    for task in tasks {
        table.row([
            task.background_id.clone(),
            tool(task),
            label(task.state()),
            format_wire_span(task.elapsed.as_ref()),
            relative_time(task.create_time.as_ref()),
            description_with_labels(&task.description, &task.labels),
        ]);
    }
    table
}

/// Returns a table with a line for each task, and the shim that owns its process.
pub(crate) fn tasks_with_shims(tasks: &[Task]) -> Table {
    let mut table = Table::new([
        ("ID", Column::Id),
        ("TOOL", Column::Text),
        ("STATE", Column::State),
        ("ELAPSED", Column::Value),
        ("SHIM", Column::Value),
        ("DESCRIPTION", Column::Text),
    ]);
    for task in tasks {
        let shim = task.shim_pid;
        table.row([
            task.background_id.clone(),
            tool(task),
            label(task.state()),
            format_wire_span(task.elapsed.as_ref()),
            if shim == 0 { String::new() } else { shim.to_string() },
            description_with_labels(&task.description, &task.labels),
        ]);
    }
    table
}

/// Returns a table with a line for each shim.
pub(crate) fn shims(shims: &[Shim]) -> Table {
    let mut table = Table::new([
        ("SHIM", Column::Value),
        ("VERSION", Column::Value),
        ("RUNNING CALLS", Column::Value),
        ("SPOOLED BYTES", Column::Value),
    ]);
    for shim in shims {
        table.row([
            shim.pid.to_string(),
            shim.version.clone(),
            shim.running_calls.to_string(),
            shim.spooled_bytes.to_string(),
        ]);
    }
    table
}

/// Returns a table with a line for each session.
pub(crate) fn sessions(sessions: &[Session]) -> Table {
    let mut table = Table::new([
        ("ID", Column::Id),
        ("STATE", Column::State),
        ("LIVE TASKS", Column::Value),
        ("EVENTS", Column::Value),
        ("CREATED", Column::Value),
        ("DESCRIPTION", Column::Text),
    ]);
    for session in sessions {
        table.row([
            session.session_id.clone(),
            label(session.state()),
            session.live_tasks.to_string(),
            session.head_sequence.to_string(),
            relative_time(session.create_time.as_ref()),
            description_with_labels(&session.description, &session.labels),
        ]);
    }
    table
}

/// Returns a table with a line for each follow-up.
pub(crate) fn follow_ups(follow_ups: &[FollowUp]) -> Table {
    let mut table = Table::new([
        ("ID", Column::Id),
        ("TOOL", Column::Text),
        ("STATE", Column::State),
        ("ATTEMPTS", Column::Value),
        ("CREATED", Column::Value),
        ("NEXT", Column::Value),
        ("REASON", Column::Text),
    ]);
    for follow_up in follow_ups {
        table.row([
            follow_up.follow_up_id.clone(),
            follow_up.task.as_ref().map(tool).unwrap_or_default(),
            label(follow_up.state()),
            format!("{} of {}", follow_up.attempt, follow_up.max_attempts),
            relative_time(follow_up.create_time.as_ref()),
            // The next delivery: a planned attempt, or the end of the lease.
            relative_time(
                follow_up.next_attempt_time.as_ref().or(follow_up.lease_expire_time.as_ref()),
            ),
            reason(follow_up),
        ]);
    }
    table
}

/// Returns the reason for a follow-up's state, or else the error of its last attempt.
fn reason(follow_up: &FollowUp) -> String {
    let error = || follow_up.last_error.as_ref().map(|error| error.message.clone());
    match follow_up.reason.as_str() {
        "" => error().unwrap_or_default(),
        reason => reason.to_owned(),
    }
}

/// Returns whether a task has not finished.
pub(crate) fn is_live(task: &Task) -> bool {
    LIVE.contains(&task.state())
}

/// Returns the tool of a task, or its kind if it has none.
pub(crate) fn tool(task: &Task) -> String {
    if task.tool.is_empty() { label(task.kind()) } else { task.tool.clone() }
}

/// Returns a table with a line for each tool.
pub(crate) fn tools(tools: &[Tool]) -> Table {
    let mut table = Table::new([
        ("NAME", Column::Value),
        ("KIND", Column::Value),
        ("BUDGET", Column::Value),
        ("TIMEOUT", Column::Value),
        ("ARGUMENTS", Column::Text),
        ("DESCRIPTION", Column::Text),
    ]);
    for tool in tools {
        let budget = tool.call_budget.as_ref();
        table.row([
            tool.name.clone(),
            label(tool.kind()),
            budget.map_or_else(|| "none".to_owned(), |budget| format_wire_span(Some(budget))),
            format_wire_span(tool.execution_timeout.as_ref()),
            arguments(tool),
            tool.description.clone(),
        ]);
    }
    table
}

/// Returns a description and labels for one cell.
fn description_with_labels(description: &str, labels: &BTreeMap<String, String>) -> String {
    let labels = label_pairs(labels);
    match (description.is_empty(), labels.is_empty()) {
        (_, true) => description.to_owned(),
        (true, false) => format!("[{labels}]"),
        (false, false) => format!("{description} [{labels}]"),
    }
}

/// Returns labels as they are written on the command line.
pub(crate) fn label_pairs(labels: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    pairs.join(" ")
}

/// Returns the names of a tool's arguments: required ones first, then optional ones in brackets.
fn arguments(tool: &Tool) -> String {
    let schema = tool.input_schema.as_ref().map(json::from_struct).unwrap_or_default();
    let required: Vec<&str> = schema["required"]
        .as_array()
        .map(|names| names.iter().filter_map(serde_json::Value::as_str).collect())
        .unwrap_or_default();
    let mut names: Vec<String> = required.iter().map(|&name| name.to_owned()).collect();
    if let Some(properties) = schema["properties"].as_object() {
        let optional = properties.keys().filter(|name| !required.contains(&name.as_str()));
        names.extend(optional.map(|name| format!("[{name}]")));
    }
    names.join(" ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn labels_follow_the_description() {
        let labels = BTreeMap::from([("a".to_owned(), "1".to_owned()), ("b".into(), "2".into())]);
        assert_eq!(description_with_labels("build", &labels), "build [a=1 b=2]");
        assert_eq!(description_with_labels("", &labels), "[a=1 b=2]");
        assert_eq!(description_with_labels("build", &BTreeMap::new()), "build");
    }

    #[test]
    fn a_tool_has_its_arguments() {
        let schema = json!({
            "properties": { "command": {}, "cwd": {}, "env": {} },
            "required": ["command"],
        });
        let input_schema = Some(super::json::to_struct(schema.as_object().unwrap().clone()));
        let tool = Tool { input_schema, ..Default::default() };
        assert_eq!(arguments(&tool), "command [cwd] [env]");
        assert_eq!(arguments(&Tool::default()), "");
    }
}

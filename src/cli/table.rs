//! Tables of tasks, sessions and tools.

use std::collections::BTreeMap;

use callpark_client::v1::{FollowUp, Session, Task, Tool};

use super::{
    output::Table,
    time::{moment, wire_span},
    words,
};

/// A line a task.
pub(crate) fn tasks(tasks: &[Task]) -> Table {
    let mut table = Table::new(["ID", "TOOL", "STATE", "ELAPSED", "CREATED", "DESCRIPTION"]);
    for task in tasks {
        table.row([
            task.background_id.clone(),
            tool(task),
            words::state(task.state()),
            wire_span(task.elapsed.as_ref()),
            moment(task.create_time.as_ref()),
            about(&task.description, &task.labels),
        ]);
    }
    table
}

/// A line a session.
pub(crate) fn sessions(sessions: &[Session]) -> Table {
    let mut table = Table::new(["ID", "STATE", "LIVE", "EVENTS", "CREATED", "DESCRIPTION"]);
    for session in sessions {
        table.row([
            session.session_id.clone(),
            words::session_state(session.state()),
            session.live_tasks.to_string(),
            session.head_sequence.to_string(),
            moment(session.create_time.as_ref()),
            about(&session.description, &session.labels),
        ]);
    }
    table
}

/// A line a follow-up.
pub(crate) fn follow_ups(follow_ups: &[FollowUp]) -> Table {
    let mut table = Table::new(["ID", "TOOL", "STATE", "ATTEMPTS", "CREATED", "NEXT", "WHY"]);
    for follow_up in follow_ups {
        table.row([
            follow_up.follow_up_id.clone(),
            follow_up.task.as_ref().map(tool).unwrap_or_default(),
            words::follow_up_state(follow_up.state()),
            format!("{} of {}", follow_up.attempt, follow_up.max_attempts),
            moment(follow_up.create_time.as_ref()),
            // When it is handed out, as it is or if nobody acknowledges it.
            moment(follow_up.next_attempt_time.as_ref().or(follow_up.lease_expire_time.as_ref())),
            why(follow_up),
        ]);
    }
    table
}

/// Why a follow-up stands where it does: its reason, else what the last attempt failed of.
fn why(follow_up: &FollowUp) -> String {
    let error = || follow_up.last_error.as_ref().map(|error| error.message.clone());
    match follow_up.reason.as_str() {
        "" => error().unwrap_or_default(),
        reason => reason.to_owned(),
    }
}

/// The tool of a task; of one that has none, its kind.
fn tool(task: &Task) -> String {
    if task.tool.is_empty() { words::kind(task.kind()) } else { task.tool.clone() }
}

/// A line a tool.
pub(crate) fn tools(tools: &[Tool]) -> Table {
    let mut table = Table::new(["NAME", "KIND", "BUDGET", "TIMEOUT", "ARGUMENTS", "DESCRIPTION"]);
    for tool in tools {
        let budget = tool.call_budget.as_ref();
        table.row([
            tool.name.clone(),
            words::kind(tool.kind()),
            budget.map_or_else(|| "none".to_owned(), |budget| wire_span(Some(budget))),
            wire_span(tool.execution_timeout.as_ref()),
            arguments(tool),
            tool.description.clone(),
        ]);
    }
    table
}

/// A description and labels in one cell.
fn about(description: &str, labels: &BTreeMap<String, String>) -> String {
    let labels = pairs(labels);
    match (description.is_empty(), labels.is_empty()) {
        (_, true) => description.to_owned(),
        (true, false) => format!("[{labels}]"),
        (false, false) => format!("{description} [{labels}]"),
    }
}

/// Labels as they are written on the command line.
pub(crate) fn pairs(labels: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    pairs.join(" ")
}

/// The names of a tool's arguments, those first that it can't do without, the others in brackets.
fn arguments(tool: &Tool) -> String {
    let schema = tool.input_schema.as_ref().map(super::json::from_struct).unwrap_or_default();
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
    fn labels_stand_behind_the_description() {
        let labels = BTreeMap::from([("a".to_owned(), "1".to_owned()), ("b".into(), "2".into())]);
        assert_eq!(about("build", &labels), "build [a=1 b=2]");
        assert_eq!(about("", &labels), "[a=1 b=2]");
        assert_eq!(about("build", &BTreeMap::new()), "build");
    }

    #[test]
    fn a_tool_shows_what_it_takes() {
        let schema = json!({
            "properties": { "command": {}, "cwd": {}, "env": {} },
            "required": ["command"],
        });
        let input_schema = Some(super::super::json::to_struct(schema.as_object().unwrap().clone()));
        let tool = Tool { input_schema, ..Default::default() };
        assert_eq!(arguments(&tool), "command [cwd] [env]");
        assert_eq!(arguments(&Tool::default()), "");
    }
}

//! The RPCs that the audit log has lines about.

use crate::audit::AuditAction;

/// Returns the action of a method in the audit log, such as `callpark.v1.ToolRunner/RunTool`, or `None` for
/// methods that only read, those of follow-ups, and those that do not exist.
pub(super) fn action(method: &str) -> Option<AuditAction> {
    let action = match method.strip_prefix("callpark.v1.")? {
        "ToolRunner/RunTool"
        | "ToolRunner/StreamTool"
        | "ToolRunner/RunTurn"
        | "ToolRunner/StreamTurn"
        | "ToolRunner/CreateSession"
        | "BackgroundTasks/Start" => AuditAction::Start,
        "ToolRunner/CancelTurn" | "BackgroundTasks/Cancel" => AuditAction::Cancel,
        "ToolRunner/UpdateSession" => AuditAction::Update,
        "ToolRunner/CloseSession" => AuditAction::Close,
        "BackgroundTasks/Delete" => AuditAction::Delete,
        _ => return None,
    };
    Some(action)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Scope;
    use crate::rpc::scopes::required;

    /// A method that needs the scope `run` or `cancel` changes something: a new one cannot be forgotten here.
    #[test]
    fn every_method_that_starts_or_stops_something_is_audited() {
        for method in crate::rpc::methods() {
            let changes = matches!(required(&method), Some(Scope::Run | Scope::Cancel));
            assert_eq!(action(&method).is_some(), changes, "{method}");
        }
        assert_eq!(action("callpark.v1.ToolRunner/NoSuchMethod"), None);
    }

    /// Compares docs/security.md, in which a person decides, with the code.
    #[test]
    fn the_docs_list_the_methods_of_every_action() {
        let text = include_str!("../../docs/security.md");
        let (_, text) = text.split_once("\n## Audit\n").expect("the section");
        for method in crate::rpc::methods() {
            let Some((_, name)) = method.rsplit_once('/') else { continue };
            let Some(action) = action(&method) else { continue };
            let action = serde_json::to_value(action).expect("a name");
            let begin = format!("| `{}` |", action.as_str().expect("a text"));
            let row = text.lines().find(|line| line.starts_with(&begin));
            let row = row.unwrap_or_else(|| panic!("a row for {begin}"));
            assert!(row.contains(&format!("`{name}`")), "{method}: {row}");
        }
    }
}

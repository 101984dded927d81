//! The scope that each RPC requires.

use callpark_proto::v1::ErrorReason;
use tonic::{Code, Status};

use super::status::ErrorStatus;
use crate::auth::Caller;
use crate::model::Scope;
use crate::quota::RequestKind;

/// Returns the scope that a method requires, such as `callpark.v1.ToolRunner/RunTool`. A method that is
/// missing here requires none: GetServerInfo, which says who the caller is, and those that do not exist.
pub(super) fn required(method: &str) -> Option<Scope> {
    let scope = match method.strip_prefix("callpark.v1.")? {
        "ToolRunner/ListTools"
        | "ToolRunner/GetSession"
        | "ToolRunner/ListSessions"
        | "ToolRunner/ListMessages"
        | "ToolRunner/StreamSession"
        | "BackgroundTasks/Get"
        | "BackgroundTasks/List"
        | "BackgroundTasks/Wait"
        | "BackgroundTasks/WaitMany"
        | "BackgroundTasks/ReadOutput"
        | "BackgroundTasks/Watch"
        | "BackgroundTasks/Summarize"
        | "BackgroundTasks/ListFollowUps" => Scope::Read,
        "ToolRunner/RunTool"
        | "ToolRunner/StreamTool"
        | "ToolRunner/CreateSession"
        | "ToolRunner/UpdateSession"
        | "ToolRunner/RunTurn"
        | "ToolRunner/StreamTurn"
        | "BackgroundTasks/Start" => Scope::Run,
        "ToolRunner/CloseSession"
        | "ToolRunner/CancelTurn"
        | "BackgroundTasks/Cancel"
        | "BackgroundTasks/Delete" => Scope::Cancel,
        "BackgroundTasks/LeaseFollowUps"
        | "BackgroundTasks/AcknowledgeFollowUp"
        | "BackgroundTasks/RetryFollowUp" => Scope::FollowUp,
        _ => return None,
    };
    Some(scope)
}

/// Returns the kind of a request for this method, as far as rates are concerned.
pub(super) fn kind(method: &str) -> RequestKind {
    match required(method) {
        Some(Scope::Run) => RequestKind::Start,
        Some(Scope::Read | Scope::Cancel | Scope::FollowUp | Scope::Admin) | None => {
            RequestKind::Other
        }
    }
}

/// Checks that a caller may use a method.
///
/// # Errors
///
/// PERMISSION_DENIED, with the scope that the caller lacks.
pub(super) fn check(caller: &Caller, method: &str) -> Result<(), Status> {
    let Some(scope) = required(method).filter(|scope| !caller.principal.scopes.contains(*scope))
    else {
        return Ok(());
    };
    let scopes = caller.principal.scopes;
    let message = format!(
        "{method} requires the scope `{scope}`, and these credentials have: {scopes}. Use others, or \
         ask the operator of the server for a key with that scope"
    );
    let status = ErrorStatus::new(Code::PermissionDenied, ErrorReason::ScopeMissing, message);
    Err(status.metadata("scope", scope).metadata("method", method).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const WITHOUT: &str = "callpark.v1.ToolRunner/GetServerInfo";

    #[test]
    fn every_method_but_one_requires_a_scope() {
        for method in crate::rpc::methods().iter().filter(|method| method.starts_with("callpark."))
        {
            assert_eq!(required(method).is_none(), method == WITHOUT, "{method}");
        }
        assert_eq!(required("callpark.v1.ToolRunner/NoSuchMethod"), None);
    }

    /// Compares SECURITY.md, in which a person decides, with the code.
    #[test]
    fn security_md_lists_the_scope_of_every_method() {
        let text = include_str!("../../SECURITY.md");
        let listed = |scope: Scope| -> Vec<&str> {
            let row = text.lines().find(|line| line.starts_with(&format!("| `{scope}` |")));
            let row = row.unwrap_or_else(|| panic!("a row for {scope}"));
            let mut names: Vec<_> = row.split('`').skip(3).step_by(2).collect();
            names.sort_unstable();
            names
        };
        for scope in Scope::ALL {
            let methods = crate::rpc::methods();
            let of_scope = methods.iter().filter(|method| required(method) == Some(*scope));
            let mut names: Vec<_> = of_scope
                .filter_map(|method| method.rsplit_once('/'))
                .map(|(_, name)| name)
                .collect();
            names.sort_unstable();
            assert_eq!(listed(*scope), names, "{scope}");
        }
    }
}

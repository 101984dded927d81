//! Answers to an agent that asks for permission to use a tool.

use agent_client_protocol::v1::schema::{
    PermissionOption, PermissionOptionKind, RequestPermissionOutcome, SelectedPermissionOutcome,
    ToolKind,
};

use super::config::Permissions;

/// Returns the name of an agent's own tool of this kind.
pub(super) fn tool_name(agent: &str, kind: ToolKind) -> String {
    let kind = match kind {
        ToolKind::Read => "read",
        ToolKind::Edit => "edit",
        ToolKind::Delete => "delete",
        ToolKind::Move => "move",
        ToolKind::Search => "search",
        ToolKind::Execute => "execute",
        ToolKind::Think => "think",
        ToolKind::Fetch => "fetch",
        ToolKind::SwitchMode => "switch_mode",
        _ => "other",
    };
    format!("{agent}{}{kind}", crate::tool::PROVIDER_SEPARATOR)
}

/// Returns whether an agent may use one of its own tools.
pub(super) fn is_allowed(permissions: Permissions, allowed_tools: &[String], tool: &str) -> bool {
    match permissions {
        Permissions::Allow => {
            allowed_tools.is_empty() || allowed_tools.iter().any(|allowed| allowed == tool)
        }
        Permissions::Reject => false,
    }
}

/// Chooses the option for a decision. Only the kind of an option is significant, not its position or
/// its name.
pub(super) fn choose_option(
    is_allowed: bool,
    options: &[PermissionOption],
) -> RequestPermissionOutcome {
    let kinds = match is_allowed {
        true => [PermissionOptionKind::AllowOnce, PermissionOptionKind::AllowAlways],
        false => [PermissionOptionKind::RejectOnce, PermissionOptionKind::RejectAlways],
    };
    let find = |kind| options.iter().find(|option| option.kind == kind);
    match kinds.into_iter().find_map(find) {
        Some(option) => RequestPermissionOutcome::Selected(SelectedPermissionOutcome::new(
            option.option_id.clone(),
        )),
        None => RequestPermissionOutcome::Cancelled,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(is_allowed: bool, kinds: &[PermissionOptionKind]) -> Option<String> {
        let option = |(position, kind): (usize, &PermissionOptionKind)| {
            PermissionOption::new(position.to_string(), "Yes", *kind)
        };
        let options: Vec<PermissionOption> = kinds.iter().enumerate().map(option).collect();
        match choose_option(is_allowed, &options) {
            RequestPermissionOutcome::Selected(selected) => Some(selected.option_id.to_string()),
            _ => None,
        }
    }

    #[test]
    fn the_narrower_option_of_the_right_kind_is_chosen_at_any_position() {
        use PermissionOptionKind::{AllowAlways, AllowOnce, RejectAlways, RejectOnce};
        let all = [RejectAlways, AllowAlways, RejectOnce, AllowOnce];
        assert_eq!(chosen(true, &all).unwrap(), "3");
        assert_eq!(chosen(false, &all).unwrap(), "2");
        assert_eq!(chosen(true, &[RejectOnce, AllowAlways]).unwrap(), "1");
        assert_eq!(chosen(false, &[AllowOnce, RejectAlways]).unwrap(), "1");
        assert_eq!(chosen(true, &[RejectOnce]), None);
        assert_eq!(chosen(false, &[AllowOnce]), None);
    }

    #[test]
    fn a_tool_is_allowed_by_its_kind() {
        let tool = tool_name("copilot", ToolKind::Execute);
        assert_eq!(tool, "copilot__execute");
        let (these, others) = (["bash".to_owned(), tool.clone()], ["copilot__read".to_owned()]);
        assert!(is_allowed(Permissions::Allow, &[], &tool));
        assert!(is_allowed(Permissions::Allow, &these, &tool));
        assert!(!is_allowed(Permissions::Allow, &others, &tool));
        assert!(!is_allowed(Permissions::Reject, &these, &tool));
    }
}

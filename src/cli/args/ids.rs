//! Ids on the command line.

/// Parses the id of a session.
pub(crate) fn session(text: &str) -> Result<String, String> {
    match text.split_once('-') {
        Some(("ses", _)) => Ok(text.to_owned()),
        _ => Err("must be the id of a session, `ses-` and 32 digits; \
                  list the sessions with `callpark sessions`"
            .to_owned()),
    }
}

/// Parses the id of a task. The id of its call, which has the same digits, is accepted too.
pub(crate) fn task(text: &str) -> Result<String, String> {
    match text.split_once('-') {
        Some(("bg", _)) => Ok(text.to_owned()),
        Some(("call", digits)) => Ok(format!("bg-{digits}")),
        _ => Err("must be the id of a task, `bg-` and 32 digits; \
                  list the tasks with `callpark list`"
            .to_owned()),
    }
}

/// Parses the id of a follow-up. The ids of its task and its call, which have the same digits, are
/// accepted too.
pub(crate) fn follow_up(text: &str) -> Result<String, String> {
    match text.split_once('-') {
        Some(("fu" | "bg" | "call", digits)) => Ok(format!("fu-{digits}")),
        _ => Err("must be the id of a follow-up, `fu-` and 32 digits; \
                  list the follow-ups with `callpark follow-ups`"
            .to_owned()),
    }
}

/// Parses the id of a session or a task.
pub(crate) fn session_or_task(text: &str) -> Result<String, String> {
    session(text).or_else(|_| task(text)).map_err(|_| {
        "must be the id of a task, `bg-` and 32 digits, or of a session, `ses-` and 32 digits"
            .to_owned()
    })
}

/// Returns the id of the task that a call becomes when it is parked, or `None` if the text is not
/// the id of a call.
pub(crate) fn task_of_call(call_id: &str) -> Option<String> {
    task(call_id).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_and_its_task_have_the_same_digits() {
        assert_eq!(task("bg-12").unwrap(), "bg-12");
        assert_eq!(task("call-12").unwrap(), "bg-12");
        assert_eq!(task_of_call(""), None);
        assert!(task("ses-12").unwrap_err().contains("callpark list"));
    }

    #[test]
    fn a_follow_up_has_the_digits_of_its_task() {
        for text in ["fu-12", "bg-12", "call-12"] {
            assert_eq!(follow_up(text).unwrap(), "fu-12");
        }
        assert!(follow_up("ses-12").unwrap_err().contains("callpark follow-ups"));
    }

    #[test]
    fn sessions_and_tasks_are_distinguished() {
        assert_eq!(session_or_task("ses-12").unwrap(), "ses-12");
        assert_eq!(session_or_task("call-12").unwrap(), "bg-12");
        assert!(session_or_task("12").unwrap_err().contains("bg-"));
        assert!(session("bg-12").unwrap_err().contains("callpark sessions"));
    }
}

//! Ids on the command line.

/// Reads the id of a session.
pub(crate) fn session(text: &str) -> Result<String, String> {
    match text.split_once('-') {
        Some(("ses", _)) => Ok(text.to_owned()),
        _ => Err("the id of a session is expected: `ses-` and 32 digits; \
                  `callpark sessions` lists them"
            .to_owned()),
    }
}

/// Reads the id of a task. That of its call will do: they have the same digits.
pub(crate) fn task(text: &str) -> Result<String, String> {
    match text.split_once('-') {
        Some(("bg", _)) => Ok(text.to_owned()),
        Some(("call", digits)) => Ok(format!("bg-{digits}")),
        _ => Err("the id of a task is expected: `bg-` and 32 digits; `callpark list` lists them"
            .to_owned()),
    }
}

/// Reads the id of a follow-up. That of its task or its call will do: they have the same digits.
pub(crate) fn follow_up(text: &str) -> Result<String, String> {
    match text.split_once('-') {
        Some(("fu" | "bg" | "call", digits)) => Ok(format!("fu-{digits}")),
        _ => Err("the id of a follow-up is expected: `fu-` and 32 digits; \
                  `callpark follow-ups` lists them"
            .to_owned()),
    }
}

/// Reads the id of a session or a task.
pub(crate) fn any(text: &str) -> Result<String, String> {
    session(text).or_else(|_| task(text)).map_err(|_| {
        "the id of a task, `bg-` and 32 digits, or of a session, `ses-` and 32 digits, is expected"
            .to_owned()
    })
}

/// The task that a call becomes when it is parked.
pub(crate) fn task_of_call(call_id: &str) -> Option<String> {
    task(call_id).ok()
}

/// The beginning of an id, where the whole would only be in the way.
pub(crate) fn short(id: &str) -> String {
    /// As many as make two ids of one session differ.
    const DIGITS: usize = 8;
    match id.split_once('-') {
        Some((kind, digits)) => {
            format!("{kind}-{}", digits.chars().take(DIGITS).collect::<String>())
        }
        None => id.to_owned(),
    }
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
    fn sessions_and_tasks_are_told_apart() {
        assert_eq!(any("ses-12").unwrap(), "ses-12");
        assert_eq!(any("call-12").unwrap(), "bg-12");
        assert!(any("12").unwrap_err().contains("bg-"));
        assert!(session("bg-12").unwrap_err().contains("callpark sessions"));
    }

    #[test]
    fn a_short_id_keeps_its_kind() {
        assert_eq!(short("call-0123456789abcdef"), "call-01234567");
        assert_eq!(short("odd"), "odd");
    }
}

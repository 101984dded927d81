//! Answers to callers.

use callpark_client::v1::{State, tool_call_finished::Outcome};

use crate::history::{History, Reply};

/// Every caller has its answers, without an error, and each says of the call what the log says.
pub fn agree_with_the_log(history: &History) -> Vec<String> {
    let calls = history.calls_by_mark();
    let mut wrong = Vec::new();
    for (mark, story) in &history.calls {
        wrong.extend(story.errors.iter().map(|error| format!("{mark}: {error}")));
        if story.replies.is_empty() && story.stream.is_none() {
            wrong.push(format!("{mark} was never answered"));
        }
        let known = calls.get(mark.as_str()).and_then(|calls| calls.first()).copied();
        for reply in &story.replies {
            if Some(reply.call_id.as_str()) != known {
                wrong.push(format!("{mark} was answered with {:?}, not {known:?}", reply.call_id));
            }
            wrong.extend(fault(history, reply).map(|fault| format!("{mark}: {fault}")));
        }
    }
    wrong
}

fn fault(history: &History, reply: &Reply) -> Option<String> {
    let Some(end) = history.end_of(&reply.call_id) else {
        return Some("the log has no end of it".into());
    };
    if reply.state.is_some_and(|state| state != end.state()) {
        return Some(format!("returned {:?}, but the log has {:?}", reply.state, end.state()));
    }
    match (&reply.result, &end.outcome) {
        (Some(reply), Some(Outcome::Result(kept))) if reply != kept => {
            Some("returned another result than the log has".into())
        }
        // In the foreground a loss is returned as a failed result.
        (Some(reply), Some(Outcome::Error(_))) if !reply.is_error => {
            Some("returned a result of a call that was lost".into())
        }
        (None, Some(Outcome::Result(_)))
            if reply.state.is_some_and(|state| state != State::Lost) =>
        {
            Some("returned the end without the result".into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::check_finds;
    use super::*;
    use crate::history::Story;

    /// An answer with a result.
    fn reply(history: &mut History) -> &mut Reply {
        let stories = history.calls.values_mut().flat_map(|story| &mut story.replies);
        stories.into_iter().find(|reply| reply.state == Some(State::Succeeded)).expect("a success")
    }

    #[test]
    fn an_answer_that_the_log_contradicts_is_found() {
        check_finds(agree_with_the_log, "but the log has", |history| {
            reply(history).state = Some(State::Cancelled);
        });
        check_finds(agree_with_the_log, "another result", |history| {
            reply(history).result.as_mut().expect("a result").is_error = true;
        });
        check_finds(agree_with_the_log, "without the result", |history| {
            reply(history).result = None;
        });
        check_finds(agree_with_the_log, "was answered with", |history| {
            reply(history).call_id = "call-other".into();
        });
    }

    #[test]
    fn a_caller_that_fails_or_gets_no_answer_is_found() {
        check_finds(agree_with_the_log, "given up", |history| {
            let story = history.calls.values_mut().next().expect("a call");
            story.errors.push("given up".into());
        });
        check_finds(agree_with_the_log, "never answered", |history| {
            history.calls.insert("other".into(), Story::default());
        });
    }
}

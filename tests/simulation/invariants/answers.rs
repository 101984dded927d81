//! What callers are told.

use callpark_client::v1::{State, tool_call_finished::Outcome};

use crate::history::{History, Told};

/// Every caller has its answers, without an error, and each says of the call what the log says.
pub fn are_what_the_log_says(history: &History) -> Vec<String> {
    let calls = history.calls_by_mark();
    let mut wrong = Vec::new();
    for (mark, story) in &history.calls {
        wrong.extend(story.errors.iter().map(|error| format!("{mark}: {error}")));
        if story.told.is_empty() && story.stream.is_none() {
            wrong.push(format!("{mark} was never answered"));
        }
        let known = calls.get(mark.as_str()).and_then(|calls| calls.first()).copied();
        for told in &story.told {
            if Some(told.call_id.as_str()) != known {
                wrong.push(format!("{mark} was told of {:?}, not {known:?}", told.call_id));
            }
            wrong.extend(fault(history, told).map(|fault| format!("{mark}: {fault}")));
        }
    }
    wrong
}

fn fault(history: &History, told: &Told) -> Option<String> {
    let Some(end) = history.end_of(&told.call_id) else {
        return Some("the log has no end of it".into());
    };
    if told.state.is_some_and(|state| state != end.state()) {
        return Some(format!("told {:?}, but the log has {:?}", told.state, end.state()));
    }
    match (&told.result, &end.outcome) {
        (Some(told), Some(Outcome::Result(kept))) if told != kept => {
            Some("told another result than the log has".into())
        }
        // In the foreground a loss is told as a failed result.
        (Some(told), Some(Outcome::Error(_))) if !told.is_error => {
            Some("told a result of a call that was lost".into())
        }
        (None, Some(Outcome::Result(_)))
            if told.state.is_some_and(|state| state != State::Lost) =>
        {
            Some("told the end without the result".into())
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
    fn told(history: &mut History) -> &mut Told {
        let stories = history.calls.values_mut().flat_map(|story| &mut story.told);
        stories.into_iter().find(|told| told.state == Some(State::Succeeded)).expect("a success")
    }

    #[test]
    fn an_answer_that_the_log_contradicts_is_found() {
        check_finds(are_what_the_log_says, "but the log has", |history| {
            told(history).state = Some(State::Cancelled);
        });
        check_finds(are_what_the_log_says, "another result", |history| {
            told(history).result.as_mut().expect("a result").is_error = true;
        });
        check_finds(are_what_the_log_says, "without the result", |history| {
            told(history).result = None;
        });
        check_finds(are_what_the_log_says, "was told of", |history| {
            told(history).call_id = "call-other".into();
        });
    }

    #[test]
    fn a_caller_that_fails_or_hears_nothing_is_found() {
        check_finds(are_what_the_log_says, "given up", |history| {
            let story = history.calls.values_mut().next().expect("a call");
            story.errors.push("given up".into());
        });
        check_finds(are_what_the_log_says, "never answered", |history| {
            history.calls.insert("other".into(), Story::default());
        });
    }
}

//! Effects of requests.

use crate::history::History;

/// However often a request was sent: there is one call of it, and its work began once at most.
pub fn happen_once(history: &History) -> Vec<String> {
    let calls = history.calls_by_mark();
    let mut wrong = Vec::new();
    for mark in history.calls.keys() {
        let of_mark = calls.get(mark.as_str()).map_or(0, Vec::len);
        if of_mark != 1 {
            wrong.push(format!("{mark} has {of_mark} calls"));
        }
    }
    for (mark, effects) in &history.effects {
        if *effects > 1 {
            wrong.push(format!("the work of {mark} began {effects} times"));
        }
        if !calls.contains_key(mark.as_str()) {
            wrong.push(format!("the work of {mark} began, and the log knows nothing of it"));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use callpark_client::v1::session_event::Payload;

    use super::super::sample::check_finds;
    use super::*;

    #[test]
    fn a_call_that_is_missing_or_there_twice_is_found() {
        check_finds(happen_once, "has 2 calls", |history| {
            let is_accepted =
                |payload: &Option<Payload>| matches!(payload, Some(Payload::ToolCallAccepted(_)));
            let accepted = history.log.iter().find(|event| is_accepted(&event.payload));
            let mut again = accepted.expect("a call").clone();
            again.call_id = "call-other".into();
            history.log.push(again);
        });
        check_finds(happen_once, "has 0 calls", |history| history.log.clear());
        check_finds(happen_once, "began 2 times", |history| {
            *history.effects.values_mut().next().expect("an effect") += 1;
        });
        check_finds(happen_once, "knows nothing of it", |history| {
            history.effects.insert("other".into(), 1);
        });
    }
}

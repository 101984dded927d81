//! Ends of calls.

use std::collections::BTreeMap;

use callpark_client::v1::State;
use callpark_client::v1::session_event::Payload;

use crate::history::History;

/// Every call has one terminal event, and it is its last; what has succeeded has been done.
pub fn come_once(history: &History) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut ends: BTreeMap<&str, usize> = BTreeMap::new();
    for event in history.log.iter().filter(|event| !event.call_id.is_empty()) {
        let ended = ends.entry(&event.call_id).or_default();
        if *ended > 0 {
            wrong.push(format!("{} goes on after its end, at {}", event.call_id, event.sequence));
        }
        *ended += usize::from(matches!(event.payload, Some(Payload::ToolCallFinished(_))));
    }
    for (call_id, _) in ends.into_iter().filter(|(_, ended)| *ended == 0) {
        wrong.push(format!("{call_id} has no end"));
    }
    for (mark, calls) in history.calls_by_mark() {
        let states = calls.iter().filter_map(|id| history.end_of(id)).map(|end| end.state());
        let done = history.effects.get(mark).copied().unwrap_or(0);
        if states.into_iter().any(|state| state == State::Succeeded) && done == 0 {
            wrong.push(format!("{mark} has succeeded, and nothing was done"));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::super::sample::check_finds;
    use super::*;

    fn end_at(history: &History) -> usize {
        let is_end = |payload: &Option<Payload>| matches!(payload, Some(Payload::ToolCallFinished(end)) if end.state() == State::Succeeded);
        history.log.iter().position(|event| is_end(&event.payload)).expect("an end")
    }

    #[test]
    fn a_call_without_an_end_or_with_two_is_found() {
        check_finds(come_once, "has no end", |history| {
            let at = end_at(history);
            history.log.remove(at);
        });
        check_finds(come_once, "goes on after its end", |history| {
            let again = history.log[end_at(history)].clone();
            history.log.push(again);
        });
    }

    #[test]
    fn a_success_without_work_is_found() {
        check_finds(come_once, "nothing was done", |history| history.effects.clear());
    }
}

//! The log by itself.

use callpark_client::v1::session_event::Payload;

use crate::history::History;

/// The sequences are 1 to the head, and the last event is the one shutdown.
pub fn has_no_gap(history: &History) -> Vec<String> {
    let mut wrong = Vec::new();
    let sequences: Vec<i64> = history.log.iter().map(|event| event.sequence).collect();
    if sequences != (1..=history.head).collect::<Vec<_>>() {
        wrong.push(format!("head {}, and these sequences: {sequences:?}", history.head));
    }
    let is_shutdown =
        |payload: &Option<Payload>| matches!(payload, Some(Payload::SessionShutdown(_)));
    let shutdowns = history.log.iter().filter(|event| is_shutdown(&event.payload));
    let shutdowns: Vec<i64> = shutdowns.map(|event| event.sequence).collect();
    if shutdowns != [history.head] {
        wrong.push(format!("head {}, and shutdowns at {shutdowns:?}", history.head));
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::super::sample::check_finds;
    use super::*;

    #[test]
    fn a_gap_a_repetition_and_a_wrong_end_are_found() {
        check_finds(has_no_gap, "these sequences", |history| {
            history.log.remove(3);
        });
        check_finds(has_no_gap, "these sequences", |history| {
            history.log.insert(3, history.log[3].clone());
        });
        check_finds(has_no_gap, "shutdowns at []", |history| {
            history.log.last_mut().expect("an event").payload = None;
        });
    }
}

//! The log and its readers.

use std::collections::BTreeMap;

use super::{End, Event, History, Reading, Violation};
use crate::support::v1::session_event::Payload;

/// The sequences of a session are 1 to its head, each once and in order.
pub fn sequences_have_no_gap(history: &History) -> Vec<Violation> {
    let wrong = history.logs.iter().filter_map(|log| {
        let sequences: Vec<i64> = log.events.iter().map(|event| event.message.sequence).collect();
        let session_id = &log.session.session_id;
        let strays = log.events.iter().filter(|event| event.message.session_id != *session_id);
        let detail = if sequences != (1..=log.head).collect::<Vec<_>>() {
            format!("head {}, and these sequences: {sequences:?}", log.head)
        } else if strays.count() > 0 {
            "an event of another session".into()
        } else {
            return None;
        };
        Some(Violation::new(session_id, detail))
    });
    wrong.collect()
}

/// The shutdown of a session is the last event of its log, and no event is older than the one
/// before it.
pub fn the_shutdown_is_last(history: &History) -> Vec<Violation> {
    let mut wrong = Vec::new();
    for log in &history.logs {
        for pair in log.events.windows(2) {
            let [first, second] = [&pair[0].message, &pair[1].message];
            let subject = format!("{} {}", log.session.session_id, second.sequence);
            if matches!(first.payload, Some(Payload::SessionShutdown(_))) {
                wrong.push(Violation::new(&subject, "follows the end of the log"));
            }
            let times =
                [first, second].map(|event| super::views::moment(event.create_time.as_ref()));
            if times[0] > times[1] {
                wrong.push(Violation::new(subject, "is older than the event before it"));
            }
        }
    }
    wrong
}

/// Every event is delivered as it is in the log, byte for byte.
pub fn delivered_events_never_change(history: &History) -> Vec<Violation> {
    let logs = history.logs_by_session();
    let mut wrong = Vec::new();
    for delivery in &history.deliveries {
        for event in &delivery.events {
            let Event { bytes, message } = event;
            // A log that wasn't read at the end can't be compared with.
            let Some(log) = logs.get(message.session_id.as_str()) else { continue };
            let index = usize::try_from(message.sequence - 1).unwrap_or(usize::MAX);
            let detail = match log.events.get(index) {
                None => "isn't in the log",
                Some(stored) if stored.bytes != *bytes => "has other bytes in the log",
                Some(_) => continue,
            };
            let subject = format!("reader {}, {}", delivery.reader, message.sequence);
            wrong.push(Violation::new(subject, detail));
        }
    }
    wrong
}

/// The sequences that one reader is given increase, over all its streams.
pub fn readers_go_forward(history: &History) -> Vec<Violation> {
    let mut newest = BTreeMap::new();
    let mut wrong = Vec::new();
    for delivery in &history.deliveries {
        for Event { message, .. } in &delivery.events {
            let last = newest.insert(delivery.reader, message.sequence).unwrap_or(0);
            if message.sequence <= last {
                let detail = format!("{} after {last}", message.sequence);
                wrong.push(Violation::new(format!("reader {}", delivery.reader), detail));
            }
        }
    }
    wrong
}

/// A stream of a session gives every event after the sequence that it was asked to begin behind,
/// and says that it has caught up only when it has.
pub fn readers_miss_nothing(history: &History) -> Vec<Violation> {
    let mut wrong = Vec::new();
    for delivery in &history.deliveries {
        let (Reading::Follow(after) | Reading::Replay(after)) = delivery.kind else { continue };
        let given = delivery.events.iter().map(|event| event.message.sequence);
        let given: Vec<i64> = given.collect();
        let count = i64::try_from(given.len()).unwrap_or(i64::MAX);
        let subject = format!("reader {}", delivery.reader);
        if given != (after + 1..=after + count).collect::<Vec<_>>() {
            wrong.push(Violation::new(&subject, format!("{given:?} behind {after}")));
        }
        if delivery.caught_up.is_some_and(|head| head > after + count) {
            wrong.push(Violation::new(subject, "got a wrong position"));
        }
    }
    wrong
}

/// A stream ends OK only after its end: a followed session's shutdown, the head of a replay, the
/// end or the parking of a call.
pub fn streams_end_ok_after_their_end(history: &History) -> Vec<Violation> {
    let ended_ok = history.deliveries.iter().filter(|delivery| delivery.end == End::Ok);
    let early = ended_ok.filter(|delivery| {
        let last = delivery.events.last().and_then(|event| event.message.payload.as_ref());
        let is_shutdown = matches!(last, Some(Payload::SessionShutdown(_)));
        match delivery.kind {
            Reading::Replay(_) => delivery.caught_up.is_none(),
            // A resumed stream may begin behind the last event.
            Reading::Follow(after) if delivery.events.is_empty() => {
                !is_shut_down(history, &delivery.session_id, after)
            }
            Reading::Follow(_) => !is_shutdown,
            Reading::Call => {
                !matches!(last, Some(Payload::ToolCallFinished(_) | Payload::ToolCallParked(_)))
            }
        }
    });
    let violation = |delivery: &super::Delivery| {
        let detail = format!("{:?} ended OK early", delivery.kind);
        Violation::new(format!("reader {}", delivery.reader), detail)
    };
    early.map(violation).collect()
}

fn is_shut_down(history: &History, session_id: &str, sequence: i64) -> bool {
    let logs = history.logs_by_session();
    let last = logs.get(session_id).and_then(|log| log.events.last());
    last.is_some_and(|event| {
        event.message.sequence == sequence
            && matches!(event.message.payload, Some(Payload::SessionShutdown(_)))
    })
}

#[cfg(test)]
mod tests {
    use super::super::sample::{change_event, check_fails};
    use super::*;

    #[test]
    fn a_gap_a_repetition_and_a_stray_event_are_found() {
        check_fails(sequences_have_no_gap, "head", |history| {
            history.logs[0].events.remove(2);
        });
        check_fails(sequences_have_no_gap, "head", |history| {
            let again = history.logs[0].events[1].clone();
            history.logs[0].events.insert(1, again);
        });
        check_fails(sequences_have_no_gap, "head", |history| history.logs[0].head += 1);
        check_fails(sequences_have_no_gap, "another session", |history| {
            change_event(history, 1, |event| event.session_id = "ses-other".into());
        });
    }

    #[test]
    fn an_event_behind_the_end_and_one_out_of_time_are_found() {
        check_fails(the_shutdown_is_last, "follows the end", |history| {
            let shutdown = history.logs[0].events.last().expect("a shutdown").clone();
            history.logs[0].events.insert(3, shutdown);
        });
        check_fails(the_shutdown_is_last, "older", |history| {
            change_event(history, 2, |event| event.create_time = Some(Default::default()));
        });
    }

    #[test]
    fn an_event_that_changed_or_was_never_stored_is_found() {
        check_fails(delivered_events_never_change, "other bytes", |history| {
            change_event(history, 2, |event| event.attempt = 7);
        });
        check_fails(delivered_events_never_change, "isn't in the log", |history| {
            let mut more = history.deliveries[0].events[0].clone();
            more.message.sequence = 99;
            history.deliveries[0].events.push(more);
        });
    }

    #[test]
    fn a_reader_that_goes_back_is_found_also_over_a_cut() {
        check_fails(readers_go_forward, "3 after 3", |history| {
            let again = history.deliveries[0].events[2].clone();
            history.deliveries[0].events.insert(3, again);
        });
        check_fails(readers_go_forward, "after", |history| {
            let before = history.deliveries[0].events.last().expect("an event").clone();
            history.deliveries[1].events.insert(0, before);
        });
    }

    #[test]
    fn a_hole_in_what_a_reader_was_given_is_found() {
        check_fails(readers_miss_nothing, "behind 0", |history| {
            history.deliveries[0].events.remove(1);
        });
        check_fails(readers_miss_nothing, "behind", |history| {
            history.deliveries[1].events.remove(0);
        });
        check_fails(readers_miss_nothing, "wrong position", |history| {
            history.deliveries[1].caught_up = Some(99);
        });
    }

    #[test]
    fn a_stream_that_ends_ok_too_early_is_found() {
        check_fails(streams_end_ok_after_their_end, "Follow", |history| {
            history.deliveries[0].end = End::Ok;
        });
        check_fails(streams_end_ok_after_their_end, "Follow", |history| {
            history.deliveries[1].events.clear();
        });
        check_fails(streams_end_ok_after_their_end, "Call", |history| {
            history.deliveries[2].events.pop();
        });
        check_fails(streams_end_ok_after_their_end, "Replay", |history| {
            history.deliveries[3].caught_up = None;
        });
    }
}

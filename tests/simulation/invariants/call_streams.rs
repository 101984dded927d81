//! Streams of calls.

use callpark_client::SessionItem;
use callpark_client::v1::session_event::Payload;

use crate::history::{History, Seen, events};

/// The stream of a call gives the events that the log has of it, each once and in order, up to its
/// end or its parking, and then ends.
pub fn are_whole(history: &History) -> Vec<String> {
    let calls = history.calls_by_mark();
    let mut wrong = Vec::new();
    for (mark, story) in &history.calls {
        let Some(seen) = &story.stream else { continue };
        let known = calls.get(mark.as_str()).and_then(|calls| calls.first());
        let mut expected = history.events_of(known.copied().unwrap_or_default());
        let answered = expected.iter().position(|event| {
            matches!(event.payload, Some(Payload::ToolCallParked(_) | Payload::ToolCallFinished(_)))
        });
        expected.truncate(answered.map_or(0, |last| last + 1));
        let given = events(seen);
        if given != expected {
            let sequences = |events: &[&callpark_client::v1::SessionEvent]| {
                events.iter().map(|event| event.sequence).collect::<Vec<_>>()
            };
            wrong.push(format!(
                "{mark} was given {:?}, not {:?}, or others",
                sequences(&given),
                sequences(&expected)
            ));
        }
        if let Some(last) = Seen::untrue_end(seen.last()) {
            wrong.push(format!("{mark} ended with {last}"));
        }
        for seen in seen {
            if let Seen::Item(item @ (SessionItem::Gap { .. } | SessionItem::EpochChanged { .. })) =
                seen
            {
                wrong.push(format!("{mark} was given {item:?}"));
            }
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::super::sample::check_finds;
    use super::*;

    fn stream(history: &mut History) -> &mut Vec<Seen> {
        let streams = history.calls.values_mut().find_map(|story| story.stream.as_mut());
        streams.expect("a stream")
    }

    #[test]
    fn a_stream_with_a_hole_or_another_end_is_found() {
        let is_event = |seen: &Seen| matches!(seen, Seen::Item(SessionItem::Event(_)));
        check_finds(are_whole, "was given", |history| {
            let at = stream(history).iter().position(is_event).expect("an event");
            stream(history).remove(at);
        });
        check_finds(are_whole, "was given", |history| {
            let last = stream(history).iter().rposition(is_event).expect("an event");
            let again = stream(history)[last].clone();
            stream(history).insert(last, again);
        });
        check_finds(are_whole, "ended with", |history| {
            stream(history).pop();
        });
        check_finds(are_whole, "was given Gap", |history| {
            stream(history).insert(0, Seen::Item(SessionItem::Gap { from: 1, to: 2 }));
        });
    }
}

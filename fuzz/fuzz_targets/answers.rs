//! Answers of models: any bytes, in any pieces, are an answer or an error, and never two different ones.
//!
//! The first byte says how the rest is cut into pieces.

#![no_main]

use callpark::agent::fuzzing::read_answer;
use callpark::agent::{ModelError, ModelEvent};
use libfuzzer_sys::fuzz_target;

/// An answer whose text and reasoning are in one piece, wherever the bytes were cut.
fn joined(read: Result<Vec<ModelEvent>, ModelError>) -> Result<Vec<ModelEvent>, ModelError> {
    let mut joined: Vec<ModelEvent> = Vec::new();
    for event in read? {
        match (joined.last_mut(), event) {
            (Some(ModelEvent::Text(text)), ModelEvent::Text(more))
            | (Some(ModelEvent::Reasoning(text)), ModelEvent::Reasoning(more)) => {
                text.push_str(&more);
            }
            (_, event) => joined.push(event),
        }
    }
    Ok(joined)
}

fuzz_target!(|data: &[u8]| {
    let Some((first, body)) = data.split_first() else { return };
    let size = usize::from(*first).max(1);
    let whole = joined(read_answer([body]));
    assert_eq!(joined(read_answer(body.chunks(size))), whole, "in pieces of {size} bytes");
    if let Ok(events) = whole {
        let Some(ModelEvent::Finished(answer)) = events.last() else { panic!("no end: {events:?}") };
        assert!(answer.calls.iter().all(|call| !call.id.is_empty()), "{answer:?}");
        let ends = events.iter().filter(|event| matches!(event, ModelEvent::Finished(_)));
        assert_eq!(ends.count(), 1);
    }
});
